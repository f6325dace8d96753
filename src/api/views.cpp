// See json.h: every view but the flow.
#include "api/json.h"
#include "base/text.h"

namespace casa::api {
namespace {

void optional_text(JsonWriter& out, std::string_view name, const std::string& text) {
  if (!text.empty()) out.field(name, text);
}

void optional_time(JsonWriter& out, std::string_view name, const std::optional<Time>& time) {
  if (time) out.field(name, format_time(*time));
}

template <typename Map>
void write_map(JsonWriter& out, std::string_view name, const Map& map) {
  out.key(name).begin_object();
  for (const auto& [key, value] : map) out.field(key, value);
  out.end_object();
}

void write(JsonWriter& out, const SourceView& source) {
  out.begin_object().field("kind", source.kind).field("location", source.location);
  optional_text(out, "problem", source.problem);
  out.field("documents", source.documents).field("objects", source.objects).field("badDocuments", source.bad_documents);
  optional_time(out, "lastChange", source.last_change);
  optional_time(out, "lastContact", source.last_contact);
  if (!source.resources.empty()) out.key("resources").begin_array();
  for (const auto& resource : source.resources) {
    out.begin_object().field("name", resource.name).field("state", resource.state).field("objects", resource.objects);
    optional_text(out, "problem", resource.problem);
    out.end_object();
  }
  if (!source.resources.empty()) out.end_array();
  out.end_object();
}

}  // namespace

void write_strings(JsonWriter& out, std::string_view name, const std::vector<std::string>& values) {
  out.key(name).begin_array();
  for (const auto& value : values) out.value(value);
  out.end_array();
}

void write(JsonWriter& out, const StatusView& status) {
  out.begin_object()
      .field("version", status.version)
      .field("started", format_time(status.started))
      .field("ready", status.ready)
      .field("phase", status.phase);
  write_strings(out, "problems", status.problems);
  out.field("generation", status.generation);
  optional_time(out, "generationTime", status.generation_time);
  optional_text(out, "policyDigest", status.policy_digest);
  optional_text(out, "cgroupRoot", status.cgroup_root);
  optional_text(out, "bpffs", status.bpffs);
  out.field("adopted", status.adopted).key("sources").begin_array();
  for (const auto& source : status.sources) write(out, source);
  out.end_array();
  write_map(out, "counts", status.counts);
  out.key("maps").begin_array();
  for (const auto& map : status.maps)
    out.begin_object().field("name", map.name).field("used", map.used).field("capacity", map.capacity).end_object();
  out.end_array();
  write_map(out, "features", status.features);
  out.key("enforcementGaps").begin_array();
  for (const auto& gap : status.enforcement_gaps) {
    out.begin_object();
    optional_time(out, "from", gap.from);
    optional_time(out, "until", gap.until);
    out.end_object();
  }
  out.end_array().end_object();
}

void write(JsonWriter& out, const PolicyView& policy) {
  out.begin_object().field("kind", policy.kind).field("namespace", policy.ns).field("name", policy.name);
  optional_text(out, "target", policy.target);
  optional_text(out, "enforcement", policy.enforcement);
  out.field("phase", policy.phase);
  optional_text(out, "message", policy.message);
  optional_time(out, "lastSyncTime", policy.last_sync_time);
  optional_text(out, "origin", policy.origin);
  write_strings(out, "allowedEndpoints", policy.allowed_endpoints);
  write_strings(out, "allowedSources", policy.allowed_sources);
  optional_text(out, "llmEndpoint", policy.llm_endpoint);
  optional_text(out, "tokens", policy.tokens);
  out.end_object();
}

void write(JsonWriter& out, const WorkloadView& workload, const token::Activity& activity) {
  // A workload that nothing was heard of has a coverage too: one of nothing.
  static const token::Scope kNothing;
  auto coverage_of = [](const token::Scope* scope) -> const token::Coverage& {
    return scope == nullptr ? kNothing.coverage : scope->coverage;
  };
  out.begin_object().field("namespace", workload.ns).field("name", workload.name);
  optional_text(out, "kind", workload.kind);
  if (workload.identity != 0) out.field("identity", workload.identity);
  out.field("mode", workload.mode).field("state", workload.state);
  write_strings(out, "policies", workload.policies);
  out.key("instances").begin_array();
  for (const auto& instance : workload.instances) {
    out.begin_object().field("cgroup", instance.cgroup);
    // A 64-bit number does not survive every JSON reader; kernfs ids do pass 2^53 on long-lived hosts.
    if (instance.cgroup_id != 0) out.field("cgroupId", std::to_string(instance.cgroup_id));
    optional_time(out, "since", instance.since);
    write_coverage(out, coverage_of(activity.find_instance(instance.cgroup_id)));
    out.end_object();
  }
  out.end_array();
  write_strings(out, "declaredCgroups", workload.declared_cgroups);
  write_strings(out, "addresses", workload.addresses);
  write_coverage(out, coverage_of(activity.find_workload(workload.ns, workload.name)));
  out.end_object();
}

void write(JsonWriter& out, const EndpointView& endpoint) {
  out.begin_object();
  if (endpoint.fqdn.empty()) out.field("namespace", endpoint.ns).field("name", endpoint.name);
  else out.field("fqdn", endpoint.fqdn);
  out.field("port", endpoint.port).field("protocol", endpoint.protocol).field("state", endpoint.state);
  write_strings(out, "workloads", endpoint.workloads);
  if (!endpoint.pods.empty()) write_strings(out, "pods", endpoint.pods);
  write_strings(out, "addresses", endpoint.addresses);
  write_strings(out, "usedBy", endpoint.used_by);
  if (!endpoint.fqdn.empty()) {
    write_strings(out, "callers", endpoint.callers);
    out.key("resolved").begin_array();
    for (const auto& address : endpoint.resolved) {
      out.begin_object().field("address", address.address);
      write_strings(out, "sources", address.sources);
      out.field("secondsLeft", address.seconds_left);
      optional_text(out, "workload", address.workload);
      out.end_object();
    }
    out.end_array();
    optional_text(out, "lastError", endpoint.last_error);
  }
  out.end_object();
}

void write(JsonWriter& out, const StatsView& stats, const token::Tracker& tracker, Time now) {
  out.begin_object();
  write_map(out, "counters", stats.counters);
  write_map(out, "deniedByReason", stats.denied_by_reason);
  out.key("flows")
      .begin_object()
      .field("stored", stats.flows_stored)
      .field("total", stats.flows_total)
      .field("forgotten", stats.flows_forgotten)
      .end_object();
  write_token_stats(out, tracker, now);
  out.end_object();
}

void write(JsonWriter& out, const ExplainView& explain) {
  out.begin_object().field("verdict", explain.verdict).key("steps").begin_array();
  for (const auto& step : explain.steps) {
    out.begin_object().field("where", step.where).field("verdict", step.verdict);
    optional_text(out, "reason", step.reason);
    optional_text(out, "policy", step.policy);
    optional_text(out, "field", step.field);
    optional_text(out, "text", step.text);
    out.end_object();
  }
  out.end_array();
  write_strings(out, "suggestions", explain.suggestions);
  out.end_object();
}

}  // namespace casa::api

// See metrics.h.
#include "api/metrics.h"

#include <fmt/format.h>

#include <array>
#include <cctype>
#include <iterator>

namespace casa::api {
namespace {

using event::EventClass;
using token::Activity;
using token::Counts;
using token::InstanceScope;

constexpr std::array kShownEvents{EventClass::kIssuance, EventClass::kExchange, EventClass::kIntrospection,
                                  EventClass::kUse};
constexpr const char* kCounter = "counter";
constexpr const char* kGauge = "gauge";

// Of a label's value: backslash, quote and line feed; of a help text, the quote stays.
void append_escaped(std::string& out, std::string_view text, bool quote) {
  for (char c : text) {
    if (c == '\\') out += "\\\\";
    else if (c == '\n') out += "\\n";
    else if (c == '"' && quote) out += "\\\"";
    else out += c;
  }
}

// "eventsLost" is events_lost.
std::string snake_case(std::string_view name) {
  std::string out;
  for (char c : name) {
    bool upper = c >= 'A' && c <= 'Z';
    if (upper) out += '_';
    bool plain = upper || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
    out += plain ? static_cast<char>(std::tolower(static_cast<unsigned char>(c))) : '_';
  }
  return out;
}

std::uint64_t seconds_of(Time time) {
  return static_cast<std::uint64_t>(std::chrono::floor<std::chrono::seconds>(time).time_since_epoch().count());
}

std::uint64_t count_of(const Counts& counts, EventClass event) {
  return counts.events[static_cast<std::size_t>(event)];
}

void write_status(MetricsWriter& out, const StatusView& status) {
  out.family("casad_build_info", kGauge, "Always 1; the version is its label.")
      .sample({{"version", status.version}}, 1);
  out.family("casad_start_time_seconds", kGauge, "When this daemon started, since the epoch.")
      .sample(seconds_of(status.started));
  out.family("casad_ready", kGauge, "Whether the first generation is in the kernel.").sample(status.ready ? 1 : 0);
  out.family("casad_problems", kGauge, "Things that are wrong now: /v1/status names them.")
      .sample(status.problems.size());
  out.family("casad_generation", kGauge, "The generation of the policies in force; 0: none yet.")
      .sample(status.generation);
  out.family("casad_generations_total", kCounter,
             "How often what is in force was made anew from everything, or followed what had changed.");
  for (const auto& [made, times] : status.made) out.sample({{"made", made}}, times);
  out.family("casad_source_up", kGauge, "Whether a source of objects is well: /v1/status says why not.");
  for (const auto& source : status.sources)
    out.sample({{"source", source.kind}, {"location", source.location}}, source.problem.empty() ? 1 : 0);
  out.family("casad_source_last_contact_timestamp_seconds", kGauge,
             "When a server that objects come from last said anything, since the epoch.");
  for (const auto& source : status.sources)
    if (source.last_contact)
      out.sample({{"source", source.kind}, {"location", source.location}}, seconds_of(*source.last_contact));
  out.family("casad_objects", kGauge, "How many there are, by what they are.");
  for (const auto& [kind, count] : status.counts) out.sample({{"kind", kind}}, count);
  out.family("casad_map_entries", kGauge, "Used entries of a kernel map.");
  for (const auto& map : status.maps) out.sample({{"map", map.name}}, map.used);
  out.family("casad_map_capacity", kGauge, "Entries that a kernel map can have.");
  for (const auto& map : status.maps) out.sample({{"map", map.name}}, map.capacity);
  out.family("casad_feature_on", kGauge, "Whether this kernel lets casad use it: /v1/status says why not.");
  for (const auto& [feature, state] : status.features) out.sample({{"feature", feature}}, state == "on" ? 1 : 0);
}

void write_stats(MetricsWriter& out, const StatsView& stats, const store::FlowHistory& flows) {
  for (const auto& [name, value] : stats.counters)
    out.family("casad_kernel_" + snake_case(name) + "_total", kCounter, "Counter " + name + " of /v1/stats.")
        .sample(value);
  out.family("casad_denied_attempts_total", kCounter,
             "Attempts that were denied, or would have been (audit), by reason.");
  for (const auto& [reason, count] : stats.denied_by_reason) out.sample({{"reason", reason}}, count);
  out.family("casad_flows_total", kCounter, "Rows of /v1/flows ever made, by verdict.");
  for (auto verdict : {CASA_ALLOWED, CASA_DENIED, CASA_AUDIT})
    out.sample({{"verdict", event::to_string(verdict)}}, flows.made_by_verdict()[verdict]);
  out.family("casad_flows_stored", kGauge, "Rows of /v1/flows.").sample(flows.size());
  out.family("casad_flows_forgotten_total", kCounter, "Rows of /v1/flows that made room for newer ones.")
      .sample(flows.forgotten());
}

void write_workloads(MetricsWriter& out, const Activity& activity, Time now) {
  out.family("casad_token_events_total", kCounter, "Requests that issue, exchange, introspect or use a token.");
  for (const auto& [key, scope] : activity.workloads())
    for (auto event : kShownEvents)
      out.sample({{"namespace", key.first}, {"workload", key.second}, {"event", event::to_string(event)}},
                 count_of(scope.counts, event));
  auto each = [&](auto&& value) {
    for (const auto& [key, scope] : activity.workloads())
      out.sample({{"namespace", key.first}, {"workload", key.second}}, value(scope.counts));
  };
  out.family("casad_token_events_refused_total", kCounter, "Requests with a token that the kernel stopped.");
  each([](const Counts& c) { return c.refused; });
  out.family("casad_token_events_last_minute", kGauge, "Events of tokens in the last 60 seconds.");
  each([&](const Counts& c) { return c.minute.count(now); });
  out.family("casad_tokens_distinct", kGauge, "Different tokens since the daemon started; beyond 1024 an estimate.");
  each([](const Counts& c) { return c.tokens.count(); });
  out.family("casad_connections_total", kCounter, "Connections of workloads, by what their first bytes are.");
  for (const auto& [key, scope] : activity.workloads())
    for (auto app : {CASA_APP_HTTP1, CASA_APP_HTTP2, CASA_APP_TLS, CASA_APP_OTHER})
      out.sample({{"namespace", key.first}, {"workload", key.second}, {"app", event::to_string(app)}},
                 scope.coverage.connections[app]);
  out.family("casad_connections_unread_total", kCounter,
             "Connections of workloads that are not read (any more), and why.");
  for (const auto& [key, scope] : activity.workloads())
    for (auto why : {CASA_UNREAD_START, CASA_UNREAD_OPAQUE, CASA_UNREAD_TRUNCATED, CASA_UNREAD_AMBIGUOUS})
      out.sample({{"namespace", key.first}, {"workload", key.second}, {"why", event::to_string(why)}},
                 scope.coverage.unread[why]);
}

void write_namespaces(MetricsWriter& out, const Activity& activity, Time now) {
  out.family("casad_namespace_token_events_total", kCounter, "Events of tokens of a namespace's workloads.");
  for (const auto& [ns, counts] : activity.namespaces())
    for (auto event : kShownEvents)
      out.sample({{"namespace", ns}, {"event", event::to_string(event)}}, count_of(counts, event));
  out.family("casad_namespace_token_events_last_minute", kGauge, "Of a namespace's workloads, in the last 60 seconds.");
  for (const auto& [ns, counts] : activity.namespaces()) out.sample({{"namespace", ns}}, counts.minute.count(now));
  out.family("casad_namespace_tokens_distinct", kGauge, "Different tokens of a namespace's workloads.");
  for (const auto& [ns, counts] : activity.namespaces()) out.sample({{"namespace", ns}}, counts.tokens.count());
  out.family("casad_node_token_events_last_minute", kGauge, "Events of tokens on this node in the last 60 seconds.")
      .sample(activity.node().minute.count(now));
  out.family("casad_node_tokens_distinct", kGauge, "Different tokens on this node since the daemon started.")
      .sample(activity.node().tokens.count());
}

// The ones that were heard of last; they stand at the end of the list.
void write_instances(MetricsWriter& out, const Activity& activity, Time now) {
  const auto& all = activity.instances();
  std::size_t hidden = all.size() > kMaxInstances ? all.size() - kMaxInstances : 0;
  auto first = std::next(all.begin(), static_cast<std::ptrdiff_t>(hidden));
  auto each = [&](auto&& show) {
    for (auto it = first; it != all.end(); ++it)
      show(*it, it->path ? *it->path : fmt::format("cgroup {}", it->cgroup_id));
  };
  auto gauge = [&](auto&& value) {
    each([&](const InstanceScope& i, const std::string& name) {
      out.sample({{"namespace", i.workload.first}, {"workload", i.workload.second}, {"instance", name}},
                 value(i.scope.counts));
    });
  };
  out.family("casad_instance_token_events_total", kCounter, "Events of tokens of one instance, by its cgroup.");
  each([&](const InstanceScope& i, const std::string& name) {
    for (auto event : kShownEvents)
      out.sample({{"namespace", i.workload.first},
                  {"workload", i.workload.second},
                  {"instance", name},
                  {"event", event::to_string(event)}},
                 count_of(i.scope.counts, event));
  });
  out.family("casad_instance_token_events_last_minute", kGauge, "Of one instance, in the last 60 seconds.");
  gauge([&](const Counts& c) { return c.minute.count(now); });
  out.family("casad_instance_tokens_distinct", kGauge, "Different tokens of one instance.");
  gauge([](const Counts& c) { return c.tokens.count(); });
  out.family("casad_instances_hidden", kGauge, "Instances that are known and not shown here: there are too many.")
      .sample(hidden);
  out.family("casad_instances_forgotten_total", kCounter, "Instances whose counts made room for others.")
      .sample(activity.instances_forgotten());
  out.family("casad_workloads_without_room_total", kCounter,
             "News of workloads that had no room for counts of their own.")
      .sample(activity.without_room());
}

void write_tokens(MetricsWriter& out, const token::Tracker& tracker) {
  out.family("casad_tokens_stored", kGauge, "Tokens that are remembered.").sample(tracker.ledger().size());
  out.family("casad_tokens_forgotten_total", kCounter, "Tokens that made room for others.")
      .sample(tracker.ledger().forgotten());
  out.family("casad_alerts_total", kCounter, "Findings, recurrences included, by kind.");
  for (std::size_t i = 0; i < token::kAlertKinds; ++i)
    out.sample({{"kind", token::to_string(static_cast<token::AlertKind>(i))}}, tracker.alerts().counts()[i]);
  out.family("casad_alerts_stored", kGauge, "Alerts that are remembered.").sample(tracker.alerts().size());
  out.family("casad_alerts_forgotten_total", kCounter, "Alerts that made room for newer ones.")
      .sample(tracker.alerts().forgotten());
}

}  // namespace

MetricsWriter& MetricsWriter::family(std::string_view name, std::string_view type, std::string_view help) {
  name_ = name;
  out_ += fmt::format("# HELP {} ", name_);
  append_escaped(out_, help, false);
  out_ += fmt::format("\n# TYPE {} {}\n", name_, type);
  return *this;
}

MetricsWriter& MetricsWriter::sample(Labels labels, std::uint64_t value) {
  out_ += name_;
  char separator = '{';
  for (const auto& [name, text] : labels) {
    out_ += separator;
    separator = ',';
    out_ += name;
    out_ += "=\"";
    append_escaped(out_, text, true);
    out_ += '"';
  }
  if (separator == ',') out_ += '}';
  out_ += ' ';
  out_ += std::to_string(value);
  out_ += '\n';
  return *this;
}

std::string write_metrics(const State& state, Time now) {
  MetricsWriter out;
  const auto& tracker = state.tokens();
  write_status(out, state.status());
  write_stats(out, state.stats(), state.flows());
  write_workloads(out, tracker.activity(), now);
  write_namespaces(out, tracker.activity(), now);
  write_instances(out, tracker.activity(), now);
  write_tokens(out, tracker);
  return out.take();
}

}  // namespace casa::api

// What the API shows, taken from the parts at the moment of asking.
#include <fmt/format.h>

#include "app/daemon.h"
#include "casa_version.h"
#include "compile/explain.h"

namespace casa::app {
namespace {

std::string mode_of(const compile::MapImage& image, const identity::Workload& w) {
  auto it = image.subjects.find(w.identity);
  if (it == image.subjects.end()) return "none";
  if (it->second & CASA_SUBJECT_EXEMPT) return "exempt";
  return it->second & CASA_SUBJECT_AUDIT ? "audit" : "enforce";
}

std::string state_of(const compile::MapImage& image, const identity::Workload& w) {
  auto it = image.subjects.find(w.identity);
  if (it == image.subjects.end()) return "known as a peer only: its namespace is not under enforcement";
  if (it->second & CASA_SUBJECT_EXEMPT) return "exempt: casa.io/enforcement is disabled";
  std::string what = it->second & CASA_SUBJECT_INVALID     ? "denied everything: its policy is invalid"
                     : it->second & CASA_SUBJECT_NO_POLICY ? "denied everything: no policy names it"
                                                           : "enforced";
  if (w.instances.empty()) what += w.addresses.empty() ? "; no instance is running" : "; no instance on this node";
  return what;
}

constexpr const char* kStatNames[] = {
#define CASA_STAT_NAME(name, json) json,
    CASA_STATS(CASA_STAT_NAME)
#undef CASA_STAT_NAME
};

}  // namespace

api::StatusView Daemon::status() const {
  api::StatusView view;
  view.version = CASA_VERSION;
  view.started = started_;
  view.ready = attached_;
  view.phase = view.ready && problems_.empty() ? "enforcing" : view.ready || !gaps_.empty() ? "degraded" : "starting";
  for (const auto& [key, problem] : problems_) view.problems.push_back(fmt::format("{}: {}", key, problem));
  view.generation = datapath_->generation();
  view.generation_time = generation_time_;
  if (!digest_ && generation_time_) digest_ = compile::digest(compiled_.image);
  view.policy_digest = digest_.value_or("");
  view.cgroup_root = mount_.root;
  view.bpffs = config_.bpffs;
  view.adopted = datapath_->adopted();
  std::size_t instances = 0;
  for (const auto& [name, w] : snapshot_.workloads) instances += w.instances.size();
  view.sources = source_views();
  view.counts = {{"policies", compiled_.policies.size()},
                 {"workloads", snapshot_.workloads.size()},
                 {"instances", instances},
                 {"services", snapshot_.services.size()},
                 {"namespaces", snapshot_.mas_namespaces.size()}};
  for (const auto& use : datapath_->map_use()) view.maps.push_back({use.name, use.used, use.capacity});
  view.made = {{"anew", times_anew_}, {"followed", times_followed_}};
  view.features = datapath_->features();
  view.enforcement_gaps = gaps_;
  return view;
}

std::vector<api::PolicyView> Daemon::policies() const {
  std::vector<api::PolicyView> views;
  auto states = name_states();
  for (const auto& report : compiled_.policies) {
    views.push_back({report.kind, report.name.ns, report.name.name, report.target, report.enforcement,
                     compile::to_string(report.phase), report.message, generation_time_, report.origin,
                     report.allowed_endpoints, report.allowed_sources, report.llm_endpoint, report.tokens});
    auto state = states.find(report.llm_endpoint.substr(0, report.llm_endpoint.rfind(':')));
    if (state != states.end() && !state->second.starts_with("is "))
      views.back().message += fmt::format("; llmEndpoint {} {}", state->first, state->second);
  }
  std::ranges::sort(views, [](const auto& a, const auto& b) {
    return std::tie(a.ns, a.name, a.kind) < std::tie(b.ns, b.name, b.kind);
  });
  return views;
}

std::vector<api::WorkloadView> Daemon::workloads() const {
  std::vector<api::WorkloadView> views;
  for (const auto& [name, w] : snapshot_.workloads) {
    api::WorkloadView view{
        name.ns, name.name, w.kind, w.identity, mode_of(compiled_.image, w), state_of(compiled_.image, w),
        {},      {},        {},     {}};
    if (auto it = compiled_.policies_of.find(name); it != compiled_.policies_of.end()) view.policies = it->second;
    for (const auto& instance : w.instances) view.instances.push_back({instance.path, instance.id, instance.since});
    for (const auto& place : w.declared)
      view.declared_cgroups.push_back(place.is_template ? place.path + "*.service" : place.path);
    for (const auto& ip : w.addresses) view.addresses.push_back(to_string(ip));
    views.push_back(std::move(view));
  }
  return views;
}

// Which Pods have the addresses of endpoints, by the address as it is written before a port.
std::map<std::string, std::string> Daemon::pods_of_endpoints() const {
  std::map<std::string, std::string> pods;
  for (const auto& report : compiled_.endpoints) {
    for (const auto& address : report.addresses) {
      std::string text = address.substr(0, address.rfind(':'));
      auto [pod_name, fresh] = pods.try_emplace(text);
      if (!fresh) continue;
      if (text.starts_with('[')) text = text.substr(1, text.size() - 2);
      auto ip = parse_ip(text);
      if (!ip) continue;
      for (const auto* pod : documents_.objects().pods_at(*ip))
        if (!pod->finished) pod_name->second = pod->meta.ns + "/" + pod->meta.name;
    }
  }
  return pods;
}

std::vector<api::EndpointView> Daemon::endpoints() const {
  std::vector<api::EndpointView> views;
  views.reserve(compiled_.endpoints.size());
  auto pods = pods_of_endpoints();
  for (const auto& report : compiled_.endpoints) {
    views.push_back({report.name.ns,
                     report.name.name,
                     report.port,
                     report.protocol == policy::Protocol::kTcp ? "tcp" : "udp",
                     report.state,
                     report.workloads,
                     report.addresses,
                     {report.used_by.begin(), report.used_by.end()},
                     {},
                     {},
                     {},
                     {}});
    for (const auto& address : report.addresses)
      if (const auto& pod = pods[address.substr(0, address.rfind(':'))]; !pod.empty()) views.back().pods.push_back(pod);
  }
  for (auto& view : named_endpoints()) views.push_back(std::move(view));
  return views;
}

api::StatsView Daemon::stats() const {
  api::StatsView view;
  auto values = datapath_->stats();
  for (std::size_t i = 0; i < CASA_STAT_NAMED; ++i) view.counters[kStatNames[i]] = values[i];
  for (std::size_t reason = CASA_REASON_FIRST_DENY; reason < CASA_REASON_COUNT; ++reason)
    if (values[CASA_STAT_REASON_BASE + reason] != 0)
      view.denied_by_reason[event::to_string(static_cast<casa_reason>(reason))] =
          values[CASA_STAT_REASON_BASE + reason];
  view.flows_stored = history_.size();
  view.flows_total = history_.total_added();
  view.flows_forgotten = history_.forgotten();
  return view;
}

Result<api::ExplainView> Daemon::explain(const api::ExplainQuery& query) const {
  TRY_ASSIGN(compile::Explanation answer, compile::explain(compiled_, snapshot_, query.from, query.to, query.protocol,
                                                           name_states(), documents_.objects()));
  api::ExplainView view;
  view.verdict = event::to_string(answer.verdict);
  for (auto& step : answer.steps) {
    bool free = step.decision.verdict == CASA_NO_VERDICT;
    view.steps.push_back({step.where, event::to_string(free ? CASA_ALLOWED : step.decision.verdict),
                          event::to_string(step.decision.reason), step.policy, step.field, step.text});
  }
  view.suggestions = std::move(answer.suggestions);
  return view;
}

std::vector<std::string> Daemon::baseline() const { return compile::baseline(); }

}  // namespace casa::app

// Policies become rows. A row is written once: where two policies of one workload say the same, the first (by name) is
// the one that flows are credited to. There are no deny rows: what no row allows is denied.
#include "compile/compile.h"

#include <fmt/format.h>

#include <algorithm>

#include "compile/dns_names.h"
#include "compile/places.h"
#include "compile/pod_baseline.h"

namespace casa::compile {
namespace {

using identity::Backend;
using identity::NameKind;
using identity::ServiceInfo;
using identity::Snapshot;
using identity::Workload;
using policy::AllowedSource;
using policy::CasaPolicy;
using policy::MultiAgentSystem;
using policy::Protocol;

constexpr std::uint16_t kDnsPort = 53;
constexpr std::uint8_t kV4Bits = 96;  // of an IPv4 address's 128-bit form that say so

std::string text_of(const NamespacedName& name) { return name.ns + "/" + name.name; }

class Compiler {
 public:
  Compiler(const identity::ObjectSet& objects, const Snapshot& snapshot, identity::Allocator& allocator,
           bool audit_node)
      : objects_(objects), snapshot_(snapshot), allocator_(allocator), audit_node_(audit_node) {}

  // All but the addresses, which are many and have nothing to do with any policy.
  Compiled run() {
    collect_prefixes();
    objects_.each<CasaPolicy>([&](const CasaPolicy& p) { casa_policy(p); });
    for (const auto& invalid : objects_.invalid()) invalid_policy(invalid);
    objects_.each<MultiAgentSystem>([&](const MultiAgentSystem& m) { multi_agent_system(m); });
    subjects();
    resolvers();
    cgroups();
    endpoints();
    return std::move(out_);
  }

 private:
  struct Rule {
    std::uint32_t number = 0;
    RuleSource source;
  };

  Rule rule(const NamespacedName& policy, std::string field) {
    return {allocator_.number_of(NameKind::kPolicy, policy.ns, policy.name), {policy, std::move(field)}};
  }

  void allow(std::uint32_t subject, std::uint32_t peer, casa_direction direction, std::uint8_t protocol,
             std::uint16_t port, casa_reason reason, const Rule& r) {
    PolicyKey key{subject, peer, direction, protocol, port};
    if (!out_.image.policy.try_emplace(key, CASA_POLICY_PAYLOAD(reason, r.number)).second) return;
    out_.sources.emplace(key, r.source);
    // The mark that tells "this peer, but not this port" from "not this peer".
    out_.image.policy.try_emplace({subject, peer, direction, 0, 0}, CASA_POLICY_PAYLOAD(CASA_REASON_NONE, r.number));
  }

  // One permission at both ends. `target` is the port that the peer listens on.
  void allow_pair(std::uint32_t subject, const Backend& backend, std::uint16_t target, Protocol protocol,
                  casa_reason reason, const Rule& r) {
    auto proto = static_cast<std::uint8_t>(protocol);
    allow(subject, backend.identity, CASA_EGRESS, proto, target, reason, r);
    allow(subject, CASA_ID_NOBODY, CASA_EGRESS, proto, target, CASA_REASON_CONNECTION_REFUSED, r);
    if (backend.workload.name.empty()) return;
    allow(backend.identity, subject, CASA_INGRESS, proto, target, reason, r);
    // A caller that uses its node's network comes with the node's address: its own rules, at its end, say that it may call.
    auto caller = workloads_by_id_.find(subject);
    if (caller == workloads_by_id_.end()) return;
    for (auto identity : caller->second->host_identities)
      allow(backend.identity, identity, CASA_INGRESS, proto, target, reason, r);
  }

  // Returns what is wrong, or empty.
  std::string allow_service(std::uint32_t subject, const NamespacedName& name, std::uint16_t port, casa_reason reason,
                            const Rule& r, const std::string& user) {
    const ServiceInfo& service = snapshot_.services.at(name);
    std::string where = fmt::format("{}:{}", text_of(name), port);
    EndpointReport& report = report_of(service, port);
    report.used_by.insert(user);
    if (service.implicit) {
      const Workload& w = snapshot_.workloads.at(name);
      allow_pair(subject, {w.identity, w.name, {}, port}, port, Protocol::kTcp, reason, r);
      if (w.instances.empty() && w.addresses.empty()) return fmt::format("endpoint {} has no running instance", where);
      return {};
    }
    need_service(out_.image, snapshot_.dns, subject, namespace_of(subject), service);
    if (!service.problem.empty()) return fmt::format("endpoint {} {}", where, service.problem);
    bool found = false, any = false;
    for (const auto& p : service.ports) {
      if (p.port != port) continue;
      found = true;
      for (const auto& backend : p.backends) {
        allow_pair(subject, backend, backend.port, p.protocol, reason, r);
        any = true;
      }
      if (service.cluster_ips.empty()) continue;
      allow(subject, service.identity, CASA_EGRESS, static_cast<std::uint8_t>(p.protocol), port, reason, r);
      // Whoever else is behind the port would see what lets a call in again that comes back to its Pod.
      bool own = std::ranges::all_of(p.backends, [&](const Backend& b) { return b.identity == subject; });
      if (own && !p.backends.empty() && p.protocol == Protocol::kTcp)
        out_.image.policy.try_emplace({subject, service.identity, CASA_INGRESS, 0, port},
                                      CASA_POLICY_PAYLOAD(CASA_REASON_NONE, r.number));
    }
    if (!found) return fmt::format("endpoint {} names a port that the Service does not have", where);
    if (!any) return fmt::format("endpoint {} has no addresses", where);
    return {};
  }

  EndpointReport& report_of(const ServiceInfo& service, std::uint16_t port) {
    auto [it, fresh] = endpoint_reports_.try_emplace({service.name, port});
    EndpointReport& report = it->second;
    if (!fresh) return report;
    report.name = service.name;
    report.port = port;
    auto add_workload = [&](const NamespacedName& name, std::uint16_t target) {
      report.workloads.push_back(text_of(name));
      for (const auto& ip : snapshot_.workloads.at(name).addresses) report.addresses.push_back(with_port(ip, target));
    };
    if (service.implicit) {
      add_workload(service.name, port);
      report.state = snapshot_.workloads.at(service.name).instances.empty()
                         ? "no such Service; stands for the workload of that name, which is not running"
                         : "resolved";
      return report;
    }
    report.state = service.problem;
    bool found = false;
    for (const auto& p : service.ports) {
      if (p.port != port) continue;
      found = true;
      report.protocol = p.protocol;
      for (const auto& backend : p.backends) {
        if (!backend.workload.name.empty()) add_workload(backend.workload, backend.port);
        else report.addresses.push_back(with_port(backend.address, backend.port));
      }
      for (const auto& ip : service.cluster_ips) report.addresses.push_back(with_port(ip, port));
    }
    if (report.state.empty())
      report.state = !found                                                 ? "the Service has no such port"
                     : report.workloads.empty() && report.addresses.empty() ? "no addresses"
                                                                            : "resolved";
    return report;
  }

  void collect_prefixes() {
    for (const auto& [name, w] : snapshot_.workloads) {
      workloads_by_id_.emplace(w.identity, &w);
    }
    objects_.each<CasaPolicy>([&](const CasaPolicy& p) {
      for (const auto& source : p.allowed_sources)
        if (const auto* prefix = std::get_if<IpPrefix>(&source.from))
          out_.image.prefixes[*prefix] = allocator_.number_of(NameKind::kPrefix, "", to_string(*prefix));
    });
    // In the kernel's table IPv4 lies inside ::/0. A policy that says ::/0 means IPv6: all of IPv4 then is the world again.
    const IpPrefix all_v4 = *parse_prefix("0.0.0.0/0");
    bool covered = std::ranges::any_of(
        out_.image.prefixes, [&](const auto& row) { return row.first.length < kV4Bits && row.first.contains(all_v4); });
    if (covered) out_.image.prefixes.try_emplace(all_v4, CASA_ID_WORLD);
    // What looks like a Pod's address and is none that anybody told of is unknown, unless a policy names that very prefix.
    for (const auto& [prefix, node] : snapshot_.pod_networks) out_.image.prefixes.try_emplace(prefix, CASA_ID_UNKNOWN);
  }

  static bool is_v4(const IpPrefix& prefix) { return prefix.length >= kV4Bits && prefix.address.is_v4(); }

  // A look-up finds the longest prefix only, so a rule for a prefix is written for every longer one inside it too.
  std::vector<std::uint32_t> identities_inside(const IpPrefix& prefix) const {
    std::vector<std::uint32_t> found;
    bool v4 = is_v4(prefix);
    for (auto it = out_.image.prefixes.lower_bound(prefix);
         it != out_.image.prefixes.end() && prefix.contains(it->first.address); ++it)
      if (prefix.contains(it->first) && is_v4(it->first) == v4 && it->second >= CASA_ID_FIRST)
        found.push_back(it->second);
    // Addresses with an identity of their own belong to the prefixes around them as well.
    const auto& plain = snapshot_.plain_addresses;
    for (auto it = plain.lower_bound(prefix.address); it != plain.end() && prefix.contains(it->first); ++it)
      if (it->first.is_v4() == v4) found.push_back(it->second);
    return found;
  }

  std::string source_text(const AllowedSource& source) const {
    std::string text;
    if (std::holds_alternative<policy::HostSource>(source.from)) text = "host";
    else if (const auto* name = std::get_if<NamespacedName>(&source.from)) text = text_of(*name);
    else text = to_string(std::get<IpPrefix>(source.from));
    return source.port != 0 ? fmt::format("{}:{}", text, source.port) : text;
  }

  void allow_source(std::uint32_t subject, const AllowedSource& source, const Rule& r) {
    std::vector<std::uint32_t> peers;
    if (std::holds_alternative<policy::HostSource>(source.from)) peers.push_back(CASA_ID_HOST);
    else if (const auto* name = std::get_if<NamespacedName>(&source.from))
      peers.push_back(snapshot_.workloads.at(*name).identity);
    else peers = identities_inside(std::get<IpPrefix>(source.from));
    for (auto peer : peers)
      for (auto protocol : {Protocol::kTcp, Protocol::kUdp})
        allow(subject, peer, CASA_INGRESS, static_cast<std::uint8_t>(protocol), source.port, CASA_REASON_SOURCE_ALLOWED,
              r);
  }

  void casa_policy(const CasaPolicy& p) {
    const Workload& w = snapshot_.workloads.at(snapshot_.target_of(p));
    PolicyReport report = report_of("CASAPolicy", p.meta);
    report.workload = w.name;
    report.target = fmt::format("{}/{}", policy::to_string(p.target_kind), p.target_name);
    report.enforcement = p.enforcement == policy::Enforcement::kAudit ? "audit" : "enforce";
    for (std::size_t i = 0; i < p.allowed_endpoints.size(); ++i) {
      const auto& endpoint = p.allowed_endpoints[i];
      report.allowed_endpoints.push_back(fmt::format("{}:{}", text_of(endpoint.service), endpoint.port));
      std::string problem =
          allow_service(w.identity, endpoint.service, endpoint.port, CASA_REASON_ENDPOINT_ALLOWED,
                        rule(report.name, fmt::format("spec.allowedEndpoints[{}]", i)), text_of(report.name));
      if (!problem.empty()) report.notes.push_back(std::move(problem));
    }
    for (std::size_t i = 0; i < p.allowed_sources.size(); ++i) {
      report.allowed_sources.push_back(source_text(p.allowed_sources[i]));
      allow_source(w.identity, p.allowed_sources[i], rule(report.name, fmt::format("spec.allowedSources[{}]", i)));
    }
    if (p.llm_endpoint) allow_llm(w, *p.llm_endpoint, rule(report.name, "spec.llmEndpoint"), report);
    token_rules(w, p.tokens, report);
    named_.insert(w.name);
    if (p.enforcement == policy::Enforcement::kAudit) audited_.insert(w.name);
    else enforced_.insert(w.name);
    out_.policies_of[w.name].push_back(text_of(report.name));
    finish(std::move(report), w);
  }

  static PolicyReport report_of(std::string kind, const policy::Meta& meta) {
    PolicyReport report;
    report.kind = std::move(kind);
    report.name = {meta.ns, meta.name};
    report.origin = meta.where.file;
    report.enforcement = "enforce";
    report.phase = Phase::kActive;
    return report;
  }

  std::string namespace_of(std::uint32_t subject) const {
    auto it = workloads_by_id_.find(subject);
    return it == workloads_by_id_.end() ? std::string() : it->second->name.ns;
  }

  void fail_target(const Workload& w, PolicyReport& report, std::vector<std::string>& notes, const std::string& why) {
    report.phase = Phase::kFailed;
    failed_.insert(w.name);
    notes.push_back(why + "; its workload is denied everything");
  }

  void fail_target_here(const Workload& w, PolicyReport& report, const std::string& why) {
    fail_target(w, report, report.node_notes, why);
    report.node_failed = true;
  }

  // A policy that needs what this kernel cannot do is never enforced in a weaker form.
  void allow_llm(const Workload& w, const policy::LlmEndpoint& llm, const Rule& r, PolicyReport& report) {
    report.llm_endpoint = fmt::format("{}:{}", llm.fqdn, llm.port);
    if (!snapshot_.dns.inspected)
      return fail_target_here(w, report,
                              fmt::format("llmEndpoint {} needs the kernel to look into DNS and TLS, which this one "
                                          "cannot (casad doctor says why)",
                                          report.llm_endpoint));
    if (llm.fqdn.size() > kMaxNameLength)
      return fail_target(
          w, report, report.notes,
          fmt::format("llmEndpoint {} is longer than the {} characters that casad can hold", llm.fqdn, kMaxNameLength));
    NamedPeer& peer = out_.names[llm.fqdn];
    peer.identity = allocator_.number_of(NameKind::kFqdn, "", llm.fqdn);
    peer.ports.insert(llm.port);
    peer.subjects.insert(w.identity);
    peer.used_by.insert(text_of(report.name));
    allow(w.identity, peer.identity, CASA_EGRESS, static_cast<std::uint8_t>(Protocol::kTcp), llm.port,
          CASA_REASON_LLM_ALLOWED, r);
    need_name(out_.image, w.identity, llm.fqdn, CASA_NAME_LEARN | peer.identity);
    for (const auto& name : search_forms(snapshot_.dns, llm.fqdn, w.name.ns))
      need_name(out_.image, w.identity, name, CASA_NAME_ASK);
    if (snapshot_.dns.resolvers.empty())
      report.node_notes.push_back("no resolver is known: name one in dns.resolvers of the config, or in resolv.conf");
  }

  void token_rules(const Workload& w, const policy::TokenRules& rules, PolicyReport& report) {
    report.tokens = to_text(rules);
    for (const auto& why : missing_for(rules, snapshot_.tokens)) fail_target_here(w, report, why);
    tokens_[w.identity].add(rules);
  }

  // Who needs a name may ask the trusted resolvers, and they stand in the kernel's table. Of no rule, and without a mark: a denial
  // about a resolver has reasons of its own, and a mark without a rule's number would be a payload that means "no row".
  void resolvers() {
    for (const auto& ip : snapshot_.dns.resolvers) out_.image.resolvers.emplace(ResolverKey{ip, kDnsPort}, 1u);
    std::uint32_t last = CASA_ID_NONE;
    for (const auto& [key, payload] : out_.image.names) {
      if (key.subject == last) continue;
      last = key.subject;
      for (auto protocol : {Protocol::kTcp, Protocol::kUdp})
        out_.image.policy.try_emplace(
            {key.subject, CASA_ID_DNS, CASA_EGRESS, static_cast<std::uint8_t>(protocol), kDnsPort},
            CASA_POLICY_PAYLOAD(CASA_REASON_BASELINE_DNS, 0));
    }
  }

  void finish(PolicyReport report, const Workload& w) {
    if (w.exempt)
      report.notes.insert(report.notes.begin(),
                          "the target is exempt by casa.io/enforcement: disabled, nothing is enforced");
    std::string pending;
    if (w.instances.empty() && w.addresses.empty() && report.phase != Phase::kFailed) {
      report.phase = Phase::kPending;
      pending =
          fmt::format("target {} has no running instance yet; it is enforced the moment it appears", text_of(w.name));
    }
    report.message = join_notes(std::move(pending), report);
    if (report.message.empty()) report.message = "enforced";
    out_.policies.push_back(std::move(report));
  }

  static std::string join_notes(std::string first, const PolicyReport& report) {
    for (const auto* notes : {&report.notes, &report.node_notes})
      for (const auto& note : *notes) first += (first.empty() ? "" : "; ") + note;
    return first;
  }

  void invalid_policy(const identity::InvalidPolicy& invalid) {
    PolicyReport report;
    report.kind = "CASAPolicy";
    report.name = invalid.name;
    report.target = invalid.target_name;
    report.enforcement = "enforce";
    report.origin = invalid.origin;
    report.phase = Phase::kFailed;
    report.message = invalid.message;
    if (!invalid.target_name.empty()) {
      report.message += "; its workload is denied everything until this is mended";
      NamespacedName target{invalid.name.ns, invalid.target_name};
      report.workload = target;
      failed_.insert(target);
      out_.policies_of[target].push_back(text_of(invalid.name));
    }
    out_.policies.push_back(std::move(report));
  }

  // Defaults for apps that no CASAPolicy names (docs/policy.md): agents and clients may call the MCP servers and agents of
  // their system; an MCP server calls nobody.
  void multi_agent_system(const MultiAgentSystem& m) {
    PolicyReport report = report_of("MultiAgentSystem", m.meta);
    report.target = fmt::format("{} apps", m.apps.size());
    auto& notes = report.notes;
    std::size_t running = 0, defaulted = 0;
    for (std::size_t i = 0; i < m.apps.size(); ++i) {
      const auto& app = m.apps[i];
      const Workload& w = snapshot_.workloads.at({m.meta.ns, app.kubernetes_workload_name});
      if (!w.instances.empty() || !w.addresses.empty()) ++running;
      if (named_.contains(w.name) || failed_.contains(w.name)) continue;
      ++defaulted;
      defaulted_.insert(w.name);
      out_.policies_of[w.name].push_back(text_of(report.name));
      if (app.type == policy::AppType::kMcpServer) continue;
      if (m.llm && app.type == policy::AppType::kAgent)
        allow_llm(w, *m.llm, rule(report.name, "spec.llm_host"), report);
      for (std::size_t j = 0; j < m.apps.size(); ++j) {
        const auto& callee = m.apps[j];
        if (j == i || callee.type == policy::AppType::kClient || callee.service.empty()) continue;
        std::string problem =
            allow_service(w.identity, {m.meta.ns, callee.service}, callee.port, CASA_REASON_MAS_DEFAULT,
                          rule(report.name, fmt::format("spec.apps[{}]", j)), text_of(report.name));
        if (!problem.empty() && std::ranges::find(notes, problem) == notes.end()) notes.push_back(std::move(problem));
      }
    }
    if (running == 0 && report.phase != Phase::kFailed) report.phase = Phase::kPending;
    notes.insert(notes.begin(), fmt::format("{} of {} apps are running, {} follow the system's defaults", running,
                                            m.apps.size(), defaulted));
    report.message = join_notes("", report);
    out_.policies.push_back(std::move(report));
  }

  void subjects() {
    for (const auto& [name, w] : snapshot_.workloads) {
      if (w.exempt) {
        out_.image.subjects[w.identity] = CASA_SUBJECT_MANAGED | CASA_SUBJECT_EXEMPT;
        continue;
      }
      if (!w.managed) continue;
      std::uint32_t flags = CASA_SUBJECT_MANAGED;
      if (failed_.contains(name)) flags |= CASA_SUBJECT_INVALID;
      else if (!named_.contains(name) && !defaulted_.contains(name)) flags |= CASA_SUBJECT_NO_POLICY;
      // One enforcing policy among several is enough to enforce.
      if (audit_node_ || (audited_.contains(name) && !enforced_.contains(name) && !failed_.contains(name)))
        flags |= CASA_SUBJECT_AUDIT;
      if (auto tokens = tokens_.find(w.identity); tokens != tokens_.end()) {
        flags |= tokens->second.subject_flags;
        if (!tokens->second.observers.empty()) out_.tls_observers[w.identity] = tokens->second.observers;
      }
      if (w.in_pods) flags |= CASA_SUBJECT_POD;
      if (w.istio_proxy) flags |= CASA_SUBJECT_ISTIO;
      out_.image.subjects[w.identity] = flags;
      if (failed_.contains(name)) drop_rows_of(w.identity);
      add_pod_baseline(snapshot_, w, out_);
    }
    std::uint32_t undeclared = CASA_SUBJECT_MANAGED | CASA_SUBJECT_UNDECLARED | (audit_node_ ? CASA_SUBJECT_AUDIT : 0u);
    for (const auto& [ns, mas] : snapshot_.mas_namespaces)
      if (!mas.slice.empty()) out_.image.subjects[mas.undeclared] = undeclared;
    if (snapshot_.unknown_pod != 0) out_.image.subjects[snapshot_.unknown_pod] = undeclared;
  }

  // A policy that does not validate leaves its workload with nothing, not with what other policies still say.
  void drop_rows_of(std::uint32_t subject) {
    auto first = out_.image.policy.lower_bound({subject, 0, CASA_EGRESS, 0, 0});
    auto last = first;
    while (last != out_.image.policy.end() && last->first.subject == subject) ++last;
    out_.image.policy.erase(first, last);
    auto first_name = out_.image.names.lower_bound({subject, {}});
    auto last_name = first_name;
    while (last_name != out_.image.names.end() && last_name->first.subject == subject) ++last_name;
    out_.image.names.erase(first_name, last_name);
    for (auto& [fqdn, peer] : out_.names) peer.subjects.erase(subject);
  }

  void cgroups() {
    for (const auto& [name, w] : snapshot_.workloads) add_places(w, out_.image);
    if (snapshot_.unknown_pod != 0)
      for (const auto& tree : snapshot_.kubepods)
        add_path(out_.image, tree.root, snapshot_.unknown_pod | CASA_CGROUP_SLICE);
    for (const auto& cgroup : snapshot_.kubepods_cgroups)
      if (snapshot_.unknown_pod != 0) out_.image.cgroups.emplace(cgroup.id, snapshot_.unknown_pod | CASA_CGROUP_SLICE);
    for (const auto& [ns, mas] : snapshot_.mas_namespaces) {
      if (mas.slice.empty()) continue;
      add_path(out_.image, mas.slice, mas.undeclared | CASA_CGROUP_SLICE);
      for (const auto& instance : mas.instances)
        out_.image.cgroups.emplace(instance.id, mas.undeclared | CASA_CGROUP_SLICE);
    }
  }

  void endpoints() {
    for (auto& [key, report] : endpoint_reports_) out_.endpoints.push_back(std::move(report));
  }

  const identity::ObjectSet& objects_;
  const Snapshot& snapshot_;
  identity::Allocator& allocator_;
  const bool audit_node_;
  Compiled out_;
  std::map<std::uint32_t, const Workload*> workloads_by_id_;
  std::map<std::pair<NamespacedName, std::uint16_t>, EndpointReport> endpoint_reports_;
  std::map<std::uint32_t, WorkloadTokens> tokens_;  // by subject
  std::set<NamespacedName> named_, audited_, enforced_, failed_, defaulted_;
};

}  // namespace

const char* to_string(Phase phase) {
  switch (phase) {
    case Phase::kPending: return "Pending";
    case Phase::kActive: return "Active";
    case Phase::kFailed: return "Failed";
  }
  return "Pending";
}

Compiled compile(const identity::ObjectSet& objects, const Snapshot& snapshot, identity::Allocator& allocator,
                 bool audit_node) {
  Compiled compiled = Compiler(objects, snapshot, allocator, audit_node).run();
  add_addresses(snapshot, compiled.image);
  return compiled;
}

void refresh(const identity::ObjectSet& objects, const Snapshot& snapshot, identity::Allocator& allocator,
             bool audit_node, Compiled& compiled) {
  auto addresses = std::move(compiled.image.addresses);
  compiled = Compiler(objects, snapshot, allocator, audit_node).run();
  compiled.image.addresses = std::move(addresses);
}

}  // namespace casa::compile

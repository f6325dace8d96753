#include "compile/render_plan.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <optional>

#include "compile/dns_names.h"
#include "identity/labels.h"

namespace casa::compile {
namespace {

using policy::CasaPolicy;
using policy::Diagnostic;
using policy::Location;
using policy::MultiAgentSystem;
using policy::NamespacedName;
using policy::Protocol;
using policy::Service;

constexpr std::uint16_t kDnsPort = 53;
constexpr std::size_t kMaxObjectName = 253;
constexpr std::array<std::uint16_t, 3> kIstiodPorts{15010, 15012, 15014};
const NamespacedName kIstiod{"istio-system", "istiod"}, kClusterDns{"kube-system", "kube-dns"};

std::string text_of(const NamespacedName& name) { return name.ns + "/" + name.name; }

void allow(Rules& rules, const Peer& peer, TargetPort to, const Location& where) {
  rules.try_emplace(peer, Allowed{{}, where}).first->second.ports.insert(to);
}

std::string lower(std::string_view text) {
  std::string out(text);
  for (char& c : out)
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  return out;
}

class Planner {
 public:
  Planner(std::span<const policy::Object> objects, const RenderOptions& options)
      : objects_(objects), options_(options), pods_(objects) {}

  Plan run() {
    find_namespaces();
    each<Service>([&](const Service& s) { services_.emplace(NamespacedName{s.meta.ns, s.meta.name}, &s); });
    each<policy::ClusterNode>([&](const policy::ClusterNode& node) {
      out_.pod_networks.insert(out_.pod_networks.end(), node.pod_networks.begin(), node.pod_networks.end());
    });
    for (const auto& ns : mas_)
      subject(ns, "casa-default-deny").because.insert(fmt::format("namespace {} is under enforcement", ns));
    special_pods();
    each<CasaPolicy>([&](const CasaPolicy& p) { casa_policy(p); });
    each<MultiAgentSystem>([&](const MultiAgentSystem& m) { multi_agent_system(m); });
    resolvers();
    for (auto& [key, s] : subjects_) out_.subjects.push_back(std::move(s));
    return std::move(out_);
  }

 private:
  // Who calls, on whose behalf, and where that is written.
  struct Caller {
    Subject* subject = nullptr;
    const PodGroup* pods = nullptr;
    std::string because;
  };

  template <typename T, typename Each>
  void each(Each f) const {
    for (const auto& object : objects_)
      if (const auto* t = std::get_if<T>(&object)) f(*t);
  }

  template <typename... Args>
  void warn(const Location& where, fmt::format_string<Args...> format, Args&&... args) {
    out_.notes.push_back({Diagnostic::Severity::kWarning, where, fmt::format(format, std::forward<Args>(args)...)});
  }
  template <typename... Args>
  void refuse(const Location& where, fmt::format_string<Args...> format, Args&&... args) {
    out_.notes.push_back({Diagnostic::Severity::kError, where, fmt::format(format, std::forward<Args>(args)...)});
  }

  void find_namespaces() {
    each<policy::Namespace>([&](const policy::Namespace& ns) {
      if (identity::is_mas_label(ns.meta)) mas_.insert(ns.meta.name);
    });
    each<CasaPolicy>([&](const CasaPolicy& p) { mas_.insert(p.meta.ns); });
    each<MultiAgentSystem>([&](const MultiAgentSystem& m) { mas_.insert(m.meta.ns); });
    each<policy::Namespace>([&](const policy::Namespace& ns) {
      if (!identity::is_disabled(ns.meta) || mas_.erase(ns.meta.name) == 0) return;
      warn(ns.meta.where,
           "Namespace {} is exempt by casa.io/enforcement: disabled, so nothing is written for it; remove the "
           "annotation to enforce",
           ns.meta.name);
    });
  }

  Subject& subject(const std::string& ns, const std::string& name) {
    Subject& s = subjects_[{ns, name}];
    s.ns = ns;
    s.name = name;
    return s;
  }

  // Labels that mean these Pods and no others that the files tell of; null, and said, when there are none.
  const Labels* labels_of(const PodGroup& group, const Location& where) {
    if (group.selector.empty()) {
      warn(where, "{} has no label that all its Pods share, so no selector means it; write a label of its own on them",
           to_string(group));
      return nullptr;
    }
    for (const PodGroup* other : pods_.selected(group.name.ns, group.selector)) {
      if (other == &group) continue;
      warn(where,
           "the labels of {} also mean {}, which would get its permissions, so they are left out; write a label on "
           "its Pods that the others do not have",
           to_string(group), to_string(*other));
      return nullptr;
    }
    return &group.selector;
  }

  // The object to write for a workload; null, and said, when there can be none.
  Subject* subject_of(const PodGroup& group, const Location& where) {
    if (group.host_network) return nullptr;  // told of already
    const Labels* labels = labels_of(group, where);
    if (labels == nullptr) return nullptr;
    std::string name = fmt::format("casa-{}-{}", lower(group.kind), group.name.name);
    if (name.size() > kMaxObjectName) {
      refuse(where, "{} is too long for an object's name; write a shorter name for the workload", name);
      return nullptr;
    }
    Subject& s = subject(group.name.ns, name);
    if (s.labels.empty()) s.where = where;
    s.labels = *labels;
    return &s;
  }

  // Pods that the default of their namespace is not for, or does not reach.
  void special_pods() {
    for (const auto& group : pods_.all()) {
      if (!mas_.contains(group.name.ns)) continue;
      if (!group.exempt && group.host_network) in_node_network(group);
      if (!group.exempt || group.host_network) continue;
      Subject* s = subject_of(group, group.where);
      if (s == nullptr) continue;
      s->unrestricted = true;
      s->because.insert(fmt::format("{} is exempt by casa.io/enforcement: disabled", to_string(group)));
    }
  }

  void in_node_network(const PodGroup& group) {
    if (options_.beside_casad) {
      return warn(group.where, "{} uses its node's network, where these policies do not hold it: it is left to casad",
                  to_string(group));
    }
    refuse(group.where,
           "{} uses its node's network, where these policies do not hold it; remove hostNetwork, or use --beside-casad "
           "where casad enforces on the same nodes",
           to_string(group));
  }

  void casa_policy(const CasaPolicy& p) {
    NamespacedName target{p.meta.ns, p.target_name};
    named_.insert(target);
    if (!mas_.contains(p.meta.ns)) return;
    std::string because = fmt::format("CASAPolicy {}/{}", p.meta.ns, p.meta.name);
    bool held = tokens_are_held(p);
    const PodGroup* group = pods_.find(target, policy::to_string(p.target_kind));
    if (group == nullptr) {
      return warn(p.meta.where,
                  "no file tells the labels of {} {}, so its Pods stay denied everything; name a file with it, or "
                  "with its Pods (kubectl get {} {} -n {} -o yaml)",
                  policy::to_string(p.target_kind), text_of(target), lower(policy::to_string(p.target_kind)),
                  target.name, target.ns);
    }
    if (group->exempt || !held) return;
    Caller caller{subject_of(*group, p.meta.where), group, because};
    if (caller.subject == nullptr) return;
    caller.subject->because.insert(because);
    if (p.enforcement == policy::Enforcement::kAudit) {
      warn(p.meta.where,
           "enforcement: audit cannot be said, so what it would only record is denied; use casad's own enforcement to "
           "try a policy");
    }
    for (const auto& e : p.allowed_endpoints) call(caller, e.service, e.port, e.where);
    for (const auto& source : p.allowed_sources) allow_source(*caller.subject, source);
    if (p.llm_endpoint) allow_host(caller, *p.llm_endpoint);
    allow_control_plane(caller, p.meta.where);
  }

  // Requests are stopped for their tokens by casad alone.
  bool tokens_are_held(const CasaPolicy& p) {
    using policy::TokenAction;
    const char* field = p.tokens.exfiltration == TokenAction::kDrop              ? "exfiltration"
                        : p.tokens.require_valid_signature == TokenAction::kDrop ? "requireValidSignature"
                                                                                 : nullptr;
    if (field == nullptr || options_.beside_casad) return true;
    refuse(p.meta.where,
           "spec.tokens.{}: drop cannot be said, and without it more would be allowed; use --beside-casad where casad "
           "enforces on the same nodes",
           field);
    return false;
  }

  void call(const Caller& caller, const NamespacedName& name, std::uint16_t port, const Location& where) {
    auto found = services_.find(name);
    if (found == services_.end()) {
      return warn(where,
                  "no file tells of Service {}, so calls to it are left out; name a file with it (kubectl get service "
                  "{} -n {} -o yaml)",
                  text_of(name), name.name, name.ns);
    }
    const Service& service = *found->second;
    if (!service.external_name.empty()) {
      return warn(where, "Service {} is of type ExternalName, which no policy can allow; name the host in llmEndpoint",
                  text_of(name));
    }
    caller.subject->dns_names.merge(service_names(options_.dns, name, caller.subject->ns));
    for (const auto& ip : service.cluster_ips) caller.subject->dns_names.insert(reverse_name(ip));
    bool any = false;
    for (const auto& p : service.ports) {
      if (p.port != port) continue;
      any = true;
      if (service.selector.empty()) call_addresses(caller, service, p, where);
      else call_pods(caller, service, p, where);
    }
    if (!any) warn(where, "Service {} has no port {}; write one that it has", text_of(name), port);
  }

  // The port that a Service's port is for its Pods; none, and said, when that cannot be known.
  std::optional<std::uint16_t> target_of(const Service& service, const policy::ServicePort& port,
                                         const Location& where) {
    if (const auto* number = std::get_if<std::uint16_t>(&port.target_port)) return *number != 0 ? *number : port.port;
    const auto& name = std::get<std::string>(port.target_port);
    std::set<std::uint16_t> found;
    for (const PodGroup* group : pods_.selected(service.meta.ns, service.selector))
      for (const auto& p : group->ports)
        if (p.name == name && p.protocol == port.protocol) found.insert(p.port);
    if (found.size() == 1) return *found.begin();
    warn(where, "port {} of Service {}/{} goes to the Pods' port \"{}\", which {}, so it is left out; {}", port.port,
         service.meta.ns, service.meta.name, name,
         found.empty() ? "no file gives a number" : "is not the same number in all of them",
         found.empty() ? "name a file with the Deployment or the Pods" : "write the number as targetPort");
    return std::nullopt;
  }

  void call_pods(const Caller& caller, const Service& service, const policy::ServicePort& port, const Location& where) {
    auto target = target_of(service, port, where);
    if (!target) return;
    for (const PodGroup* group : pods_.selected(service.meta.ns, service.selector)) {
      if (!group->host_network) continue;
      warn(where, "{} uses its node's network, so calls to it are left out; use a Service without selector for it",
           to_string(*group));
    }
    TargetPort to{*target, port.protocol};
    allow(caller.subject->egress, PodSelector{service.meta.ns, service.selector}, to, where);
    if (!mas_.contains(service.meta.ns)) return;
    Subject& callee = subject(service.meta.ns, "casa-service-" + service.meta.name);
    callee.labels = service.selector;
    callee.because.insert(caller.because);
    allow(callee.ingress, PodSelector{caller.pods->name.ns, caller.subject->labels}, to, where);
  }

  // A Service that lists addresses itself.
  void call_addresses(const Caller& caller, const Service& service, const policy::ServicePort& port,
                      const Location& where) {
    bool any = false;
    each<policy::EndpointSlice>([&](const policy::EndpointSlice& slice) {
      if (slice.meta.ns != service.meta.ns || slice.service != service.meta.name) return;
      for (const auto& p : slice.ports) {
        // A slice's port is the target of the Service port of the same name; unnamed matches where there is one only.
        bool matches = p.name == port.name || (p.name.empty() && service.ports.size() == 1);
        if (!matches || p.protocol != port.protocol) continue;
        for (const auto& endpoint : slice.endpoints)
          for (const auto& ip : endpoint.addresses) any = call_address(caller, ip, {p.port, p.protocol}, where) || any;
      }
    });
    if (!any) {
      warn(where,
           "Service {}/{} has no selector, and no EndpointSlice in the files lists an address for its port {}; "
           "name a file with one",
           service.meta.ns, service.meta.name, port.port);
    }
  }

  bool call_address(const Caller& caller, const IpAddress& ip, TargetPort to, const Location& where) {
    const PodGroup* pods = pods_.at(ip);
    if (pods == nullptr) {
      allow(caller.subject->egress, IpPrefix{ip, 128}, to, where);
      return true;
    }
    // An address is the Pod's today; the labels are the Pods' for as long as they live.
    const Labels* labels = labels_of(*pods, where);
    if (labels == nullptr) return true;
    allow(caller.subject->egress, PodSelector{pods->name.ns, *labels}, to, where);
    if (!mas_.contains(pods->name.ns) || pods->exempt) return true;
    if (Subject* callee = subject_of(*pods, where)) {
      callee->because.insert(caller.because);
      allow(callee->ingress, PodSelector{caller.pods->name.ns, caller.subject->labels}, to, where);
    }
    return true;
  }

  void allow_source(Subject& subject, const policy::AllowedSource& source) {
    Peer peer = NodeItself{};
    if (const auto* prefix = std::get_if<IpPrefix>(&source.from)) peer = *prefix;
    if (const auto* name = std::get_if<NamespacedName>(&source.from)) {
      const PodGroup* group = pods_.find(*name);
      if (group == nullptr) {
        return warn(source.where,
                    "no file tells the labels of workload {}, so it is left out of those who may call; name a file "
                    "with its Deployment or its Pods",
                    text_of(*name));
      }
      if (group->host_network) {
        return warn(source.where,
                    "{} uses its node's network and cannot be told from the node, so it is left out; remove "
                    "hostNetwork",
                    to_string(*group));
      }
      const Labels* labels = labels_of(*group, source.where);
      if (labels == nullptr) return;
      peer = PodSelector{group->name.ns, *labels};
    }
    for (auto protocol : {Protocol::kTcp, Protocol::kUdp})
      allow(subject.ingress, peer, {source.port, protocol}, source.where);
  }

  void allow_host(const Caller& caller, const policy::LlmEndpoint& llm) {
    if (llm.fqdn.size() > kMaxNameLength) {
      return warn(llm.where, "{} is longer than the {} characters that casad can hold; write a name that is shorter",
                  llm.fqdn, kMaxNameLength);
    }
    caller.subject->hosts.try_emplace({llm.fqdn, llm.port}, llm.where);
    caller.subject->dns_names.insert(llm.fqdn);
    caller.subject->dns_names.merge(search_forms(options_.dns, llm.fqdn, caller.subject->ns));
  }

  // As the baseline of a Pod with Istio's proxy has it.
  void allow_control_plane(const Caller& caller, const Location& where) {
    if (!caller.pods->istio_proxy) return;
    auto istiod = services_.find(kIstiod);
    if (istiod == services_.end()) {
      return warn(where, "{} has Istio's proxy, whose control plane is left out; name a file with the Service {}",
                  to_string(*caller.pods), text_of(kIstiod));
    }
    for (const auto& port : istiod->second->ports)
      if (std::ranges::find(kIstiodPorts, port.port) != kIstiodPorts.end()) call(caller, kIstiod, port.port, where);
  }

  // Defaults for apps that no CASAPolicy names, as compile.cpp has them.
  void multi_agent_system(const MultiAgentSystem& m) {
    if (!mas_.contains(m.meta.ns)) return;
    std::string because = fmt::format("MultiAgentSystem {}/{}", m.meta.ns, m.meta.name);
    for (std::size_t i = 0; i < m.apps.size(); ++i) {
      const auto& app = m.apps[i];
      NamespacedName name{m.meta.ns, app.kubernetes_workload_name};
      if (named_.contains(name)) continue;
      const PodGroup* group = pods_.find(name);
      if (group == nullptr) {
        warn(app.where,
             "no file tells the labels of workload {}, so its Pods stay denied everything; name a file with its "
             "Deployment or its Pods",
             text_of(name));
        continue;
      }
      if (group->exempt) continue;
      Caller caller{subject_of(*group, app.where), group, because};
      if (caller.subject == nullptr) continue;
      caller.subject->because.insert(because);
      allow_control_plane(caller, app.where);
      if (app.type == policy::AppType::kMcpServer) continue;
      if (m.llm && app.type == policy::AppType::kAgent) allow_host(caller, *m.llm);
      for (std::size_t j = 0; j < m.apps.size(); ++j) {
        const auto& callee = m.apps[j];
        if (j == i || callee.type == policy::AppType::kClient || callee.service.empty()) continue;
        call(caller, {m.meta.ns, callee.service}, callee.port, callee.where);
      }
    }
  }

  void resolvers() {
    PodSelector pods{kClusterDns.ns, {{"k8s-app", "kube-dns"}}};
    std::set<TargetPort> ports{{kDnsPort, Protocol::kTcp}, {kDnsPort, Protocol::kUdp}};
    if (auto known = services_.find(kClusterDns); known != services_.end() && !known->second->selector.empty()) {
      pods.labels = known->second->selector;
      for (const auto& port : known->second->ports) {
        if (port.port != kDnsPort || !std::holds_alternative<std::uint16_t>(port.target_port)) continue;
        ports.erase({kDnsPort, port.protocol});
        if (auto target = target_of(*known->second, port, known->second->meta.where))
          ports.insert({*target, port.protocol});
      }
    }
    out_.resolver = std::move(pods);
    out_.resolver_ports = std::move(ports);
  }

  std::span<const policy::Object> objects_;
  const RenderOptions& options_;
  PodGroups pods_;
  Plan out_;
  std::set<std::string> mas_;
  std::set<NamespacedName> named_;  // by a CASAPolicy
  std::map<NamespacedName, const Service*> services_;
  std::map<std::pair<std::string, std::string>, Subject> subjects_;  // by namespace and name
};

}  // namespace

Plan plan(std::span<const policy::Object> objects, const RenderOptions& options) {
  return Planner(objects, options).run();
}

}  // namespace casa::compile

// Objects and cgroups become identities here. Order matters little: every step adds to maps keyed by name, and what is
// contradictory is left out and named in Snapshot::problems rather than guessed.
#include "identity/snapshot.h"

#include <fmt/format.h>

#include <algorithm>

#include "casa/abi/types.h"
#include "identity/labels.h"

namespace casa::identity {
namespace {

using policy::CasaPolicy;
using policy::ClusterNode;
using policy::EndpointSlice;
using policy::Meta;
using policy::MultiAgentSystem;
using policy::Namespace;
using policy::Object;
using policy::Pod;
using policy::Service;

constexpr std::uint16_t kDnsPort = 53;

class Builder {
 public:
  Builder(const ObjectSet& objects, const NodeFacts& node, Allocator& allocator)
      : objects_(objects), node_(node), allocator_(allocator) {}

  Snapshot build() {
    find_namespaces();
    find_names();
    find_workloads();
    find_addresses();
    find_services();
    find_cgroups();
    find_resolvers();
    return std::move(out_);
  }

 private:
  // The node's resolvers, and the cluster's where there is one.
  void find_resolvers() {
    out_.dns = node_.dns;
    out_.tokens = node_.tokens;
    auto cluster = out_.services.find({"kube-system", "kube-dns"});
    if (cluster == out_.services.end()) return;
    auto trust = [&](const IpAddress& ip) {
      if (std::ranges::find(out_.dns.resolvers, ip) == out_.dns.resolvers.end()) out_.dns.resolvers.push_back(ip);
    };
    std::ranges::for_each(cluster->second.cluster_ips, trust);
    // Packets of the host's network namespace leave with the address of the Pod that kube-proxy chose.
    for (const auto& port : cluster->second.ports)
      for (const auto& backend : port.backends)
        if (backend.port == kDnsPort && !backend.workload.name.empty())
          std::ranges::for_each(out_.workloads.at(backend.workload).addresses, trust);
  }

  [[nodiscard]] bool in_cluster() const { return !node_.cluster.node_name.empty(); }
  // A bare node is the only one there is, whatever a Pod file says.
  [[nodiscard]] bool is_here(const Pod& pod) const { return !in_cluster() || pod.node == node_.cluster.node_name; }

  void add_mas_namespace(const std::string& ns) {
    auto& entry = out_.mas_namespaces[ns];
    if (entry.undeclared != 0) return;
    entry.undeclared = allocator_.number_of(NameKind::kUndeclared, ns, "");
    if (!in_cluster()) entry.slice = slice_path(ns);
  }

  // On a bare node a workload is its unit, whatever kind a policy gives it.
  void find_names() {
    if (!in_cluster()) return;
    objects_.each<CasaPolicy>([&](const CasaPolicy& p) {
      out_.names.add_target({p.meta.ns, p.target_name}, policy::to_string(p.target_kind));
    });
    objects_.each<Pod>([&](const Pod& pod) { out_.names.add_owner(owner_of(pod)); });
  }

  // The owner, by the name that the snapshot has it under.
  Owner workload_of(const Pod& pod) const {
    Owner owner = owner_of(pod);
    owner.name = out_.names.of(owner.name, owner.kind);
    return owner;
  }

  void find_namespaces() {
    objects_.each<Namespace>([&](const Namespace& ns) {
      if (is_mas_label(ns.meta)) add_mas_namespace(ns.meta.name);
      if (is_disabled(ns.meta)) exempt_namespaces_.insert(ns.meta.name);
    });
    objects_.each<CasaPolicy>([&](const CasaPolicy& p) { add_mas_namespace(p.meta.ns); });
    objects_.each<MultiAgentSystem>([&](const MultiAgentSystem& m) { add_mas_namespace(m.meta.ns); });
    for (const auto& invalid : objects_.invalid) add_mas_namespace(invalid.name.ns);
    for (const auto& ns : exempt_namespaces_) out_.mas_namespaces.erase(ns);
  }

  Workload& workload(const NamespacedName& name, const std::string& kind) {
    auto [it, fresh] = out_.workloads.try_emplace(name);
    Workload& w = it->second;
    if (fresh) {
      w.identity = allocator_.number_of(NameKind::kWorkload, name.ns, name.name);
      w.name = name;
      w.exempt = exempt_namespaces_.contains(name.ns);
      w.managed = out_.mas_namespaces.contains(name.ns);
    }
    if (w.kind.empty() || w.kind == "Unit") w.kind = kind;
    return w;
  }

  void find_workloads() {
    objects_.each<Pod>([&](const Pod& pod) { add_pod(pod); });
    keep_places();
    objects_.each<CasaPolicy>([&](const CasaPolicy& p) { workload(out_.target_of(p), target_kind(p)); });
    for (const auto& invalid : objects_.invalid)
      if (!invalid.target_name.empty()) workload({invalid.name.ns, invalid.target_name}, "Unit");
    objects_.each<MultiAgentSystem>([&](const MultiAgentSystem& m) {
      for (const auto& app : m.apps) workload({m.meta.ns, app.kubernetes_workload_name}, "Unit");
    });
    objects_.each<CasaPolicy>([&](const CasaPolicy& p) {
      for (const auto& source : p.allowed_sources)
        if (const auto* name = std::get_if<NamespacedName>(&source.from)) workload(*name, "Unit");
    });
    for (auto& [name, w] : out_.workloads)
      if (w.exempt) w.managed = false;
  }

  // On a bare node a workload without a Pod object is a unit, whatever the policy calls it.
  std::string target_kind(const CasaPolicy& p) const {
    return in_cluster() || described_.contains({p.meta.ns, p.target_name}) ? policy::to_string(p.target_kind) : "Unit";
  }

  void add_pod(const Pod& pod) {
    Owner owner = workload_of(pod);
    Workload& w = workload(owner.name, owner.kind);
    described_.insert(owner.name);
    if (is_disabled(pod.meta)) w.exempt = true;
    for (const auto& port : pod.ports) {
      auto same = [&](const auto& p) {
        return p.name == port.name && p.port == port.port && p.protocol == port.protocol;
      };
      if (std::ranges::none_of(w.ports, same)) w.ports.push_back(port);
    }
    if (!pod.finished && !pod.node.empty()) w.nodes.insert(pod.node);
    if (is_daemon(pod)) {
      if (!out_.enforcing_nodes) out_.enforcing_nodes.emplace();
      if (pod.ready) out_.enforcing_nodes->insert(pod.node);
    }
    if (!is_here(pod)) return;
    if (!pod.cgroup.empty()) declare(w, {.path = pod.cgroup});
    if (!in_cluster() || pod.cgroup_uid.empty()) return;
    for (auto& path : pod_cgroup_paths(node_.cluster.kubepods, pod.cgroup_uid, pod.qos))
      declare(w, {.path = std::move(path), .is_pod = true});
    w.in_pods = w.in_pods || !pod.host_network;
    w.istio_proxy = w.istio_proxy || pod.istio_proxy;
    w.probe_ports.insert(pod.probe_ports.begin(), pod.probe_ports.end());
  }

  [[nodiscard]] bool is_daemon(const Pod& pod) const {
    if (pod.meta.ns != node_.cluster.daemon_namespace || pod.finished) return false;
    auto name = pod.meta.labels.find("app.kubernetes.io/name");
    return name != pod.meta.labels.end() && name->second == "casad";
  }

  void declare(Workload& w, DeclaredCgroup place) {
    auto [it, fresh] = declared_by_.try_emplace(place.path, w.name);
    if (!fresh && it->second != w.name) {
      out_.problems.push_back(fmt::format("cgroup {} is declared for {}/{} and for {}/{}: the first keeps it",
                                          place.path, it->second.ns, it->second.name, w.name.ns, w.name.name));
      return;
    }
    if (fresh) w.declared.push_back(std::move(place));
  }

  // A Pod whose object is gone may still run: it is who it was, as long as that very cgroup is there.
  void keep_places() {
    for (const auto& place : node_.cluster.pod_places) {
      if (declared_by_.contains(place.cgroup.path)) continue;
      auto cgroup = find_cgroup(node_.mount, place.cgroup.path);
      if (!cgroup || cgroup->id != place.cgroup.id) continue;
      Workload& w = workload(place.workload, place.kind);
      described_.insert(w.name);
      w.instances.push_back(place.cgroup);
      w.in_pods = w.in_pods || place.in_pods;
      out_.pod_places.push_back(place);
    }
  }

  void add_address(const IpAddress& ip, std::uint32_t identity, const std::string& whose) {
    if (ip.is_loopback()) return;
    auto [it, fresh] = out_.addresses.try_emplace(ip, identity);
    if (fresh || it->second == identity) return;
    out_.problems.push_back(
        fmt::format("address {} of {} belongs to somebody else too: it is unknown until one of them gives it up",
                    to_string(ip), whose));
    it->second = CASA_ID_UNKNOWN;
  }

  void find_addresses() {
    // A kube-proxy that uses IPVS gives its node the addresses of all Services: they stay the Services'.
    std::set<IpAddress> of_services;
    if (in_cluster())
      objects_.each<Service>([&](const Service& s) { of_services.insert(s.cluster_ips.begin(), s.cluster_ips.end()); });
    for (const auto& ip : node_.host_addresses)
      if (!of_services.contains(ip)) add_address(ip, CASA_ID_HOST, "this host");
    objects_.each<Pod>([&](const Pod& pod) {
      if (!pod.deleting) find_addresses_of(pod);
    });
    // What a Pod on its way out had may belong to another one by now.
    objects_.each<Pod>([&](const Pod& pod) {
      if (pod.deleting) find_addresses_of(pod);
    });
    objects_.each<ClusterNode>([&](const ClusterNode& node) {
      for (const auto& prefix : node.pod_networks) out_.pod_networks.emplace(prefix, node.meta.name);
    });
  }

  void find_addresses_of(const Pod& pod) {
    if (pod.finished) return;
    NamespacedName name = workload_of(pod).name;
    Workload& w = out_.workloads.at(name);
    for (const auto& ip : pod.ips) {
      if (pod.host_network) {
        if (w.managed) w.host_identities.insert(identity_of_plain(ip));
        continue;
      }
      if (pod.deleting && out_.addresses.contains(ip)) continue;
      w.addresses.push_back(ip);
      if (in_cluster() && is_here(pod)) w.addresses_here.push_back(ip);
      pod_ips_.emplace(ip, name);
      add_address(ip, w.identity, fmt::format("pod {}/{}", pod.meta.ns, pod.meta.name));
    }
  }

  // Of an address that is no workload's.
  std::uint32_t identity_of_plain(const IpAddress& ip) {
    if (ip.is_loopback()) return CASA_ID_HOST;
    if (auto known = out_.addresses.find(ip); known != out_.addresses.end()) return known->second;
    std::uint32_t identity = allocator_.number_of(NameKind::kPrefix, "", to_string(ip));
    add_address(ip, identity, "a node or an EndpointSlice");
    out_.plain_addresses.emplace(ip, identity);
    return identity;
  }

  std::uint16_t target_port(const policy::ServicePort& port, const std::vector<policy::ContainerPort>& named) const {
    if (const auto* number = std::get_if<std::uint16_t>(&port.target_port)) return *number != 0 ? *number : port.port;
    const auto& name = std::get<std::string>(port.target_port);
    for (const auto& candidate : named)
      if (candidate.name == name && candidate.protocol == port.protocol) return candidate.port;
    return 0;
  }

  void add_backend(ServiceInfo::Port& port, Backend backend) {
    if (backend.port == 0) return;
    auto same = [&](const Backend& b) {
      return b.identity == backend.identity && b.port == backend.port && b.address == backend.address;
    };
    if (std::ranges::none_of(port.backends, same)) port.backends.push_back(std::move(backend));
  }

  // A Pod that uses its node's network is known by its cgroup there, and elsewhere by the node's address.
  void add_pod_backend(ServiceInfo::Port& port, const Pod& pod, std::uint16_t target) {
    const Workload& w = out_.workloads.at(workload_of(pod).name);
    add_backend(port, {w.identity, w.name, {}, target});
    if (!pod.host_network) return;
    for (const auto& ip : pod.ips) add_backend(port, {identity_of_plain(ip), {}, ip, target});
  }

  void add_selected(const Service& service, ServiceInfo& info) {
    if (service.selector.empty()) return;
    auto pods = objects_.objects.lower_bound({policy::Kind::kPod, service.meta.ns, {}});
    for (; pods != objects_.objects.end(); ++pods) {
      const auto* pod = std::get_if<Pod>(&pods->second);
      if (pod == nullptr || pod->meta.ns != service.meta.ns) return;
      if (!pod->finished && selects(service.selector, pod->meta.labels))
        for (std::size_t i = 0; i < service.ports.size(); ++i)
          add_pod_backend(info.ports[i], *pod, target_port(service.ports[i], pod->ports));
    }
  }

  Backend backend_of(const IpAddress& ip) {
    if (auto pod = pod_ips_.find(ip); pod != pod_ips_.end())
      return {out_.workloads.at(pod->second).identity, pod->second, {}, 0};
    return {identity_of_plain(ip), {}, ip, 0};
  }

  void add_slice(const EndpointSlice& slice, ServiceInfo& info) {
    for (const auto& slice_port : slice.ports) {
      for (auto& port : info.ports) {
        // A slice's port is the target of the Service port of the same name; unnamed matches where there is one only.
        bool matches = slice_port.name == port_names_[&port] || (slice_port.name.empty() && info.ports.size() == 1);
        if (!matches || slice_port.protocol != port.protocol) continue;
        for (const auto& endpoint : slice.endpoints) {
          if (endpoint.pod) {
            if (const Pod* pod = find_pod(*endpoint.pod)) {
              add_pod_backend(port, *pod, slice_port.port);
              continue;
            }
          }
          for (const auto& ip : endpoint.addresses) {
            Backend backend = backend_of(ip);
            backend.port = slice_port.port;
            add_backend(port, std::move(backend));
          }
        }
      }
    }
  }

  const Pod* find_pod(const NamespacedName& name) const {
    auto it = objects_.objects.find({policy::Kind::kPod, name.ns, name.name});
    return it == objects_.objects.end() ? nullptr : std::get_if<Pod>(&it->second);
  }

  void find_services() {
    objects_.each<Service>([&](const Service& service) {
      NamespacedName name{service.meta.ns, service.meta.name};
      ServiceInfo& info = out_.services[name];
      info.name = name;
      info.identity = allocator_.number_of(NameKind::kService, name.ns, name.name);
      if (!service.external_name.empty()) {
        info.problem = "is of type ExternalName, which no policy can allow; name the host in llmEndpoint";
        return;
      }
      info.cluster_ips = service.cluster_ips;
      for (const auto& ip : service.cluster_ips)
        add_address(ip, info.identity, fmt::format("service {}/{}", name.ns, name.name));
      info.ports.resize(service.ports.size());
      for (std::size_t i = 0; i < service.ports.size(); ++i) {
        info.ports[i].port = service.ports[i].port;
        info.ports[i].protocol = service.ports[i].protocol;
        port_names_[&info.ports[i]] = service.ports[i].name;
      }
      add_selected(service, info);
    });
    objects_.each<EndpointSlice>([&](const EndpointSlice& slice) {
      auto it = out_.services.find({slice.meta.ns, slice.service});
      if (it != out_.services.end()) add_slice(slice, it->second);
    });
    for (auto& [name, info] : out_.services) finish_service(info);
    objects_.each<CasaPolicy>([&](const CasaPolicy& p) {
      for (const auto& endpoint : p.allowed_endpoints) add_implicit(endpoint.service);
    });
    objects_.each<MultiAgentSystem>([&](const MultiAgentSystem& m) {
      for (const auto& app : m.apps)
        if (app.type != policy::AppType::kClient) add_implicit({m.meta.ns, app.service});
    });
  }

  // A Service whose pods nobody describes stands, on a bare node, for the unit of its name.
  void finish_service(ServiceInfo& info) {
    bool empty = std::ranges::all_of(info.ports, [](const auto& port) { return port.backends.empty(); });
    if (!empty || !info.problem.empty()) return;
    auto it = out_.workloads.find(info.name);
    if (in_cluster() || it == out_.workloads.end() || described_.contains(info.name)) {
      info.problem = "has no endpoints: no Pod matches its selector and no EndpointSlice lists addresses";
      return;
    }
    const Service& service =
        std::get<Service>(objects_.objects.at({policy::Kind::kService, info.name.ns, info.name.name}));
    for (std::size_t i = 0; i < info.ports.size(); ++i)
      add_backend(info.ports[i],
                  {it->second.identity, it->second.name, {}, target_port(service.ports[i], it->second.ports)});
  }

  void add_implicit(const NamespacedName& name) {
    if (name.name.empty() || out_.services.contains(name)) return;
    ServiceInfo& info = out_.services[name];
    info.name = name;
    if (in_cluster()) {
      info.identity = allocator_.number_of(NameKind::kService, name.ns, name.name);
      info.problem = "is no Service of the cluster";
      return;
    }
    info.implicit = true;
    Workload& w = workload(name, "Unit");
    if (w.exempt) w.managed = false;
    info.identity = w.identity;
  }

  void find_cgroups() {
    for (auto& [name, w] : out_.workloads) {
      if (!in_cluster() && !described_.contains(name)) {
        std::string unit = slice_path(name.ns) + "/" + name.name;
        w.declared.push_back({.path = unit + ".service"});
        w.declared.push_back({.path = unit + "@", .is_template = true});
      }
      for (const auto& place : w.declared) {
        if (place.is_template) {
          for (auto& instance : find_template_instances(node_.mount, place.path))
            w.instances.push_back(std::move(instance));
        } else if (auto instance = find_cgroup(node_.mount, place.path)) {
          if (place.is_pod) out_.pod_places.push_back({w.name, w.kind, w.in_pods, *instance});
          w.instances.push_back(std::move(*instance));
        }
      }
    }
    for (auto& [ns, mas] : out_.mas_namespaces)
      if (auto instance = mas.slice.empty() ? std::nullopt : find_cgroup(node_.mount, mas.slice))
        mas.instances.push_back(std::move(*instance));
    if (!in_cluster()) return;
    out_.kubepods = node_.cluster.kubepods;
    for (const auto& tree : out_.kubepods)
      if (auto cgroup = find_cgroup(node_.mount, tree.root)) out_.kubepods_cgroups.push_back(std::move(*cgroup));
    if (node_.cluster.strict) out_.unknown_pod = allocator_.number_of(NameKind::kUndeclared, "", "");
  }

  const ObjectSet& objects_;
  const NodeFacts& node_;
  Allocator& allocator_;
  Snapshot out_;
  std::set<std::string> exempt_namespaces_;
  std::set<NamespacedName> described_;  // workloads that Pod objects describe
  std::map<std::string, NamespacedName> declared_by_;
  std::map<IpAddress, NamespacedName> pod_ips_;
  std::map<const ServiceInfo::Port*, std::string> port_names_;
};

}  // namespace

NamespacedName Snapshot::target_of(const CasaPolicy& p) const {
  return names.of({p.meta.ns, p.target_name}, policy::to_string(p.target_kind));
}

Snapshot build_snapshot(const ObjectSet& objects, const NodeFacts& node, Allocator& allocator) {
  return Builder(objects, node, allocator).build();
}

}  // namespace casa::identity

// Services, and what stands behind them.
#include <algorithm>
#include <tuple>

#include "casa/abi/types.h"
#include "identity/labels.h"
#include "identity/snapshot_builder.h"

namespace casa::identity {

using policy::CasaPolicy;
using policy::EndpointSlice;
using policy::MultiAgentSystem;
using policy::Pod;
using policy::Service;

namespace {

// What stands for an address that is contested stands for everybody unknown: no Service has that behind it.
void add_backend(ServiceInfo::Port& port, Backend backend) {
  if (backend.port != 0 && backend.identity != CASA_ID_UNKNOWN &&
      std::ranges::find(port.backends, backend) == port.backends.end())
    port.backends.push_back(std::move(backend));
}

}  // namespace

std::uint16_t SnapshotBuilder::target_port(const policy::ServicePort& port,
                                           const std::vector<policy::ContainerPort>& named) {
  if (const auto* number = std::get_if<std::uint16_t>(&port.target_port)) return *number != 0 ? *number : port.port;
  const auto& name = std::get<std::string>(port.target_port);
  for (const auto& candidate : named)
    if (candidate.name == name && candidate.protocol == port.protocol) return candidate.port;
  return 0;
}

// A Pod that uses its node's network is known by its cgroup there, and elsewhere by the node's address.
void SnapshotBuilder::add_pod_backend(ServiceInfo::Port& port, const Pod& pod, std::uint16_t target) {
  const Workload& w = out_.workloads.at(workload_name(pod));
  add_backend(port, {w.identity, w.name, {}, target});
  if (!pod.host_network) return;
  for (const auto& ip : pod.ips) add_backend(port, {identity_of_plain(ip), {}, ip, target});
}

void SnapshotBuilder::add_selected(const Service& service, ServiceInfo& info) {
  if (service.selector.empty()) return;
  objects_.each_in<Pod>(service.meta.ns, [&](const Pod& pod) {
    if (pod.finished || !selects(service.selector, pod.meta.labels)) return;
    for (std::size_t i = 0; i < service.ports.size(); ++i)
      add_pod_backend(info.ports[i], pod, target_port(service.ports[i], pod.ports));
  });
}

Backend SnapshotBuilder::backend_of(const IpAddress& ip) {
  if (auto row = out_.addresses.find(ip); row != out_.addresses.end() && row->second == CASA_ID_UNKNOWN)
    return {CASA_ID_UNKNOWN, {}, ip, 0};
  for (const Pod* pod : objects_.pods_at(ip)) {
    if (pod->finished || pod->host_network || !has_address(*pod, ip)) continue;
    const Workload& w = out_.workloads.at(workload_name(*pod));
    return {w.identity, w.name, {}, 0};
  }
  return {identity_of_plain(ip), {}, ip, 0};
}

void SnapshotBuilder::add_slice(const EndpointSlice& slice, const Service& service, ServiceInfo& info) {
  for (const auto& slice_port : slice.ports) {
    for (std::size_t i = 0; i < service.ports.size(); ++i) {
      // A slice's port is the target of the Service port of the same name; unnamed matches where there is one only.
      bool matches = slice_port.name == service.ports[i].name || (slice_port.name.empty() && service.ports.size() == 1);
      if (!matches || slice_port.protocol != service.ports[i].protocol) continue;
      for (const auto& endpoint : slice.endpoints) {
        const Pod* pod = endpoint.pod ? objects_.find<Pod>(*endpoint.pod) : nullptr;
        if (pod != nullptr) {
          if (!pod->finished) add_pod_backend(info.ports[i], *pod, slice_port.port);
          continue;
        }
        // In a cluster a Pod comes with its object, sooner or later; whose its address is cannot be told before.
        if (endpoint.pod && in_cluster()) continue;
        for (const auto& ip : endpoint.addresses) {
          Backend backend = backend_of(ip);
          backend.port = slice_port.port;
          add_backend(info.ports[i], std::move(backend));
        }
      }
    }
  }
}

void SnapshotBuilder::find_backends(const Service& service, ServiceInfo& info) {
  info.problem.clear();
  info.ports.clear();
  for (const auto& port : service.ports) info.ports.push_back({port.port, port.protocol, {}});
  add_selected(service, info);
  for (const auto& [name, slice] : objects_.slices_of(info.name)) add_slice(*slice, service, info);
  finish_service(service, info);
  for (auto& port : info.ports) std::ranges::sort(port.backends);
}

// A Service whose pods nobody describes stands, on a bare node, for the unit of its name.
void SnapshotBuilder::finish_service(const Service& service, ServiceInfo& info) {
  bool empty = std::ranges::all_of(info.ports, [](const auto& port) { return port.backends.empty(); });
  if (!empty) return;
  auto it = out_.workloads.find(info.name);
  if (in_cluster() || it == out_.workloads.end() || has_pods(info.name)) {
    info.problem = "has no endpoints: no Pod matches its selector and no EndpointSlice lists addresses";
    return;
  }
  for (std::size_t i = 0; i < info.ports.size(); ++i)
    add_backend(info.ports[i],
                {it->second.identity, it->second.name, {}, target_port(service.ports[i], it->second.ports)});
}

void SnapshotBuilder::find_services() {
  // All of their addresses before any backend: what is a Service's is no plain address.
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
      if (!claim(ip, info.identity)) tell_contested(ip, "service " + name.ns + "/" + name.name);
  });
  objects_.each<Service>([&](const Service& service) {
    if (service.external_name.empty()) find_backends(service, out_.services.at({service.meta.ns, service.meta.name}));
  });
  objects_.each<CasaPolicy>([&](const CasaPolicy& p) {
    for (const auto& endpoint : p.allowed_endpoints) add_implicit(endpoint.service);
  });
  objects_.each<MultiAgentSystem>([&](const MultiAgentSystem& m) {
    for (const auto& app : m.apps)
      if (app.type != policy::AppType::kClient) add_implicit({m.meta.ns, app.service});
  });
}

void SnapshotBuilder::add_implicit(const NamespacedName& name) {
  if (name.name.empty()) return;
  out_.used_services.insert(name);
  if (out_.services.contains(name)) return;
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

}  // namespace casa::identity

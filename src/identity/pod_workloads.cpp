// A workload out of its Pods: what it is, where its processes are, which addresses it has.
#include <fmt/format.h>

#include <algorithm>

#include "casa/abi/types.h"
#include "identity/labels.h"
#include "identity/snapshot_builder.h"

namespace casa::identity {

using policy::Pod;

Workload& SnapshotBuilder::workload(const NamespacedName& name, const std::string& kind) {
  auto [it, fresh] = out_.workloads.try_emplace(name);
  Workload& w = it->second;
  if (fresh) {
    w.identity = allocator_.number_of(NameKind::kWorkload, name.ns, name.name);
    w.name = name;
    w.exempt = out_.exempt_namespaces.contains(name.ns);
    w.managed = out_.mas_namespaces.contains(name.ns);
  }
  if (w.kind.empty() || w.kind == "Unit") w.kind = kind;
  return w;
}

NamespacedName SnapshotBuilder::workload_name(const Pod& pod) const {
  Owner owner = owner_of(pod);
  return out_.names.of(owner.name, owner.kind);
}

void SnapshotBuilder::add_pods(const Owner& owner, const ObjectSet::Pods& pods) {
  Workload& w = workload(out_.names.of(owner.name, owner.kind), owner.kind);
  for (const Pod* pod : pods) add_pod(w, *pod);
}

void SnapshotBuilder::add_pod(Workload& w, const Pod& pod) {
  if (is_disabled(pod.meta)) w.exempt = true;
  for (const auto& port : pod.ports)
    if (std::ranges::find(w.ports, port) == w.ports.end()) w.ports.push_back(port);
  if (!pod.finished && !pod.node.empty()) w.nodes.insert(pod.node);
  if (!is_here(pod)) return;
  if (!pod.cgroup.empty()) declare(w, {.path = pod.cgroup});
  if (!in_cluster() || pod.cgroup_uid.empty()) return;
  for (auto& path : pod_cgroup_paths(node_.cluster.kubepods, pod.cgroup_uid, pod.qos))
    declare(w, {.path = std::move(path), .is_pod = true});
  w.in_pods = w.in_pods || !pod.host_network;
  w.istio_proxy = w.istio_proxy || pod.istio_proxy;
  w.probe_ports.insert(pod.probe_ports.begin(), pod.probe_ports.end());
}

bool SnapshotBuilder::is_daemon(const Pod& pod) const {
  if (pod.meta.ns != node_.cluster.daemon_namespace || pod.finished) return false;
  auto name = pod.meta.labels.find("app.kubernetes.io/name");
  return name != pod.meta.labels.end() && name->second == "casad";
}

void SnapshotBuilder::find_enforcing_nodes() {
  out_.enforcing_nodes.reset();
  if (node_.cluster.daemon_namespace.empty()) return;
  objects_.each_in<Pod>(node_.cluster.daemon_namespace, [&](const Pod& pod) {
    if (!is_daemon(pod)) return;
    if (!out_.enforcing_nodes) out_.enforcing_nodes.emplace();
    if (pod.ready) out_.enforcing_nodes->insert(pod.node);
  });
}

void SnapshotBuilder::declare(Workload& w, DeclaredCgroup place) {
  auto [it, fresh] = out_.declared_by.try_emplace(place.path, w.name);
  if (!fresh && it->second != w.name) {
    out_.places_contested = true;
    out_.problems.push_back(fmt::format("cgroup {} is declared for {}/{} and for {}/{}: the first keeps it", place.path,
                                        it->second.ns, it->second.name, w.name.ns, w.name.name));
    return;
  }
  if (fresh) w.declared.push_back(std::move(place));
}

// A Pod whose object is gone may still run: it is who it was, as long as that very cgroup is there.
void SnapshotBuilder::keep_place(const PodPlace& place) {
  if (out_.declared_by.contains(place.cgroup.path)) return;
  auto cgroup = find_cgroup(node_.mount, place.cgroup.path);
  if (!cgroup || cgroup->id != place.cgroup.id) return;
  Workload& w = workload(place.workload, place.kind);
  w.instances.push_back(place.cgroup);
  w.in_pods = w.in_pods || place.in_pods;
  out_.pod_places.push_back(place);
}

void SnapshotBuilder::find_instances(Workload& w) {
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

bool SnapshotBuilder::claim(const IpAddress& ip, std::uint32_t identity) {
  if (ip.is_loopback()) return true;
  auto [it, fresh] = out_.addresses.try_emplace(ip, identity);
  if (fresh || it->second == identity || it->second == CASA_ID_UNKNOWN) return true;
  it->second = CASA_ID_UNKNOWN;
  return false;
}

void SnapshotBuilder::tell_contested(const IpAddress& ip, const std::string& whose) {
  out_.problems.push_back(
      fmt::format("address {} of {} belongs to somebody else too: it is unknown until one of them gives it up",
                  to_string(ip), whose));
}

// What a Pod on its way out had may belong to another one by now, or, of several such, to the first.
bool SnapshotBuilder::has_address(const Pod& pod, const IpAddress& ip) const {
  if (!pod.deleting) return true;
  for (const Pod* other : objects_.pods_at(ip)) {
    if (other == &pod || other->finished || other->host_network) continue;
    bool earlier = std::tie(other->meta.ns, other->meta.name) < std::tie(pod.meta.ns, pod.meta.name);
    if (!other->deleting || earlier) return false;
  }
  auto known = out_.addresses.find(ip);
  return known == out_.addresses.end() || known->second != CASA_ID_HOST;
}

void SnapshotBuilder::add_addresses(Workload& w, const ObjectSet::Pods& pods) {
  for (const Pod* pod : pods) {
    if (pod->finished || pod->host_network) continue;
    for (const auto& ip : pod->ips) {
      if (!has_address(*pod, ip)) continue;
      w.addresses.push_back(ip);
      if (in_cluster() && is_here(*pod)) w.addresses_here.push_back(ip);
      if (!claim(ip, w.identity)) tell_contested(ip, "pod " + pod->meta.ns + "/" + pod->meta.name);
    }
  }
}

// After the addresses of all. An address that is contested stands for nobody.
void SnapshotBuilder::add_host_identities(Workload& w, const ObjectSet::Pods& pods) {
  if (!w.managed) return;
  for (const Pod* pod : pods) {
    if (pod->finished || !pod->host_network) continue;
    for (const auto& ip : pod->ips)
      if (auto identity = identity_of_plain(ip); identity != CASA_ID_UNKNOWN) w.host_identities.insert(identity);
  }
}

void SnapshotBuilder::add_all_addresses(const Members& members) {
  auto workload_of = [&](const Owner& owner) -> Workload& {
    return out_.workloads.at(out_.names.of(owner.name, owner.kind));
  };
  for (const auto& [owner, pods] : members) add_addresses(workload_of(owner), *pods);
  for (const auto& [owner, pods] : members) add_host_identities(workload_of(owner), *pods);
}

// Of an address that is no workload's.
std::uint32_t SnapshotBuilder::identity_of_plain(const IpAddress& ip) {
  if (ip.is_loopback()) return CASA_ID_HOST;
  if (auto known = out_.addresses.find(ip); known != out_.addresses.end()) return known->second;
  std::uint32_t identity = allocator_.number_of(NameKind::kPrefix, "", to_string(ip));
  (void)claim(ip, identity);
  out_.plain_addresses.emplace(ip, identity);
  return identity;
}

}  // namespace casa::identity

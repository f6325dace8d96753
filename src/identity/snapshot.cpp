// Objects and cgroups become identities here. Order matters little: every step adds to maps keyed by name, and what is
// contradictory is left out and named in Snapshot::problems rather than guessed.
#include "identity/snapshot.h"

#include <algorithm>

#include "casa/abi/types.h"
#include "identity/labels.h"
#include "identity/snapshot_builder.h"

namespace casa::identity {
namespace {

using policy::CasaPolicy;
using policy::ClusterNode;
using policy::MultiAgentSystem;
using policy::Namespace;
using policy::Service;

constexpr std::uint16_t kDnsPort = 53;

}  // namespace

void SnapshotBuilder::build() {
  find_namespaces();
  find_names();
  find_workloads();
  find_addresses();
  find_services();
  find_cgroups();
  find_resolvers();
}

void SnapshotBuilder::add_mas_namespace(const std::string& ns) {
  auto& entry = out_.mas_namespaces[ns];
  if (entry.undeclared != 0) return;
  entry.undeclared = allocator_.number_of(NameKind::kUndeclared, ns, "");
  if (!in_cluster()) entry.slice = slice_path(ns);
}

void SnapshotBuilder::find_namespaces() {
  objects_.each<Namespace>([&](const Namespace& ns) {
    if (is_mas_label(ns.meta)) add_mas_namespace(ns.meta.name);
    if (is_disabled(ns.meta)) out_.exempt_namespaces.insert(ns.meta.name);
  });
  objects_.each<CasaPolicy>([&](const CasaPolicy& p) { add_mas_namespace(p.meta.ns); });
  objects_.each<MultiAgentSystem>([&](const MultiAgentSystem& m) { add_mas_namespace(m.meta.ns); });
  for (const auto& invalid : objects_.invalid()) add_mas_namespace(invalid.name.ns);
  for (const auto& ns : out_.exempt_namespaces) out_.mas_namespaces.erase(ns);
}

// On a bare node a workload is its unit, whatever kind a policy gives it.
void SnapshotBuilder::find_names() {
  if (!in_cluster()) return;
  objects_.each<CasaPolicy>([&](const CasaPolicy& p) {
    out_.names.add_target({p.meta.ns, p.target_name}, policy::to_string(p.target_kind));
  });
  for (const auto& [name, kinds] : objects_.owners())
    for (const auto& [kind, pods] : kinds) out_.names.add_owner({name, kind});
}

void SnapshotBuilder::find_workloads() {
  for (const auto& [name, kinds] : objects_.owners())
    for (const auto& [kind, pods] : kinds) add_pods({name, kind}, pods);
  find_enforcing_nodes();
  for (const auto& place : node_.cluster.pod_places) keep_place(place);
  mention_workloads();
  for (const auto& [name, kind] : out_.mentioned) workload(name, kind);
  for (auto& [name, w] : out_.workloads)
    if (w.exempt) w.managed = false;
}

void SnapshotBuilder::mention_workloads() {
  auto mention = [&](const NamespacedName& name, const std::string& kind) {
    auto& known = out_.mentioned.try_emplace(name, kind).first->second;
    if (known == "Unit") known = kind;
  };
  objects_.each<CasaPolicy>([&](const CasaPolicy& p) {
    // On a bare node a workload without a Pod object is a unit, whatever the policy calls it.
    bool as_said = in_cluster() || has_pods({p.meta.ns, p.target_name});
    mention(out_.target_of(p), as_said ? policy::to_string(p.target_kind) : "Unit");
    for (const auto& source : p.allowed_sources)
      if (const auto* name = std::get_if<NamespacedName>(&source.from)) mention(*name, "Unit");
  });
  for (const auto& invalid : objects_.invalid())
    if (!invalid.target_name.empty()) mention({invalid.name.ns, invalid.target_name}, "Unit");
  objects_.each<MultiAgentSystem>([&](const MultiAgentSystem& m) {
    for (const auto& app : m.apps) mention({m.meta.ns, app.kubernetes_workload_name}, "Unit");
  });
}

void SnapshotBuilder::find_addresses() {
  // A kube-proxy that uses IPVS gives its node the addresses of all Services: they stay the Services'.
  std::set<IpAddress> of_services;
  if (in_cluster())
    objects_.each<Service>([&](const Service& s) { of_services.insert(s.cluster_ips.begin(), s.cluster_ips.end()); });
  for (const auto& ip : node_.host_addresses)
    if (!of_services.contains(ip)) (void)claim(ip, CASA_ID_HOST);
  Members members;
  for (const auto& [name, kinds] : objects_.owners())
    for (const auto& [kind, pods] : kinds) members.emplace_back(Owner{name, kind}, &pods);
  add_all_addresses(members);
  objects_.each<ClusterNode>([&](const ClusterNode& node) {
    for (const auto& prefix : node.pod_networks) out_.pod_networks.emplace(prefix, node.meta.name);
  });
}

void SnapshotBuilder::find_cgroups() {
  for (auto& [name, w] : out_.workloads) {
    if (!in_cluster() && !has_pods(name)) {
      std::string unit = slice_path(name.ns) + "/" + name.name;
      w.declared.push_back({.path = unit + ".service"});
      w.declared.push_back({.path = unit + "@", .is_template = true});
    }
    find_instances(w);
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

// The node's resolvers, and the cluster's where there is one.
void SnapshotBuilder::find_resolvers() {
  out_.dns = node_.dns;
  out_.tokens = node_.tokens;
  auto cluster = out_.services.find(kClusterDns);
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

NamespacedName Snapshot::target_of(const CasaPolicy& p) const {
  return names.of({p.meta.ns, p.target_name}, policy::to_string(p.target_kind));
}

Snapshot build_snapshot(const ObjectSet& objects, const NodeFacts& node, Allocator& allocator) {
  Snapshot snapshot;
  SnapshotBuilder(objects, node, allocator, snapshot).build();
  return snapshot;
}

}  // namespace casa::identity

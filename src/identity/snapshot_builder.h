// How a Snapshot comes to be: made anew (snapshot.cpp), or brought from one set of objects to the next (follow.cpp) by the same steps for the
// workloads (pod_workloads.cpp) and Services (services.cpp) that are concerned. Of this room alone.
#pragma once

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "identity/snapshot.h"

namespace casa::identity {

class SnapshotBuilder {
 public:
  // Adds to `out`.
  SnapshotBuilder(const ObjectSet& objects, const NodeFacts& node, Allocator& allocator, Snapshot& out)
      : objects_(objects), node_(node), allocator_(allocator), out_(out) {}

  void build();

 private:
  friend class Follower;

  [[nodiscard]] bool in_cluster() const { return !node_.cluster.node_name.empty(); }
  // A bare node is the only one there is, whatever a Pod file says.
  [[nodiscard]] bool is_here(const policy::Pod& pod) const {
    return !in_cluster() || pod.node == node_.cluster.node_name;
  }

  void add_mas_namespace(const std::string& ns);
  void find_namespaces();
  void find_names();
  void find_workloads();
  void mention_workloads();
  void find_addresses();
  void find_cgroups();
  void find_resolvers();

  // pod_workloads.cpp
  Workload& workload(const NamespacedName& name, const std::string& kind);
  // The name that the snapshot has the Pod's owner under.
  [[nodiscard]] NamespacedName workload_name(const policy::Pod& pod) const;
  [[nodiscard]] bool has_pods(const NamespacedName& name) const { return objects_.owners().contains(name); }
  void add_pods(const Owner& owner, const ObjectSet::Pods& pods);
  void add_pod(Workload& w, const policy::Pod& pod);
  [[nodiscard]] bool is_daemon(const policy::Pod& pod) const;
  void find_enforcing_nodes();
  void declare(Workload& w, DeclaredCgroup place);
  void keep_place(const PodPlace& place);
  void find_instances(Workload& w);
  // False: it was another one's, and is unknown from now on.
  [[nodiscard]] bool claim(const IpAddress& ip, std::uint32_t identity);
  void tell_contested(const IpAddress& ip, const std::string& whose);
  [[nodiscard]] bool has_address(const policy::Pod& pod, const IpAddress& ip) const;
  void add_addresses(Workload& w, const ObjectSet::Pods& pods);
  void add_host_identities(Workload& w, const ObjectSet::Pods& pods);
  // An owner and its Pods; one kind of owner is one workload.
  using Members = std::vector<std::pair<Owner, const ObjectSet::Pods*>>;
  void add_all_addresses(const Members& members);
  [[nodiscard]] std::uint32_t identity_of_plain(const IpAddress& ip);

  // services.cpp
  // 0: none of the container ports has that name.
  [[nodiscard]] static std::uint16_t target_port(const policy::ServicePort& port,
                                                 const std::vector<policy::ContainerPort>& named);
  void find_services();
  void find_backends(const policy::Service& service, ServiceInfo& info);
  void add_pod_backend(ServiceInfo::Port& port, const policy::Pod& pod, std::uint16_t target);
  void add_selected(const policy::Service& service, ServiceInfo& info);
  void add_slice(const policy::EndpointSlice& slice, const policy::Service& service, ServiceInfo& info);
  [[nodiscard]] Backend backend_of(const IpAddress& ip);
  void finish_service(const policy::Service& service, ServiceInfo& info);
  void add_implicit(const NamespacedName& name);

  const ObjectSet& objects_;
  const NodeFacts& node_;
  Allocator& allocator_;
  Snapshot& out_;
};

}  // namespace casa::identity

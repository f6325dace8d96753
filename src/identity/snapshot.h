// Who is there: an immutable picture made of the objects and of the cgroups and addresses of this node. Policy is turned
// into map entries against it (compile/); nothing behind this room looks at a file system or an object again.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "identity/allocator.h"
#include "identity/cgroups.h"
#include "identity/kubepods.h"
#include "identity/object_set.h"
#include "identity/workload_names.h"
#include "policy/objects.h"

namespace casa::identity {

struct DeclaredCgroup {
  std::string path;  // below the enforcement root; with `is_template` ending in '@'
  bool is_template = false;
  bool is_pod = false;  // where kubelet puts a Pod
};

struct Workload {
  std::uint32_t identity = 0;
  NamespacedName name;
  std::string kind;      // Deployment, StatefulSet, Pod, Unit, or whatever owns its Pods
  bool managed = false;  // in a MAS namespace and not exempt: held to its policies
  bool exempt = false;   // casa.io/enforcement: disabled
  std::vector<DeclaredCgroup> declared;
  std::vector<CgroupInstance> instances;
  std::vector<IpAddress> addresses, addresses_here;  // of its Pods, and of those on this node
  std::vector<policy::ContainerPort> ports;
  std::set<std::string> nodes;          // of the cluster, that its Pods are on
  bool in_pods = false;                 // its instances are Pods of this node, each with a network namespace of its own
  bool istio_proxy = false;             // one of its Pods has Istio's proxy in it
  std::set<std::uint16_t> probe_ports;  // TCP, that this node's kubelet asks
  std::set<std::uint32_t> host_identities;  // of the addresses of nodes whose network its Pods use
};

struct MasNamespace {
  std::uint32_t undeclared = 0;  // subject of a cgroup in its slice that is no workload
  std::string slice;             // empty on a node of a cluster
  std::vector<CgroupInstance> instances;
};

// What an endpoint or a source that names a Service comes down to.
struct Backend {
  std::uint32_t identity = 0;
  NamespacedName workload;  // empty for an address that is no workload
  IpAddress address;        // of such an address
  std::uint16_t port = 0;   // target port; 0: the Service's own
  auto operator<=>(const Backend&) const = default;
};
struct ServiceInfo {
  NamespacedName name;
  bool implicit = false;  // no Service object: the workload of that name stands for it
  std::uint32_t identity = 0;
  std::vector<IpAddress> cluster_ips;
  struct Port {
    std::uint16_t port = 0;
    policy::Protocol protocol = policy::Protocol::kTcp;
    std::vector<Backend> backends;  // sorted
    bool operator==(const Port&) const = default;
  };
  std::vector<Port> ports;  // implicit: empty, any port is its own target
  std::string problem;      // why it resolves to nothing
};

// The Service of the cluster's own resolver.
inline const NamespacedName kClusterDns{"kube-system", "kube-dns"};
// The control plane of Istio.
inline const NamespacedName kIstiod{"istio-system", "istiod"};

// What this node's DNS is like, and whether the kernel can look into it.
struct DnsFacts {
  bool inspected = false;            // the programs that look at DNS and TLS are loaded
  std::vector<IpAddress> resolvers;  // trusted, at port 53
  std::vector<std::string> search;   // domains that stub resolvers append, without dots in front or behind
  std::string cluster_domain = "cluster.local";
};

// What becomes of tokens on this node.
struct TokenFacts {
  bool read = false;      // the programs that read requests are loaded
  bool verified = false;  // there are keys to check signatures with
};

// A Pod's cgroup on this node, and whose it is.
struct PodPlace {
  NamespacedName workload;
  std::string kind;
  bool in_pods = false;  // as Workload has it
  CgroupInstance cgroup;
};

struct Snapshot {
  std::map<NamespacedName, Workload> workloads;
  WorkloadNames names;
  std::map<std::string, MasNamespace> mas_namespaces;
  std::map<NamespacedName, ServiceInfo> services;
  std::map<IpAddress, std::uint32_t> addresses;  // pods, cluster IPs, backends, this host
  // Of them those that are nobody's in particular: each with an identity of its own.
  std::map<IpAddress, std::uint32_t> plain_addresses;
  std::map<IpPrefix, std::string> pod_networks;  // from which nodes give addresses to Pods: the Node's name
  std::uint32_t unknown_pod = 0;                 // strict: the subject of a Pod that nobody has told of yet, else 0
  std::vector<Kubepods> kubepods;                // on a node of a cluster
  std::vector<CgroupInstance> kubepods_cgroups;  // of them those that exist
  std::vector<PodPlace> pod_places;              // that exist, those of Pods that are gone already included
  // Nodes of the cluster with a Pod of casad's own that is ready; nothing when casad does not run in Pods.
  std::optional<std::set<std::string>> enforcing_nodes;
  // Namespaces with casa.io/enforcement: disabled.
  std::set<std::string> exempt_namespaces;
  // Workloads that policies, systems and sources name, whether they have Pods or not: with the kind that they are given there.
  std::map<NamespacedName, std::string> mentioned;
  std::set<NamespacedName> used_services;             // that policies and systems name
  std::map<std::string, NamespacedName> declared_by;  // of each declared cgroup: the workload that has it
  bool places_contested = false;                      // two workloads declare the same one
  DnsFacts dns;                                       // the cluster's own resolver included
  TokenFacts tokens;
  std::vector<std::string> problems;  // objects that contradict one another, one sentence each

  // The workload that a policy is about.
  [[nodiscard]] NamespacedName target_of(const policy::CasaPolicy& policy) const;
};

// What makes a node one of a Kubernetes cluster.
struct ClusterFacts {
  std::string node_name;           // as in spec.nodeName of its Pods; empty: a bare node, whose workloads are units
  std::string daemon_namespace;    // of casad's own Pods, which have the label app.kubernetes.io/name: casad
  bool strict = false;             // a Pod that is not known yet is denied everything
  std::vector<Kubepods> kubepods;  // find_kubepods()
  // Of the snapshot before: a Pod that is gone keeps its workload until its cgroup is gone too.
  std::vector<PodPlace> pod_places;
};

struct NodeFacts {
  CgroupMount mount;
  std::vector<IpAddress> host_addresses;  // without loopback
  DnsFacts dns;
  TokenFacts tokens;
  ClusterFacts cluster;
};

Snapshot build_snapshot(const ObjectSet& objects, const NodeFacts& node, Allocator& allocator);

}  // namespace casa::identity

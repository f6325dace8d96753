// Who is there: an immutable picture made of the objects and of the cgroups and addresses of this node. Policy is turned
// into map entries against it (compile/); nothing behind this room looks at a file system or an object again.
#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "identity/allocator.h"
#include "identity/cgroups.h"
#include "policy/objects.h"

namespace casa::identity {

using policy::NamespacedName;

// Every valid object in force, and the policies that are there but not valid.
struct InvalidPolicy {
  NamespacedName name;
  std::string target_name;
  std::string message;
  std::string origin;
};
struct ObjectSet {
  std::map<policy::ObjectKey, policy::Object> objects;
  std::vector<InvalidPolicy> invalid;
};

struct DeclaredCgroup {
  std::string path;  // below the enforcement root; with `is_template` ending in '@'
  bool is_template = false;
};

struct Workload {
  std::uint32_t identity = 0;
  NamespacedName name;
  std::string kind;      // Deployment, StatefulSet, Pod, Unit
  bool managed = false;  // in a MAS namespace and not exempt: held to its policies
  bool exempt = false;   // casa.io/enforcement: disabled
  std::vector<DeclaredCgroup> declared;
  std::vector<CgroupInstance> instances;
  std::vector<IpAddress> addresses;
  std::vector<policy::ContainerPort> ports;
};

struct MasNamespace {
  std::uint32_t undeclared = 0;  // subject of a cgroup in its slice that is no workload
  std::string slice;
  std::vector<CgroupInstance> instances;
};

// What an endpoint or a source that names a Service comes down to.
struct Backend {
  std::uint32_t identity = 0;
  NamespacedName workload;  // empty for an address that is no workload
  IpAddress address;        // of such an address
  std::uint16_t port = 0;   // target port; 0: the Service's own
};
struct ServiceInfo {
  NamespacedName name;
  bool implicit = false;  // no Service object: the workload of that name stands for it
  std::uint32_t identity = 0;
  std::vector<IpAddress> cluster_ips;
  struct Port {
    std::uint16_t port = 0;
    policy::Protocol protocol = policy::Protocol::kTcp;
    std::vector<Backend> backends;
  };
  std::vector<Port> ports;  // implicit: empty, any port is its own target
  std::string problem;      // why it resolves to nothing
};

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

struct Snapshot {
  std::map<NamespacedName, Workload> workloads;
  std::map<std::string, MasNamespace> mas_namespaces;
  std::map<NamespacedName, ServiceInfo> services;
  std::map<IpAddress, std::uint32_t> addresses;  // pods, cluster IPs, backends, this host
  DnsFacts dns;                                  // the cluster's own resolver included
  TokenFacts tokens;
  std::vector<std::string> problems;  // objects that contradict one another, one sentence each
};

struct NodeFacts {
  CgroupMount mount;
  std::vector<IpAddress> host_addresses;  // without loopback
  DnsFacts dns;
  TokenFacts tokens;
};

Snapshot build_snapshot(const ObjectSet& objects, const NodeFacts& node, Allocator& allocator);

}  // namespace casa::identity

// A Snapshot follows a few changes: what build_snapshot() would make of all objects, at the cost of the Pods and Services that are concerned.
// In a cluster of 100,000 Pods the one takes more than a tenth of a second, the other some microseconds.
#pragma once

#include <optional>
#include <set>
#include <string>

#include "identity/snapshot.h"

namespace casa::identity {

// What is different since.
struct Followed {
  std::set<NamespacedName> workloads;
  std::set<IpAddress> addresses;
  std::set<std::string> paths;      // of declared cgroups
  std::set<std::uint64_t> cgroups;  // ids
  // Something that rules are made of: what stands behind a Service that policies name, or what kind of workload one is.
  bool rules = false;
};

// `objects` are those after the changes. `places`: cgroups of this node came or went. Nothing, and the snapshot is as it was, when the
// changes reach further than a Pod's neighbours: a new snapshot is to be built then. That is so for all that is no Pod and no
// EndpointSlice; for a bare node; and where an address, a cgroup or a name has two owners, before or after.
std::optional<Followed> follow(const Changes& changes, bool places, const ObjectSet& objects, const NodeFacts& node,
                               Allocator& allocator, Snapshot& snapshot);

}  // namespace casa::identity

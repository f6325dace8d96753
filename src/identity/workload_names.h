// Which workload a Pod belongs to, and what it is called. A workload is known as namespace/name; where two of different kinds share that
// name (a Deployment and a Job), the one that policies can mean has it, and the other is called "job:<name>": neither inherits what
// belongs to the other.
#pragma once

#include <map>
#include <string>

#include "policy/objects.h"

namespace casa::identity {

using policy::NamespacedName;

// The Deployment, StatefulSet, Job, ... that a Pod is owned by, or the Pod itself.
struct Owner {
  NamespacedName name;
  std::string kind;
};
Owner owner_of(const policy::Pod& pod);

class WorkloadNames {
 public:
  // Whoever comes first has the name, a policy's target before any Pod; of Pods' owners the kinds in the order Deployment, StatefulSet, Pod,
  // the others.
  void add_target(const NamespacedName& name, const std::string& kind) { targets_.try_emplace(name, kind); }
  void add_owner(const Owner& owner);
  void forget_owner(const NamespacedName& name) { owners_.erase(name); }
  // Of the owners of that name the kind that has it; null: there is none.
  [[nodiscard]] const std::string* owner_kind(const NamespacedName& name) const {
    auto it = owners_.find(name);
    return it == owners_.end() ? nullptr : &it->second;
  }

  // The name under which Snapshot::workloads has it.
  [[nodiscard]] NamespacedName of(const NamespacedName& name, const std::string& kind) const;

 private:
  std::map<NamespacedName, std::string> targets_, owners_;  // name -> kind that has it
};

}  // namespace casa::identity

#include "identity/workload_names.h"

#include <algorithm>
#include <array>

namespace casa::identity {
namespace {

// Kinds that a policy's targetRef can name, the likeliest first.
std::size_t rank_of(const std::string& kind) {
  static constexpr std::array<std::string_view, 3> kKinds{"Deployment", "StatefulSet", "Pod"};
  return static_cast<std::size_t>(std::ranges::find(kKinds, kind) - kKinds.begin());
}

}  // namespace

Owner owner_of(const policy::Pod& pod) {
  for (const auto& owner : pod.meta.owners) {
    if (!owner.controller) continue;
    if (owner.kind == "ReplicaSet") {
      // A Deployment names its ReplicaSets after itself and the hash that it labels their Pods with.
      std::string name = owner.name;
      auto hash = pod.meta.labels.find("pod-template-hash");
      if (hash == pod.meta.labels.end() || !name.ends_with("-" + hash->second))
        return {{pod.meta.ns, std::move(name)}, owner.kind};
      name.resize(name.size() - hash->second.size() - 1);
      return {{pod.meta.ns, std::move(name)}, "Deployment"};
    }
    // The kubelet owns the mirrors of its static pods.
    if (owner.kind != "Node") return {{pod.meta.ns, owner.name}, owner.kind};
  }
  return {{pod.meta.ns, pod.meta.name}, "Pod"};
}

void WorkloadNames::add_owner(const Owner& owner) {
  auto [it, fresh] = owners_.try_emplace(owner.name, owner.kind);
  if (!fresh && it->second != owner.kind && rank_of(owner.kind) < rank_of(it->second)) it->second = owner.kind;
}

NamespacedName WorkloadNames::of(const NamespacedName& name, const std::string& kind) const {
  auto has = targets_.find(name);
  if (has == targets_.end()) {
    has = owners_.find(name);
    if (has == owners_.end()) return name;
  }
  if (has->second == kind) return name;
  std::string other = kind;
  std::ranges::transform(other, other.begin(),
                         [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c | 0x20) : c; });
  return {name.ns, other + ":" + name.name};
}

}  // namespace casa::identity

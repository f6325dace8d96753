// Where kubelet puts the cgroups of pods. A pod is found by its uid, whatever runs in it and whoever owns it.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "identity/cgroups.h"
#include "policy/objects.h"

namespace casa::identity {

// A kubelet's part of the cgroup tree. `root` lies below the enforcement root: "kubepods.slice", "kubepods", or what a kubelet with a cgroup
// root of its own makes of it: "kubelet.slice/kubelet-kubepods.slice", "kubelet/kubepods".
struct Kubepods {
  std::string root;
  bool systemd = false;  // kubelet's cgroup driver: systemd, else cgroupfs
  auto operator<=>(const Kubepods&) const = default;
};

// Those that exist; both usual ones while there is none, since a pod may come before kubelet's tree is looked for again.
std::vector<Kubepods> find_kubepods(const CgroupMount& mount);

// The pod's cgroup below the enforcement root, in each tree; where its class is not known, in the place of each class.
std::vector<std::string> pod_cgroup_paths(const std::vector<Kubepods>& trees, std::string_view uid,
                                          policy::QosClass qos);

// The cgroups of pods that exist, of whatever pods.
std::vector<CgroupInstance> find_pod_cgroups(const CgroupMount& mount, const std::vector<Kubepods>& trees);

}  // namespace casa::identity

#include "identity/kubepods.h"

#include <algorithm>
#include <array>
#include <filesystem>
#include <system_error>

namespace casa::identity {
namespace {

using policy::QosClass;

constexpr std::string_view kSlice = ".slice";

struct Class {
  QosClass qos;
  std::string_view name;  // guaranteed pods lie beside the directories of the other classes
};
constexpr std::array<Class, 3> kClasses{
    {{QosClass::kGuaranteed, ""}, {QosClass::kBurstable, "burstable"}, {QosClass::kBestEffort, "besteffort"}}};

// "kubelet.slice/kubelet-kubepods.slice" -> "kubelet-kubepods": what systemd's names below begin with.
std::string stem_of(const Kubepods& tree) {
  std::string_view name = tree.root;
  if (auto slash = name.rfind('/'); slash != std::string_view::npos) name.remove_prefix(slash + 1);
  if (name.ends_with(kSlice)) name.remove_suffix(kSlice.size());
  return std::string(name);
}

std::string class_directory(const Kubepods& tree, const Class& c) {
  if (c.name.empty()) return tree.root;
  return tree.systemd ? tree.root + "/" + stem_of(tree) + "-" + std::string(c.name) + std::string(kSlice)
                      : tree.root + "/" + std::string(c.name);
}

// What a pod's directory is called before its uid.
std::string pod_prefix(const Kubepods& tree, const Class& c) {
  if (!tree.systemd) return "pod";
  return c.name.empty() ? stem_of(tree) + "-pod" : stem_of(tree) + "-" + std::string(c.name) + "-pod";
}

}  // namespace

std::vector<Kubepods> find_kubepods(const CgroupMount& mount) {
  std::vector<Kubepods> found;
  for (const Kubepods& tree :
       {Kubepods{"kubepods.slice", true}, Kubepods{"kubepods", false},
        Kubepods{"kubelet.slice/kubelet-kubepods.slice", true}, Kubepods{"kubelet/kubepods", false}})
    if (find_cgroup(mount, tree.root)) found.push_back(tree);
  if (found.empty()) found = {{"kubepods.slice", true}, {"kubepods", false}};
  return found;
}

std::vector<std::string> pod_cgroup_paths(const std::vector<Kubepods>& trees, std::string_view uid, QosClass qos) {
  std::vector<std::string> paths;
  for (const auto& tree : trees) {
    // systemd takes a dash for a level, so kubelet writes underscores.
    std::string name(uid);
    if (tree.systemd) std::ranges::replace(name, '-', '_');
    for (const auto& c : kClasses) {
      if (qos != QosClass::kUnknown && qos != c.qos) continue;
      std::string path = class_directory(tree, c) + "/" + pod_prefix(tree, c) + name;
      paths.push_back(tree.systemd ? path + std::string(kSlice) : path);
    }
  }
  return paths;
}

std::vector<CgroupInstance> find_pod_cgroups(const CgroupMount& mount, const std::vector<Kubepods>& trees) {
  std::vector<CgroupInstance> found;
  for (const auto& tree : trees)
    for (const auto& c : kClasses) {
      std::string directory = class_directory(tree, c), prefix = pod_prefix(tree, c);
      std::error_code error;
      for (const auto& entry : std::filesystem::directory_iterator(mount.root + "/" + directory, error)) {
        std::string name = entry.path().filename();
        if (!name.starts_with(prefix)) continue;
        if (auto cgroup = find_cgroup(mount, directory + "/" + name)) found.push_back(std::move(*cgroup));
      }
    }
  return found;
}

}  // namespace casa::identity

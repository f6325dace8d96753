#include "identity/kubepods.h"

#include <dirent.h>

#include <algorithm>
#include <array>
#include <memory>

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

std::vector<std::string> directories_in(const std::string& path) {
  std::vector<std::string> found;
  std::unique_ptr<DIR, int (*)(DIR*)> dir(::opendir(path.c_str()), ::closedir);
  while (const dirent* entry = dir ? ::readdir(dir.get()) : nullptr)
    if (entry->d_name[0] != '.' && (entry->d_type == DT_DIR || entry->d_type == DT_UNKNOWN))
      found.emplace_back(entry->d_name);
  std::ranges::sort(found);
  return found;
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

std::vector<PodCgroup> list_pod_cgroups(const CgroupMount& mount, const std::vector<Kubepods>& trees) {
  std::vector<PodCgroup> found;
  for (const auto& tree : trees) {
    for (const auto& c : kClasses) {
      const std::string directory = class_directory(tree, c), prefix = pod_prefix(tree, c);
      for (const auto& name : directories_in(mount.root + "/" + directory)) {
        if (!name.starts_with(prefix) || (tree.systemd && !name.ends_with(kSlice))) continue;
        auto instance = find_cgroup(mount, directory + "/" + name);
        if (!instance) continue;
        std::string uid = name.substr(prefix.size());
        if (tree.systemd) {
          uid.resize(uid.size() - kSlice.size());
          std::ranges::replace(uid, '_', '-');
        }
        found.push_back({std::move(uid), std::move(*instance)});
      }
    }
  }
  return found;
}

}  // namespace casa::identity

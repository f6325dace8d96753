// Cgroups of a bare node: where a workload's processes are to be found, and which of those places exist now.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/error.h"

namespace casa::identity {

// The cgroup2 file system as this process sees it.
struct CgroupMount {
  std::string mount_point;  // "/sys/fs/cgroup" or "/sys/fs/cgroup/unified"
  std::string root;         // the enforcement root: the mount point or a directory below it
  std::string kernel_root;  // `root` as the kernel names it: "" for the mount point, else "/a/b"
  unsigned root_level = 0;  // number of components of kernel_root
};

// From /proc/self/mountinfo; `wanted_root` (--cgroup-root) may be empty. kUnsupported in a cgroup namespace, unless the
// mount is the host's: its paths would not be the kernel's.
Result<CgroupMount> find_cgroup_mount(const std::string& wanted_root);

// systemd's place of a slice: dashes nest, "team-a" is "team.slice/team-a.slice".
std::string slice_path(const std::string& ns);

struct CgroupInstance {
  std::string path;  // below the root, without a leading slash
  std::uint64_t id = 0;
  std::chrono::system_clock::time_point since;
};

// The cgroup at `path` below the root, or nothing when it is not there (or is no directory).
std::optional<CgroupInstance> find_cgroup(const CgroupMount& mount, const std::string& path);
// Instances of a template: directories `prefix*.service` where prefix is ".../name@".
std::vector<CgroupInstance> find_template_instances(const CgroupMount& mount, const std::string& prefix);

}  // namespace casa::identity

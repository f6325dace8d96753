#include "identity/cgroups.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#include <algorithm>
#include <climits>
#include <cstdlib>
#include <fstream>
#include <memory>
#include <sstream>

#include "base/fd.h"

namespace casa::identity {
namespace {

// The kernel's own numbers: cgroup2's real root is its first node, and the first cgroup namespace is born with it
// (PROC_CGROUP_INIT_INO, in the kernel's user API since 6.18).
constexpr ino_t kRealRoot = 1;
constexpr ino_t kHostsCgroupNamespace = 0xEFFFFFFB;

// In a cgroup namespace, /proc/self/mountinfo and a fresh mount tell paths from the namespace's root; the inode does not.
bool is_real_root(const std::string& dir) {
  struct stat st{};
  struct statfs fs{};
  return ::stat(dir.c_str(), &st) == 0 && st.st_ino == kRealRoot && ::statfs(dir.c_str(), &fs) == 0 &&
         static_cast<unsigned long>(fs.f_type) == CGROUP2_SUPER_MAGIC;
}

bool in_hosts_cgroup_namespace() {
  struct stat st{};
  return ::stat("/proc/self/ns/cgroup", &st) == 0 && st.st_ino == kHostsCgroupNamespace;
}

std::string unescape_octal(const std::string& text) {
  std::string out;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '\\' && i + 3 < text.size()) {
      out += static_cast<char>(std::stoi(text.substr(i + 1, 3), nullptr, 8));
      i += 3;
    } else {
      out += text[i];
    }
  }
  return out;
}

std::optional<CgroupInstance> stat_cgroup(int dir, const char* name, std::string path) {
  struct stat st{};
  if (::fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) != 0 || !S_ISDIR(st.st_mode)) return std::nullopt;
  // A cgroup2 directory's inode number is the cgroup's id on 64-bit kernels.
  auto since =
      std::chrono::system_clock::from_time_t(st.st_ctim.tv_sec) +
      std::chrono::duration_cast<std::chrono::system_clock::duration>(std::chrono::nanoseconds(st.st_ctim.tv_nsec));
  return CgroupInstance{std::move(path), st.st_ino, since};
}

}  // namespace

Result<CgroupMount> find_cgroup_mount(const std::string& wanted_root) {
  std::string wanted;
  if (!wanted_root.empty()) {
    char resolved[PATH_MAX];
    if (::realpath(wanted_root.c_str(), resolved) == nullptr) return fail_errno(errno, "cgroup root {}", wanted_root);
    wanted = resolved;
  }
  std::ifstream in("/proc/self/mountinfo");
  std::string line;
  CgroupMount best;
  std::string mounted_root;
  while (std::getline(in, line)) {
    auto dash = line.find(" - ");
    if (dash == std::string::npos || line.compare(dash + 3, 8, "cgroup2 ") != 0) continue;
    std::istringstream fields(line);
    std::string id, parent, device, root, point;
    fields >> id >> parent >> device >> root >> point;
    point = unescape_octal(point);
    bool covers = wanted.empty() || wanted == point || wanted.starts_with(point + "/");
    // Without a wish it is the whole tree, and never a part of it that is mounted somewhere.
    if (wanted.empty() && is_real_root(best.mount_point)) break;
    if (covers && (point.size() >= best.mount_point.size() || (wanted.empty() && is_real_root(point)))) {
      best.mount_point = point;
      mounted_root = unescape_octal(root);
    }
  }
  if (best.mount_point.empty())
    return wanted.empty()
               ? fail(ErrorCode::kUnsupported, "no cgroup2 file system is mounted (see /proc/self/mountinfo)")
               : fail(ErrorCode::kInvalidArgument, "{} is in no cgroup2 file system", wanted);
  if (is_real_root(best.mount_point)) {
    mounted_root = "/";
  } else if (!in_hosts_cgroup_namespace()) {
    return fail(
        ErrorCode::kUnsupported,
        "{} shows only the cgroup namespace that casad runs in, where the kernel's paths cannot be known; run casad "
        "in the host's cgroup namespace (of a container: --cgroupns=host), or mount the host's cgroup2 file system "
        "into the container and name it with --cgroup-root",
        best.mount_point);
  }
  best.root = wanted.empty() ? best.mount_point : wanted;
  if (mounted_root != "/") best.kernel_root = mounted_root;
  best.kernel_root += best.root.substr(best.mount_point.size());
  best.root_level = static_cast<unsigned>(std::ranges::count(best.kernel_root, '/'));
  return best;
}

std::string slice_path(const std::string& ns) {
  std::string path;
  for (std::size_t dash = ns.find('-'); dash != std::string::npos; dash = ns.find('-', dash + 1))
    path += ns.substr(0, dash) + ".slice/";
  return path + ns + ".slice";
}

std::optional<CgroupInstance> find_cgroup(const CgroupMount& mount, const std::string& path) {
  return stat_cgroup(AT_FDCWD, (mount.root + "/" + path).c_str(), path);
}

std::vector<CgroupInstance> find_template_instances(const CgroupMount& mount, const std::string& prefix) {
  std::vector<CgroupInstance> found;
  auto slash = prefix.rfind('/');
  std::string parent = slash == std::string::npos ? "" : prefix.substr(0, slash);
  std::string stem = slash == std::string::npos ? prefix : prefix.substr(slash + 1);
  std::unique_ptr<DIR, int (*)(DIR*)> dir(::opendir((mount.root + "/" + parent).c_str()), ::closedir);
  if (!dir) return found;
  while (const dirent* entry = ::readdir(dir.get())) {
    std::string name = entry->d_name;
    if (!name.starts_with(stem) || !name.ends_with(".service")) continue;
    if (auto instance = stat_cgroup(::dirfd(dir.get()), name.c_str(), parent.empty() ? name : parent + "/" + name))
      found.push_back(std::move(*instance));
  }
  std::ranges::sort(found, {}, &CgroupInstance::path);
  return found;
}

}  // namespace casa::identity

#include "datapath/pins.h"

#include <bpf/bpf.h>
#include <dirent.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <memory>

#include "casa/abi/limits.h"
#include "datapath/datapath.h"

namespace casa::datapath {
namespace {

std::vector<std::string> entries_of(const std::string& dir) {
  std::vector<std::string> names;
  std::unique_ptr<DIR, int (*)(DIR*)> handle(::opendir(dir.c_str()), ::closedir);
  if (!handle) return names;
  while (const dirent* entry = ::readdir(handle.get())) {
    std::string name = entry->d_name;
    if (name != "." && name != "..") names.push_back(std::move(name));
  }
  return names;
}

// A link whose last pin goes is detached by the kernel some time later; whoever is told that enforcement has ended may rely on it.
// Tracing links cannot be detached so: they decide nothing.
void detach_links(const std::string& dir) {
  for (const auto& name : entries_of(dir)) {
    Fd link(bpf_obj_get((dir + "/" + name).c_str()));
    if (link) (void)bpf_link_detach(link.get());
  }
}

Status remove_files(const std::string& dir) {
  for (const auto& name : entries_of(dir)) {
    std::string path = dir + "/" + name;
    struct stat st{};
    if (::lstat(path.c_str(), &st) == 0 && S_ISDIR(st.st_mode)) continue;
    if (::unlink(path.c_str()) != 0 && errno != ENOENT) return fail_errno(errno, "cannot unpin {}", path);
  }
  return {};
}

}  // namespace

std::string abi_dir(const std::string& bpffs) { return fmt::format("{}/abi-{}", bpffs, CASA_ABI_VERSION); }

Result<Fd> lock_pins(const std::string& bpffs) {
  if (::mkdir(bpffs.c_str(), 0700) != 0 && errno != EEXIST)
    return fail_errno(errno, "cannot make the pin directory {}", bpffs);
  struct statfs fs{};
  if (::statfs(bpffs.c_str(), &fs) != 0) return fail_errno(errno, "cannot look at {}", bpffs);
  if (static_cast<unsigned long>(fs.f_type) != BPF_FS_MAGIC)
    return fail(ErrorCode::kInvalidArgument, "{} is in no bpf file system; mount one: mount -t bpf bpf /sys/fs/bpf",
                bpffs);
  Fd fd(::open(bpffs.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!fd) return fail_errno(errno, "cannot open {}", bpffs);
  if (::flock(fd.get(), LOCK_EX | LOCK_NB) != 0) {
    if (errno == EWOULDBLOCK)
      return fail(ErrorCode::kBusy, "another casad holds {}; only one can run on these pins", bpffs);
    return fail_errno(errno, "cannot lock {}", bpffs);
  }
  return fd;
}

std::vector<std::string> other_abi_dirs(const std::string& bpffs) {
  std::vector<std::string> dirs;
  for (const auto& name : entries_of(bpffs))
    if (name.starts_with("abi-") && bpffs + "/" + name != abi_dir(bpffs)) dirs.push_back(bpffs + "/" + name);
  return dirs;
}

Status remove_pins(const std::string& dir) {
  detach_links(dir + "/links");
  TRY(remove_files(dir + "/links"));
  if (::rmdir((dir + "/links").c_str()) != 0 && errno != ENOENT)
    return fail_errno(errno, "cannot remove {}/links", dir);
  TRY(remove_files(dir));
  if (::rmdir(dir.c_str()) != 0 && errno != ENOENT) return fail_errno(errno, "cannot remove {}", dir);
  return {};
}

Status detach(const std::string& bpffs) {
  struct stat st{};
  if (::stat(bpffs.c_str(), &st) != 0)
    return fail(ErrorCode::kNotFound, "nothing is pinned under {}: nothing is enforced from there", bpffs);
  TRY_ASSIGN(Fd lock, lock_pins(bpffs));
  std::vector<std::string> dirs = other_abi_dirs(bpffs);
  dirs.push_back(abi_dir(bpffs));
  for (const auto& dir : dirs) {
    if (::stat(dir.c_str(), &st) != 0) continue;
    TRY(remove_pins(dir));
  }
  lock.reset();
  if (::rmdir(bpffs.c_str()) != 0) return fail_errno(errno, "enforcement has ended, but {} cannot be removed", bpffs);
  return {};
}

}  // namespace casa::datapath

#include "observe/process_files.h"

#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include <filesystem>
#include <fstream>
#include <set>

namespace casa::observe {
namespace {

constexpr std::size_t kMaxLibraries = 16, kMaxLine = 8192, kMaxMappings = 65536;

bool is_regular(int fd) {
  struct stat st{};
  return ::fstat(fd, &st) == 0 && S_ISREG(st.st_mode);
}

// In the process's own root, whatever symbolic links say. A FIFO must not hold us up.
Fd open_inside(int root, const std::string& path) {
  open_how how{};
  how.flags = O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY;
  how.resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS;
  Fd fd(static_cast<int>(::syscall(SYS_openat2, root, path.c_str(), &how, sizeof how)));
  return fd && is_regular(fd.get()) ? std::move(fd) : Fd();
}

// libssl.so.3, libssl-1a2b3c.so.1.1 (as Python's wheels carry it); ld-linux-x86-64.so.2, ld-musl-x86_64.so.1, ld-2.31.so
bool role_of(const std::string& path, FileRole& role) {
  std::string_view name = std::string_view(path).substr(path.rfind('/') + 1);
  if (name.find(".so") == std::string_view::npos) return false;
  if (name.starts_with("libssl")) role = FileRole::kTlsLibrary;
  else if (name.starts_with("ld-")) role = FileRole::kLinker;
  else return false;
  return true;
}

// "55d0c7a5a000-55d0c7a5c000 r-xp 00002000 fe:01 1234   /usr/bin/x": the path of a mapping that can be executed.
std::string executed_path(const std::string& line) {
  auto space = line.find(' ');
  if (space == std::string::npos || line.size() < space + 5 || line[space + 3] != 'x') return {};
  auto path = line.find('/', space);
  if (path == std::string::npos || line.ends_with(" (deleted)")) return {};
  return line.substr(path);
}

}  // namespace

Result<std::vector<ProcessFile>> files_of_process(int pid) {
  std::string dir = "/proc/" + std::to_string(pid);
  std::vector<ProcessFile> files;
  Fd executable(::open((dir + "/exe").c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY));
  if (!executable && (errno == ENOENT || errno == ESRCH))
    return fail(ErrorCode::kNotFound, "process {} is gone", pid);  // or a thread of the kernel, which runs no file
  if (!executable) return fail_errno(errno, "cannot look at the files of process {}", pid);
  std::error_code no_name;
  std::string name = std::filesystem::read_symlink(dir + "/exe", no_name).string();
  if (is_regular(executable.get())) files.push_back({FileRole::kExecutable, name, std::move(executable)});
  Fd root(::open((dir + "/root").c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
  if (!root && (errno == ENOENT || errno == ESRCH)) return fail(ErrorCode::kNotFound, "process {} is gone", pid);
  if (!root) return fail_errno(errno, "cannot look at the files of process {}", pid);
  std::ifstream maps(dir + "/maps");
  std::set<std::string> seen;
  std::string line;
  for (std::size_t i = 0; i < kMaxMappings && std::getline(maps, line) && seen.size() < kMaxLibraries; ++i) {
    if (line.size() > kMaxLine) continue;
    std::string path = executed_path(line);
    FileRole role{};
    if (path.empty() || !role_of(path, role) || !seen.insert(path).second) continue;
    if (Fd fd = open_inside(root.get(), path)) files.push_back({role, path, std::move(fd)});
  }
  return files;
}

std::vector<int> processes_below(const std::string& cgroup_dir) {
  std::vector<int> found;
  std::vector<std::string> dirs{cgroup_dir};
  while (!dirs.empty()) {
    std::string dir = std::move(dirs.back());
    dirs.pop_back();
    std::ifstream in(dir + "/cgroup.procs");
    for (int pid = 0; in >> pid;)
      if (pid > 0) found.push_back(pid);
    std::error_code error;
    for (auto it = std::filesystem::directory_iterator(dir, error);
         !error && it != std::filesystem::directory_iterator(); it.increment(error)) {
      std::error_code ignored;
      if (it->is_directory(ignored) && !it->is_symlink(ignored)) dirs.push_back(it->path().string());
    }
  }
  return found;
}

}  // namespace casa::observe

// See socket_file.h.
#include "api/socket_file.h"

#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <cerrno>
#include <filesystem>
#include <fstream>

#include "base/log.h"
#include "base/text.h"

namespace casa::api {
namespace {

namespace fs = std::filesystem;

constexpr int kBacklog = 256;

Result<sockaddr_un> make_address(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.empty() || path.find('\0') != std::string::npos)
    return fail(ErrorCode::kInvalidArgument, "the API socket needs a path");
  if (path.size() >= sizeof(address.sun_path))
    return fail(ErrorCode::kInvalidArgument, "the API socket's path {} has {} bytes; the system takes {} at most", path,
                path.size(), sizeof(address.sun_path) - 1);
  path.copy(address.sun_path, path.size());
  return address;
}

Result<Fd> open_socket() {
  Fd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (!fd) return fail_errno(errno, "cannot open a Unix socket");
  return fd;
}

Status make_directory(const fs::path& directory) {
  if (directory.empty()) return {};
  std::error_code ec;
  if (fs::is_directory(directory, ec)) return {};
  TRY(make_directory(directory.parent_path()));
  if (::mkdir(directory.c_str(), 0755) != 0 && errno != EEXIST)
    return fail_errno(errno, "cannot make the directory {} for the API socket", directory.string());
  ::chmod(directory.c_str(), 0755);  // whatever the umask took
  return {};
}

// Nothing, or a socket that nobody listens on, may stand at the path when this returns well.
Status clear_path(const std::string& path, const sockaddr_un& address) {
  struct stat before{};
  if (::lstat(path.c_str(), &before) != 0) {
    if (errno == ENOENT) return {};
    return fail_errno(errno, "cannot look at the API socket {}", path);
  }
  if (!S_ISSOCK(before.st_mode))
    return fail(ErrorCode::kInvalidArgument,
                "{} exists and is not a socket; move it away, or name another path with --api-socket", path);
  TRY_ASSIGN(Fd probe, open_socket());
  bool is_served = ::connect(probe.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) == 0;
  if (!is_served && errno == ENOENT) return {};  // it went meanwhile
  if (is_served || errno != ECONNREFUSED)
    return fail(
        ErrorCode::kBusy,
        "somebody serves {} already; is another casad running? stop it first, or name another path with --api-socket",
        path);
  struct stat now{};
  if (::lstat(path.c_str(), &now) != 0 || now.st_ino != before.st_ino || now.st_dev != before.st_dev)
    return fail(ErrorCode::kBusy, "{} changed while it was looked at; is another casad starting?", path);
  if (::unlink(path.c_str()) != 0) return fail_errno(errno, "cannot remove the stale API socket {}", path);
  return {};
}

void set_group(const std::string& path, const std::string& group) {
  if (group.empty()) return;
  auto gid = find_group(group);
  if (!gid) return;
  if (::lchown(path.c_str(), static_cast<uid_t>(-1), *gid) != 0)
    spdlog::warn("the API socket {} stays with the daemon's own group: cannot give it to {}: {}", path, group,
                 std::strerror(errno));
}

}  // namespace

std::optional<gid_t> find_group(const std::string& name, const std::string& file) {
  std::ifstream in(file);
  for (std::string line; std::getline(in, line);) {
    auto first = line.find(':');
    if (first == std::string::npos || line.compare(0, first, name) != 0) continue;
    auto second = line.find(':', first + 1);
    if (second == std::string::npos) continue;
    auto third = line.find(':', second + 1);
    auto number =
        parse_number(std::string_view(line).substr(second + 1, third == std::string::npos ? third : third - second - 1),
                     UINT32_MAX - 1);
    if (number) return static_cast<gid_t>(*number);
  }
  return std::nullopt;
}

Result<SocketFile> SocketFile::create(const std::string& given, mode_t mode, const std::string& group) {
  std::error_code ec;
  std::string path = given.empty() ? given : fs::absolute(given, ec).lexically_normal().string();
  TRY_ASSIGN(sockaddr_un address, make_address(path));
  TRY(make_directory(fs::path(path).parent_path()));
  TRY(clear_path(path, address));
  TRY_ASSIGN(Fd fd, open_socket());

  // Nobody but the owner may reach it until mode and group are as asked; connecting fails before listen() anyway.
  mode_t old_mask = ::umask(0177);
  int bound = ::bind(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address));
  int bind_error = errno;
  ::umask(old_mask);
  if (bound != 0 && bind_error == EADDRINUSE)
    return fail(ErrorCode::kBusy, "somebody else took {} just now; is another casad starting?", path);
  if (bound != 0) return fail_errno(bind_error, "cannot bind the API socket {}", path);

  struct stat info{};
  if (::lstat(path.c_str(), &info) != 0) return fail_errno(errno, "cannot look at the API socket {}", path);
  SocketFile socket(std::move(fd), path, info.st_dev, info.st_ino);
  set_group(path, group);
  if (::chmod(path.c_str(), mode) != 0 || ::listen(socket.fd_.get(), kBacklog) != 0) {
    int err = errno;
    socket.remove();
    return fail_errno(err, "cannot serve the API socket {}", path);
  }
  return socket;
}

void SocketFile::remove() const {
  struct stat now{};
  if (::lstat(path_.c_str(), &now) == 0 && now.st_dev == device_ && now.st_ino == inode_) ::unlink(path_.c_str());
}

}  // namespace casa::api

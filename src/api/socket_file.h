// The Unix socket as a file: taking its path over when nobody answers there, its mode and group, and removing it
// again only while it is still ours. No protocol here.
#pragma once

#include <sys/types.h>

#include <optional>
#include <string>

#include "base/error.h"
#include "base/fd.h"

namespace casa::api {

class SocketFile {
 public:
  // A listening, non-blocking socket at `path`; the directory is made (0755) when it is missing. `group` is used when
  // /etc/group has it. kBusy when somebody answers there; kInvalidArgument when the path cannot be a socket's.
  static Result<SocketFile> create(const std::string& path, mode_t mode, const std::string& group);

  SocketFile(SocketFile&&) = default;
  SocketFile& operator=(SocketFile&&) = default;

  [[nodiscard]] int release() { return fd_.release(); }
  [[nodiscard]] const std::string& path() const { return path_; }
  // Removes the file, unless another one stands there by now.
  void remove() const;

 private:
  SocketFile(Fd fd, std::string path, dev_t device, ino_t inode)
      : fd_(std::move(fd)), path_(std::move(path)), device_(device), inode_(inode) {}

  Fd fd_;
  std::string path_;
  dev_t device_;
  ino_t inode_;
};

// The group's number in a file of group(5)'s form. Read by hand: getgrnam() needs shared objects that a static binary
// does not have.
std::optional<gid_t> find_group(const std::string& name, const std::string& file = "/etc/group");

}  // namespace casa::api

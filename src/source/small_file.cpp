#include "source/small_file.h"

#include <fcntl.h>
#include <sys/stat.h>

#include "base/fd.h"

namespace casa::source {

Result<std::string> read_small_file(const std::string& path, std::size_t most) {
  Fd fd(::open(path.c_str(), O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC));
  struct stat st{};
  if (!fd || ::fstat(fd.get(), &st) != 0) return fail_errno(errno, "cannot read {}", path);
  if (!S_ISREG(st.st_mode)) return fail(ErrorCode::kInvalidArgument, "{} is not a regular file", path);
  std::string bytes;
  while (bytes.size() <= most) {
    constexpr std::size_t kStep = 16 * 1024;
    std::size_t have = bytes.size();
    bytes.resize(have + kStep);
    ssize_t n = ::read(fd.get(), bytes.data() + have, kStep);
    if (n < 0 && errno != EINTR) return fail_errno(errno, "cannot read {}", path);
    bytes.resize(have + static_cast<std::size_t>(n < 0 ? 0 : n));
    if (n == 0) return bytes;
  }
  return fail(ErrorCode::kLimit, "{} is larger than {} bytes", path, most);
}

}  // namespace casa::source

// Reads one document. See document_file.h; the only place that opens files of the policy directory.
#include "source/document_file.h"

#include <fcntl.h>
#include <openssl/evp.h>
#include <unistd.h>

#include "base/fd.h"

namespace casa::source {
namespace {

constexpr int kAttempts = 5;

std::int64_t nanoseconds(const struct timespec& t) { return std::int64_t{t.tv_sec} * 1'000'000'000 + t.tv_nsec; }

const char* kind_of(mode_t mode) {
  if (S_ISFIFO(mode)) return "a FIFO";
  if (S_ISSOCK(mode)) return "a socket";
  if (S_ISDIR(mode)) return "a directory";
  return "a device";
}

Status check_kind(const std::string& path, const struct stat& st, std::size_t max_bytes) {
  if (!S_ISREG(st.st_mode))
    return fail(ErrorCode::kInvalidArgument, "{} is {}, not a regular file", path, kind_of(st.st_mode));
  if (static_cast<std::uint64_t>(st.st_size) > max_bytes)
    return fail(ErrorCode::kLimit, "{} has more than {} bytes; split it into several files", path, max_bytes);
  return {};
}

// Everything from the start of the file; one byte more than `expected` at most, which tells that it has grown.
Result<std::string> read_all(int fd, const std::string& path, std::size_t expected) {
  std::string bytes(expected + 1, '\0');
  std::size_t have = 0;
  while (have < bytes.size()) {
    ssize_t n = pread(fd, bytes.data() + have, bytes.size() - have, static_cast<off_t>(have));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return fail_errno(errno, "cannot read {}", path);
    if (n == 0) break;
    have += static_cast<std::size_t>(n);
  }
  bytes.resize(have);
  return bytes;
}

Status digest_of(const std::string& bytes, Digest& digest) {
  // Fetched once: the look-up costs as much as the hash of a small file.
  static EVP_MD* const sha256 = EVP_MD_fetch(nullptr, "SHA256", nullptr);
  unsigned length = 0;
  if (sha256 == nullptr || EVP_Digest(bytes.data(), bytes.size(), digest.data(), &length, sha256, nullptr) != 1)
    return fail(ErrorCode::kInternal, "SHA-256 is not available from libcrypto");
  return {};
}

}  // namespace

bool is_document_name(std::string_view name) {
  if (name.empty() || name.front() == '.') return false;
  return name.ends_with(".yaml") || name.ends_with(".yml") || name.ends_with(".json");
}

Format format_of(std::string_view name) { return name.ends_with(".json") ? Format::kJson : Format::kYaml; }

Stamp stamp_of(const struct stat& st) {
  return {st.st_dev, st.st_ino, static_cast<std::uint64_t>(st.st_size), nanoseconds(st.st_mtim),
          nanoseconds(st.st_ctim)};
}

Result<FileContent> read_document(const std::string& path, std::size_t max_bytes) {
  // Looked at before it is opened: opening a device can have effects.
  struct stat st{};
  if (stat(path.c_str(), &st) != 0) {
    if (errno == ENOENT || errno == ENOTDIR) return fail(ErrorCode::kNotFound, "{} is not there", path);
    return fail_errno(errno, "cannot read {}", path);
  }
  TRY(check_kind(path, st, max_bytes));
  Fd fd(open(path.c_str(), O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC));
  if (!fd) {
    if (errno == ENOENT || errno == ENOTDIR) return fail(ErrorCode::kNotFound, "{} is not there", path);
    return fail_errno(errno, "cannot read {}", path);
  }
  FileContent content;
  for (int attempt = 0; attempt < kAttempts; ++attempt) {
    if (fstat(fd.get(), &st) != 0) return fail_errno(errno, "cannot read {}", path);
    TRY(check_kind(path, st, max_bytes));
    content.stamp = stamp_of(st);
    TRY_ASSIGN(content.bytes, read_all(fd.get(), path, content.stamp.size));
    if (fstat(fd.get(), &st) != 0) return fail_errno(errno, "cannot read {}", path);
    if (stamp_of(st) != content.stamp || content.bytes.size() != content.stamp.size) continue;
    TRY(digest_of(content.bytes, content.digest));
    return content;
  }
  return fail(ErrorCode::kBusy, "{} keeps changing while it is read", path);
}

}  // namespace casa::source

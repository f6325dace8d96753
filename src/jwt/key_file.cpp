// A key set in a file. It is looked at every other second, not watched: what is swapped by a link above it, or lies on a file system of
// another machine, is seen the same way, and keys do not change in a hurry. A file that is being written is read again when it is whole.
#include <fcntl.h>
#include <sys/stat.h>

#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <optional>
#include <tuple>

#include "base/fd.h"
#include "jwt/key_source.h"

namespace casa::jwt {
namespace {

using Stamp = std::tuple<dev_t, ino_t, off_t, std::int64_t, std::int64_t>;

Stamp stamp_of(const struct stat& st) {
  auto ns = [](const timespec& time) { return std::int64_t{time.tv_sec} * 1'000'000'000 + time.tv_nsec; };
  return {st.st_dev, st.st_ino, st.st_size, ns(st.st_mtim), ns(st.st_ctim)};
}

Result<std::string> read_open(const Fd& fd, const std::string& path) {
  std::string bytes(kMaxKeySetBytes + 1, '\0');
  std::size_t have = 0;
  while (have < bytes.size()) {
    ssize_t n = ::read(fd.get(), bytes.data() + have, bytes.size() - have);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return fail_errno(errno, "cannot read {}", path);
    if (n == 0) break;
    have += static_cast<std::size_t>(n);
  }
  bytes.resize(have);
  return bytes;
}

class KeyFile final : public KeySource {
 public:
  KeyFile(boost::asio::io_context& io, const Location& location, OnKeys on_keys, OnProblem on_problem,
          const KeySourceOptions& options)
      : impl_(std::make_shared<Impl>(io, location, std::move(on_keys), std::move(on_problem), options)) {}
  ~KeyFile() override { impl_->stopped = true; }

  void start() override {
    boost::asio::post(impl_->io, [self = impl_] { self->look(); });
  }
  void stop() override {
    impl_->stopped = true;
    impl_->timer.cancel();
  }

 private:
  struct Impl : std::enable_shared_from_this<Impl> {
    Impl(boost::asio::io_context& context, const Location& location, OnKeys keys, OnProblem problem,
         const KeySourceOptions& options)
        : io(context),
          path(location.path),
          on_keys(std::move(keys)),
          on_problem(std::move(problem)),
          period(options.file_period),
          timer(context) {}

    void look() {
      if (stopped) return;
      timer.expires_after(period);
      timer.async_wait([self = shared_from_this()](boost::system::error_code ec) {
        if (!ec) self->look();
      });
      if (Status done = read_if_changed(); !done) {
        seen.reset();
        on_problem(done.error().context + (good ? "; the keys that were read last are used on" : ""));
      }
    }

    Status read_if_changed() {
      Fd fd(::open(path.c_str(), O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC));
      struct stat st{};
      if (!fd || ::fstat(fd.get(), &st) != 0) return fail_errno(errno, "cannot read the keys in {}", path);
      if (!S_ISREG(st.st_mode)) return fail(ErrorCode::kInvalidArgument, "{} is not a regular file", path);
      if (seen == stamp_of(st)) return {};
      TRY_ASSIGN(std::string bytes, read_open(fd, path));
      auto keys = parse_key_set(bytes);
      if (!keys) return fail(keys.error().code, "{}: {}", path, keys.error().context);
      seen = stamp_of(st);
      good = true;
      on_problem("");
      if (!stopped) on_keys(std::make_shared<const KeySet>(std::move(*keys)));
      return {};
    }

    boost::asio::io_context& io;
    const std::string path;
    const OnKeys on_keys;
    const OnProblem on_problem;
    const std::chrono::milliseconds period;
    boost::asio::steady_timer timer;
    std::optional<Stamp> seen;  // of the last good reading
    bool good = false, stopped = false;
  };
  std::shared_ptr<Impl> impl_;  // shared with a wait under way
};

}  // namespace

std::unique_ptr<KeySource> make_key_file(boost::asio::io_context& io, const Location& location,
                                         KeySource::OnKeys on_keys, KeySource::OnProblem on_problem,
                                         const KeySourceOptions& options) {
  return std::make_unique<KeyFile>(io, location, std::move(on_keys), std::move(on_problem), options);
}

std::unique_ptr<KeySource> KeySource::make(boost::asio::io_context& io, const Location& location, OnKeys on_keys,
                                           OnProblem on_problem, KeySourceOptions options) {
  auto* made = location.kind == Location::Kind::kFile ? make_key_file : make_key_url;
  return made(io, location, std::move(on_keys), std::move(on_problem), options);
}

}  // namespace casa::jwt

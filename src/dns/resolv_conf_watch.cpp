#include "dns/resolv_conf_watch.h"

#include <fcntl.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <filesystem>
#include <optional>
#include <set>
#include <utility>

#include "base/fd.h"

namespace casa::dns {
namespace {

using Clock = std::chrono::steady_clock;

// As deep as links to links are followed; the kernel stops at 40.
constexpr int kMaxLinks = 8;
// Events taken from the kernel in one go.
constexpr int kReadsAtOnce = 64;
constexpr std::uint32_t kEvents =
    IN_CLOSE_WRITE | IN_CREATE | IN_MOVED_TO | IN_MOVED_FROM | IN_DELETE | IN_ATTRIB | IN_DELETE_SELF | IN_MOVE_SELF;

// Never blocks on what is not a regular file. One byte more than the parser looks at is enough to read.
Result<std::string> read_file(const std::string& path) {
  Fd fd(open(path.c_str(), O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC));
  struct stat st{};
  if (!fd || fstat(fd.get(), &st) != 0) return fail_errno(errno, "cannot read {}", path);
  if (!S_ISREG(st.st_mode)) return fail(ErrorCode::kInvalidArgument, "{} is not a regular file", path);
  std::string bytes(kMaxResolvConfBytes + 1, '\0');
  std::size_t have = 0;
  while (have < bytes.size()) {
    ssize_t n = read(fd.get(), bytes.data() + have, bytes.size() - have);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return fail_errno(errno, "cannot read {}", path);
    if (n == 0) break;
    have += static_cast<std::size_t>(n);
  }
  if (have > kMaxResolvConfBytes)
    return fail(ErrorCode::kLimit, "{} has more than {} bytes", path, kMaxResolvConfBytes);
  bytes.resize(have);
  return bytes;
}

std::string absolute_path(const std::string& path) {
  std::error_code ec;
  auto absolute = std::filesystem::absolute(path, ec).string();
  return ec ? path : absolute;
}

// The directories in which an event can mean another content of `path`: its own, and that of each link's target.
std::set<std::string> directories_of(std::filesystem::path path) {
  std::set<std::string> directories;
  for (int i = 0; i < kMaxLinks; ++i) {
    auto directory = path.parent_path();
    directories.insert(directory.string());
    std::error_code ec;
    // A directory on the way can be a link as well, and be swapped: `..data/resolv.conf` in a Kubernetes volume.
    for (auto above = directory; above.has_relative_path(); above = above.parent_path())
      if (std::filesystem::is_symlink(above, ec)) directories.insert(above.parent_path().string());
    auto target = std::filesystem::read_symlink(path, ec);
    if (ec) break;
    path = target.is_absolute() ? target : directory / target;
  }
  return directories;
}

}  // namespace

class ResolvConfWatch::Impl : public std::enable_shared_from_this<Impl> {
 public:
  Impl(boost::asio::io_context& io, const std::string& path, OnChange on_change, OnProblem on_problem,
       const ResolvConfWatchOptions& options)
      : io_(io),
        path_(absolute_path(path)),
        on_change_(std::move(on_change)),
        on_problem_(std::move(on_problem)),
        options_(options),
        inotify_(io),
        timer_(io) {}

  Status start();
  void stop();

 private:
  void listen();
  bool drain();
  void wait_until(Clock::time_point time);
  void look();
  void watch();
  void report(const std::string& problem);

  boost::asio::io_context& io_;
  const std::string path_;
  OnChange on_change_;
  OnProblem on_problem_;
  const ResolvConfWatchOptions options_;
  boost::asio::posix::stream_descriptor inotify_;
  boost::asio::steady_timer timer_;  // the next look
  std::set<int> watches_;
  std::optional<Clock::time_point> first_event_;  // since the last look
  std::optional<Clock::time_point> empty_since_;  // it names no server, but did
  std::optional<ResolvConf> told_;
  std::string problem_;
  bool stopped_ = false;
};

Status ResolvConfWatch::Impl::start() {
  Fd fd(inotify_init1(IN_NONBLOCK | IN_CLOEXEC));
  if (!fd) return fail_errno(errno, "cannot watch {} (is fs.inotify.max_user_instances reached?)", path_);
  boost::system::error_code ec;
  inotify_.assign(fd.get(), ec);
  if (ec) return fail(ErrorCode::kSystem, "cannot watch {}: {}", path_, ec.message());
  fd.release();
  listen();
  boost::asio::post(io_, [self = shared_from_this()] { self->look(); });
  return {};
}

void ResolvConfWatch::Impl::stop() {
  stopped_ = true;
  timer_.cancel();
  boost::system::error_code ignored;
  inotify_.close(ignored);
}

void ResolvConfWatch::Impl::listen() {
  inotify_.async_wait(
      boost::asio::posix::stream_descriptor::wait_read, [self = shared_from_this()](boost::system::error_code ec) {
        if (ec || self->stopped_) return;
        if (self->drain()) {
          auto now = Clock::now();
          if (!self->first_event_) self->first_event_ = now;
          self->wait_until(std::min(now + self->options_.quiet, *self->first_event_ + self->options_.longest));
        }
        self->listen();
      });
}

// Takes the events away; which they are does not matter, since a look costs less than telling them apart. The exception is the
// end of a watch that was given back, which would call for another look for ever.
bool ResolvConfWatch::Impl::drain() {
  alignas(inotify_event) std::array<char, 16384> buffer;
  bool any = false;
  for (int i = 0; i < kReadsAtOnce; ++i) {
    ssize_t n = read(inotify_.native_handle(), buffer.data(), buffer.size());
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) break;
    for (std::size_t at = 0; at < static_cast<std::size_t>(n);) {
      const auto* event = reinterpret_cast<const inotify_event*>(buffer.data() + at);
      bool ended = (event->mask & IN_IGNORED) != 0;
      any = any || !ended || watches_.erase(event->wd) != 0;
      at += sizeof(inotify_event) + event->len;
    }
  }
  return any;
}

void ResolvConfWatch::Impl::wait_until(Clock::time_point time) {
  timer_.expires_at(time);
  timer_.async_wait([self = shared_from_this()](boost::system::error_code ec) {
    // A wait that was over when it was set anew comes without an error.
    if (!ec && self->timer_.expiry() <= Clock::now()) self->look();
  });
}

void ResolvConfWatch::Impl::look() {
  if (stopped_) return;
  first_event_.reset();
  watch();  // before it is read, so that nothing falls between
  wait_until(Clock::now() + options_.period);
  auto bytes = read_file(path_);
  if (!bytes) {
    empty_since_.reset();
    wait_until(Clock::now() + options_.away);
    return report(bytes.error().context + (told_ ? "; what it said before holds" : ""));
  }
  auto conf = parse_resolv_conf(*bytes);
  if (conf.nameservers.empty() && told_ && !told_->nameservers.empty()) {
    if (!empty_since_) empty_since_ = Clock::now();
    auto until = *empty_since_ + options_.settle;
    if (Clock::now() < until) return wait_until(until);
  }
  empty_since_.reset();
  if (told_ != conf) {
    told_ = conf;
    on_change_(conf);
  }
  report("");
}

void ResolvConfWatch::Impl::watch() {
  std::set<int> watches;
  for (const auto& directory : directories_of(path_)) {
    int wd = inotify_add_watch(inotify_.native_handle(), directory.c_str(), kEvents | IN_ONLYDIR);
    if (wd >= 0) watches.insert(wd);  // else the periodic read sees it
  }
  for (int wd : watches_)
    if (!watches.contains(wd)) inotify_rm_watch(inotify_.native_handle(), wd);
  watches_ = std::move(watches);
}

void ResolvConfWatch::Impl::report(const std::string& problem) {
  if (stopped_ || problem == problem_) return;
  problem_ = problem;
  on_problem_(problem);
}

ResolvConfWatch::ResolvConfWatch(boost::asio::io_context& io, const std::string& path, OnChange on_change,
                                 OnProblem on_problem, ResolvConfWatchOptions options)
    : impl_(std::make_shared<Impl>(io, path, std::move(on_change), std::move(on_problem), options)) {}
ResolvConfWatch::~ResolvConfWatch() { impl_->stop(); }
Status ResolvConfWatch::start() { return impl_->start(); }
void ResolvConfWatch::stop() { impl_->stop(); }

}  // namespace casa::dns

// Events to bursts, bursts to announcements. See directory.h. Three states: the directory is there; it is away (what
// was announced stays); it came back and is given time to fill before it counts.
#include "source/directory.h"

#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <cstring>
#include <filesystem>
#include <map>
#include <optional>
#include <utility>

#include "source/directory_tree.h"
#include "source/document_table.h"

namespace casa::source {
namespace {

using Clock = std::chrono::steady_clock;

// Events taken from the kernel in one go: 64 buffers, so that a storm does not starve the executor.
constexpr int kReadsAtOnce = 64;

std::string absolute_path(const std::string& path) {
  std::error_code ec;
  auto absolute = std::filesystem::absolute(path, ec).lexically_normal().string();
  while (absolute.size() > 1 && absolute.back() == '/') absolute.pop_back();
  return ec ? path : absolute;
}

// What has happened since the last announcement.
struct Burst {
  std::map<std::string, bool> files;        // documents with news; true: created, perhaps still to be written
  std::map<std::string, bool> directories;  // to be walked; true: read every document there again
  bool everything = false;                  // walk all
  bool safety = false;                      // the periodic scan: files that nobody has closed for long count too
  bool deletes = false;
  std::optional<Clock::time_point> first;  // none: nothing has happened
};

}  // namespace

class DirectorySource::Impl : public std::enable_shared_from_this<Impl> {
 public:
  Impl(boost::asio::io_context& io, const std::string& path, Handler& handler, const DirectoryOptions& options)
      : io_(io),
        path_(absolute_path(path)),
        handler_(handler),
        options_(options),
        tree_(path_, options.max_depth, options.max_directories),
        table_(handler, options.max_bytes, options.max_documents),
        inotify_(io),
        quiet_(io),
        periodic_(io) {}

  Status start();
  void stop();

 private:
  using Why = DocumentTable::Why;
  enum class State { kAway, kSettling, kThere };
  // What to do about each document of a burst, in the order of their origins; nothing: it is gone.
  using Candidates = std::map<std::string, std::optional<Why>>;

  // Events (the kernel's view).
  void listen();
  void drain();
  void on_event(const inotify_event& event, std::string_view name);
  void on_self_event(const inotify_event& event, const std::string& directory);
  void on_document_event(std::uint32_t mask, const std::string& origin);
  void touch();
  void wait_for_quiet();
  void wait_for_period();

  // Bursts (what is announced).
  void act();
  [[nodiscard]] bool must_settle(DirectoryId id) const;
  void settle(DirectoryId id);
  void lose(const std::string& problem);
  void apply(DirectoryId id, Burst& burst);
  // They return whether a walk met any document.
  bool collect(const Burst& burst, Candidates& candidates);
  bool collect_below(const std::string& directory, Why why, Candidates& candidates);
  std::size_t announce(const Burst& burst, const Candidates& candidates);
  bool held_back(const Burst& burst, const std::string& origin);
  void report_health();

  boost::asio::io_context& io_;
  const std::string path_;
  Handler& handler_;
  const DirectoryOptions options_;
  DirectoryTree tree_;
  DocumentTable table_;
  boost::asio::posix::stream_descriptor inotify_;
  boost::asio::steady_timer quiet_, periodic_;

  Burst burst_;
  std::map<std::string, Clock::time_point> writing_;  // documents open for writing, and their last write
  State state_ = State::kAway;
  DirectoryId settling_;
  std::optional<DirectoryId> applied_;  // the directory that the announced documents are from
  bool missing_ = false;                // there was nothing at the path since it was applied
  bool removed_ = false;                // the directory itself was deleted or moved, so an empty successor is meant
  bool synced_once_ = false;
  Clock::time_point settle_until_, next_safety_;
  std::string away_problem_, reported_;
  bool stopped_ = false;
};

Status DirectorySource::Impl::start() {
  TRY(tree_.open());
  boost::system::error_code ec;
  inotify_.assign(tree_.fd(), ec);
  if (ec) return fail_errno(ec.value(), "cannot watch {}", path_);
  listen();
  burst_.everything = true;
  boost::asio::post(io_, [self = shared_from_this()] { self->act(); });
  return {};
}

void DirectorySource::Impl::stop() {
  if (stopped_) return;
  stopped_ = true;
  quiet_.cancel();
  periodic_.cancel();
  if (inotify_.is_open()) inotify_.release();  // the tree closes it
  tree_.close();
}

void DirectorySource::Impl::listen() {
  inotify_.async_wait(boost::asio::posix::stream_descriptor::wait_read,
                      [self = shared_from_this()](boost::system::error_code ec) {
                        if (ec || self->stopped_) return;
                        self->drain();
                        self->listen();
                      });
}

void DirectorySource::Impl::drain() {
  alignas(inotify_event) std::array<char, 65536> buffer;
  for (int i = 0; i < kReadsAtOnce; ++i) {
    ssize_t n = read(tree_.fd(), buffer.data(), buffer.size());
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) break;
    for (std::size_t at = 0; at < static_cast<std::size_t>(n);) {
      const auto* event = reinterpret_cast<const inotify_event*>(buffer.data() + at);
      on_event(*event, event->len == 0 ? std::string_view() : std::string_view(event->name));
      at += sizeof(inotify_event) + event->len;
    }
  }
  wait_for_quiet();
}

void DirectorySource::Impl::on_event(const inotify_event& event, std::string_view name) {
  if ((event.mask & IN_Q_OVERFLOW) != 0) {
    // Who was writing and who has finished is among what was lost.
    burst_.everything = true;
    writing_.clear();
    return touch();
  }
  if (tree_.concerns_top(event.wd, name)) {
    burst_.everything = true;
    touch();
  }
  const std::string* directory = tree_.directory_of(event.wd);
  if (directory == nullptr) {
    if ((event.mask & IN_IGNORED) != 0) tree_.watch_gone(event.wd);
    return;
  }
  if (name.empty()) return on_self_event(event, *directory);
  if (name == "..data") {
    burst_.directories[*directory] = true;
    return touch();
  }
  if (name.front() == '.') return;
  std::string relative = directory->empty() ? std::string(name) : fmt::format("{}/{}", *directory, name);
  bool entry_changed = (event.mask & (IN_CREATE | IN_MOVED_TO | IN_MOVED_FROM | IN_DELETE)) != 0;
  bool is_directory = (event.mask & IN_ISDIR) != 0;
  if ((event.mask & (IN_DELETE | IN_MOVED_FROM)) != 0 && (is_directory || is_document_name(name)))
    burst_.deletes = true;
  if (is_directory ||
      (entry_changed && (tree_.contains(relative) || (!is_document_name(name) && tree_.is_followed(relative))))) {
    burst_.directories.try_emplace(relative, false);
    touch();
  }
  if (!is_directory && is_document_name(name)) on_document_event(event.mask, relative);
}

void DirectorySource::Impl::on_self_event(const inotify_event& event, const std::string& directory) {
  if (directory.empty() && (event.mask & (IN_DELETE_SELF | IN_MOVE_SELF)) != 0) removed_ = true;
  burst_.directories.try_emplace(directory, false);
  if ((event.mask & IN_IGNORED) != 0) tree_.watch_gone(event.wd);
  touch();
}

void DirectorySource::Impl::on_document_event(std::uint32_t mask, const std::string& origin) {
  if ((mask & IN_MODIFY) != 0) {
    writing_[origin] = Clock::now();
    return;
  }
  if ((mask & (IN_CLOSE_WRITE | IN_MOVED_TO | IN_MOVED_FROM | IN_DELETE)) != 0) {
    writing_.erase(origin);
    burst_.files[origin] = false;
  } else if ((mask & IN_CREATE) != 0) {
    burst_.files[origin] = true;
  } else {
    burst_.files.try_emplace(origin, false);
  }
  touch();
}

void DirectorySource::Impl::touch() {
  if (!burst_.first) burst_.first = Clock::now();
}

void DirectorySource::Impl::wait_for_quiet() {
  if (!burst_.first || stopped_) return;
  auto now = Clock::now();
  auto quiet = burst_.deletes ? options_.quiet_delete : options_.quiet;
  auto longest = burst_.deletes ? options_.longest_delete : options_.longest;
  auto until = std::min(now + quiet, *burst_.first + longest);
  if (state_ == State::kSettling) until = std::min(now + options_.settle, settle_until_);
  quiet_.expires_at(until);
  quiet_.async_wait([self = shared_from_this()](boost::system::error_code ec) {
    // A wait that was over when it was set anew comes without an error.
    if (!ec && !self->stopped_ && self->quiet_.expiry() <= Clock::now()) self->act();
  });
}

void DirectorySource::Impl::wait_for_period() {
  if (stopped_) return;
  if (state_ == State::kThere) periodic_.expires_at(next_safety_);
  else periodic_.expires_after(options_.away);
  periodic_.async_wait([self = shared_from_this()](boost::system::error_code ec) {
    if (ec || self->stopped_ || self->periodic_.expiry() > Clock::now()) return;
    self->burst_.everything = true;
    self->burst_.safety = true;
    // In the middle of a burst its own end is soon enough.
    if (!self->burst_.first) self->act();
  });
}

void DirectorySource::Impl::act() {
  if (stopped_) return;
  drain();
  quiet_.cancel();
  Burst burst = std::exchange(burst_, {});
  auto top = tree_.probe();
  bool absent = top.error == ENOENT || top.error == ENOTDIR;
  if (top.error != 0) {
    missing_ = missing_ || absent;
    lose(absent ? fmt::format("policy directory {} is gone; the last state stays in force", path_)
                : fmt::format("policy directory {} cannot be read ({}); the last state stays in force", path_,
                              std::strerror(top.error)));
  } else if (must_settle(top.id)) {
    settle(top.id);
  } else {
    apply(top.id, burst);
  }
  wait_for_period();
}

// It came back or is another one, perhaps still being filled: what it holds counts once nothing changes any more.
bool DirectorySource::Impl::must_settle(DirectoryId id) const {
  if (table_.empty() || (!missing_ && applied_ == id)) return false;
  return state_ != State::kSettling || settling_ != id;
}

void DirectorySource::Impl::settle(DirectoryId id) {
  state_ = State::kSettling;
  settling_ = id;
  settle_until_ = Clock::now() + options_.longest_settle;
  tree_.forget_all();
  tree_.walk("");
  tree_.watch_ancestor();
  burst_.everything = true;
  touch();
  wait_for_quiet();
}

void DirectorySource::Impl::lose(const std::string& problem) {
  state_ = State::kAway;
  away_problem_ = problem;
  if (missing_) removed_ = true;
  writing_.clear();
  tree_.forget_all();
  tree_.watch_ancestor();
  report_health();
  if (!synced_once_ && !stopped_) {
    synced_once_ = true;
    handler_.on_synced();
  }
}

void DirectorySource::Impl::apply(DirectoryId id, Burst& burst) {
  auto started = Clock::now();
  bool another = applied_ != id;
  bool was_there = state_ == State::kThere;
  if (another) {
    tree_.forget_all();
    writing_.clear();
  }
  if (another || !was_there) burst.everything = true;
  if (burst.everything) tree_.watch_ancestor();
  Candidates candidates;
  bool holds_any = collect(burst, candidates) || tree_.problems().contains("");
  if (another && applied_ && !removed_ && !table_.empty() && !holds_any)
    return lose(
        fmt::format("policy directory {} is empty and not the directory that it was (is it unmounted?); the last state "
                    "stays in force",
                    path_));
  applied_ = id;
  missing_ = removed_ = false;
  state_ = State::kThere;
  away_problem_.clear();
  std::size_t news = announce(burst, candidates);
  report_health();
  if (burst.everything) {
    // At most one part in a hundred of the time goes into scans, however large the directory is.
    next_safety_ =
        std::max<Clock::time_point>(started + options_.safety, Clock::now() + 100 * (Clock::now() - started));
  }
  if ((news != 0 || !was_there) && !stopped_) {
    synced_once_ = true;
    handler_.on_synced();
  }
}

bool DirectorySource::Impl::collect(const Burst& burst, Candidates& candidates) {
  bool met = false;
  if (burst.everything) {
    table_.forgive();
    met = collect_below("", Why::kScan, candidates);
  }
  for (const auto& [directory, again] : burst.directories) {
    if (burst.everything && !again) continue;
    if (collect_below(directory, again ? Why::kEvent : Why::kScan, candidates)) met = true;
  }
  for (const auto& [origin, created] : burst.files) {
    if (tree_.contains(parent_of(origin))) candidates[origin] = Why::kEvent;
  }
  return met;
}

bool DirectorySource::Impl::collect_below(const std::string& directory, Why why, Candidates& candidates) {
  auto walk = tree_.walk(directory);
  for (const auto& origin : table_.below(directory)) {
    if (!walk.covers(origin)) continue;
    // A listing can miss an entry that is renamed at that moment, so absence from it proves nothing where the directory
    // is.
    candidates.insert_or_assign(origin, tree_.contains(parent_of(origin)) ? std::optional(why) : std::nullopt);
  }
  for (const auto& origin : walk.documents) candidates.insert_or_assign(origin, why);
  return !walk.documents.empty();
}

std::size_t DirectorySource::Impl::announce(const Burst& burst, const Candidates& candidates) {
  std::size_t news = 0;
  for (const auto& [origin, why] : candidates) {
    if (stopped_) break;
    if (why && held_back(burst, origin)) continue;
    writing_.erase(origin);
    bool announced = why ? table_.refresh(origin, tree_.path_of(origin), *why) : table_.remove(origin);
    if (announced) ++news;
  }
  return news;
}

// Somebody is writing the file: its end will be an event. Nobody may wait for that for ever (a writer that hangs, a
// truncate() by name, which closes nothing), so a file left alone for as long as the safety scan's period counts as
// done.
bool DirectorySource::Impl::held_back(const Burst& burst, const std::string& origin) {
  if (auto it = writing_.find(origin); it != writing_.end())
    return !(burst.safety && Clock::now() - it->second >= options_.safety);
  auto it = burst.files.find(origin);
  if (it == burst.files.end() || !it->second) return false;
  struct stat st{};
  bool unwritten = lstat(tree_.path_of(origin).c_str(), &st) == 0 && S_ISREG(st.st_mode) && st.st_size == 0;
  if (unwritten) writing_[origin] = Clock::now();
  return unwritten;
}

void DirectorySource::Impl::report_health() {
  std::string problem = away_problem_;
  if (problem.empty() && !tree_.problems().empty()) {
    problem = tree_.problems().begin()->second;
    if (auto more = tree_.problems().size() - 1; more != 0)
      problem += fmt::format(" (and {} more such problems)", more);
  }
  if (problem.empty() && table_.over_limit())
    problem = fmt::format("policy directory {} holds more than {} documents; the others are not read", path_,
                          options_.max_documents);
  if (problem == reported_ || stopped_) return;
  reported_ = problem;
  handler_.on_health(problem);
}

DirectorySource::DirectorySource(boost::asio::io_context& io, std::string path, Handler& handler,
                                 DirectoryOptions options)
    : impl_(std::make_shared<Impl>(io, path, handler, options)) {}
DirectorySource::~DirectorySource() { impl_->stop(); }
Status DirectorySource::start() { return impl_->start(); }
void DirectorySource::stop() { impl_->stop(); }

}  // namespace casa::source

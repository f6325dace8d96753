// Decides what is news about one document. See document_table.h.
#include "source/document_table.h"

#include <algorithm>
#include <chrono>

namespace casa::source {
namespace {

// More than the coarsest tick that file systems stamp with.
constexpr std::int64_t kRacyWindow_ns = 50'000'000;

// As the handler knows it. Nothing keeps anybody from a directory "kubernetes:Pod"; "./kubernetes:Pod" is a path to it that no API server's object has.
std::string origin_of(const std::string& relative) {
  return relative.starts_with(kApiOrigin) ? "./" + relative : relative;
}

std::int64_t now_ns() { return std::chrono::nanoseconds(std::chrono::system_clock::now().time_since_epoch()).count(); }

}  // namespace

DocumentTable::DocumentTable(Handler& handler, std::size_t max_bytes, std::size_t max_documents)
    : handler_(handler), max_bytes_(max_bytes), max_documents_(max_documents) {}

bool DocumentTable::refresh(const std::string& origin, const std::string& path, Why why) {
  struct stat st{};
  if (stat(path.c_str(), &st) != 0) {
    int err = errno;
    struct stat link{};
    bool there = lstat(path.c_str(), &link) == 0;
    if (!there && (errno == ENOENT || errno == ENOTDIR)) return remove(origin);
    if (there && err == ENOENT)
      return set_unreadable(origin, path,
                            Error{ErrorCode::kNotFound, fmt::format("{} is a symbolic link to nothing", path)});
    return set_unreadable(origin, path, fail_errno(err, "cannot read {}", path).error());
  }
  if (S_ISDIR(st.st_mode)) return remove(origin);
  if (auto known = entries_.find(origin); known != entries_.end() && why == Why::kScan) {
    const Entry& entry = known->second;
    if (entry.problem.empty() && !entry.racy && entry.stamp == stamp_of(st)) return false;
  }
  std::int64_t started = now_ns();
  auto content = read_document(path, max_bytes_);
  if (!content) {
    // It went between two looks; who took it away will be heard of, or the next scan finds out.
    if (content.error().code == ErrorCode::kNotFound) return false;
    return set_unreadable(origin, path, content.error());
  }
  if (!admit(origin)) return false;
  Entry& entry = entries_[origin];
  entry.stamp = content->stamp;
  entry.racy = started - std::max(content->stamp.modified, content->stamp.changed) < kRacyWindow_ns;
  // After on_unreadable the handler must hear that all is well again, even with the bytes it has.
  if (entry.problem.empty() && entry.digest == content->digest) return false;
  entry.problem.clear();
  entry.digest = content->digest;
  handler_.on_upsert(Document{origin_of(origin), path, format_of(origin), std::move(content->bytes)});
  return true;
}

bool DocumentTable::remove(const std::string& origin) {
  if (entries_.erase(origin) == 0) return false;
  handler_.on_remove(origin_of(origin));
  return true;
}

bool DocumentTable::set_unreadable(const std::string& origin, const std::string& path, const Error& error) {
  if (!admit(origin)) return false;
  Entry& entry = entries_[origin];
  entry.stamp.reset();
  if (entry.problem == error.context) return false;
  entry.problem = error.context;
  handler_.on_unreadable(origin_of(origin), path, error);
  return true;
}

bool DocumentTable::admit(const std::string& origin) {
  if (entries_.size() < max_documents_ || entries_.contains(origin)) return true;
  over_limit_ = true;
  return false;
}

std::vector<std::string> DocumentTable::below(const std::string& directory) const {
  std::vector<std::string> origins;
  auto [first, last] = range_below(entries_, directory);
  for (auto it = first; it != last; ++it) origins.push_back(it->first);
  return origins;
}

}  // namespace casa::source

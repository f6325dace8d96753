// Walks and watches. See directory_tree.h.
#include "source/directory_tree.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <climits>
#include <memory>

#include "source/document_file.h"
#include "source/document_table.h"

namespace casa::source {
namespace {

constexpr std::uint32_t kDirectoryEvents = IN_CREATE | IN_CLOSE_WRITE | IN_MODIFY | IN_MOVED_TO | IN_MOVED_FROM |
                                           IN_DELETE | IN_ATTRIB | IN_DELETE_SELF | IN_MOVE_SELF | IN_ONLYDIR |
                                           IN_EXCL_UNLINK;
constexpr std::uint32_t kAncestorEvents =
    IN_CREATE | IN_MOVED_TO | IN_MOVED_FROM | IN_DELETE | IN_ATTRIB | IN_DELETE_SELF | IN_MOVE_SELF | IN_ONLYDIR;

struct CloseDir {
  void operator()(DIR* dir) const { closedir(dir); }
};

std::string join(const std::string& directory, std::string_view name) {
  return directory.empty() ? std::string(name) : fmt::format("{}/{}", directory, name);
}

bool followed_at(int at, const char* name) {
  struct stat st{};
  if (fstatat(at, name, &st, AT_SYMLINK_NOFOLLOW) != 0) return false;
  if (S_ISDIR(st.st_mode)) return true;
  if (!S_ISLNK(st.st_mode)) return false;
  std::array<char, PATH_MAX> text{};
  ssize_t length = readlinkat(at, name, text.data(), text.size());
  std::string_view target(text.data(), length < 0 ? 0 : static_cast<std::size_t>(length));
  if (!target.starts_with("..data/") || target.ends_with("/..") || target.find("/../") != target.npos) return false;
  return fstatat(at, name, &st, 0) == 0 && S_ISDIR(st.st_mode);
}

bool is_absence(int err) { return err == ENOENT || err == ENOTDIR || err == ELOOP; }

}  // namespace

std::string parent_of(const std::string& relative) {
  auto slash = relative.rfind('/');
  return slash == std::string::npos ? std::string() : relative.substr(0, slash);
}

bool DirectoryTree::Walk::covers(const std::string& origin) const {
  return std::ranges::none_of(unread, [&](const std::string& directory) {
    return directory.empty() ||
           (origin.starts_with(directory) && origin.size() > directory.size() && origin[directory.size()] == '/');
  });
}

DirectoryTree::DirectoryTree(std::string top, unsigned max_depth, std::size_t max_directories)
    : top_(std::move(top)), max_depth_(max_depth), max_directories_(max_directories) {}

Status DirectoryTree::open() {
  inotify_ = Fd(inotify_init1(IN_NONBLOCK | IN_CLOEXEC));
  if (!inotify_)
    return fail_errno(errno, "cannot watch {} (inotify_init1; on EMFILE raise fs.inotify.max_user_instances)", top_);
  return {};
}

void DirectoryTree::close() {
  inotify_.reset();
  directories_.clear();
  by_id_.clear();
  by_wd_.clear();
  ancestor_wd_ = -1;
}

std::string DirectoryTree::path_of(const std::string& relative) const {
  return relative.empty() ? top_ : top_ + '/' + relative;
}

DirectoryTree::Top DirectoryTree::probe() const {
  Fd fd(::open(top_.c_str(), O_RDONLY | O_DIRECTORY | O_NONBLOCK | O_CLOEXEC));
  struct stat st{};
  if (!fd || fstat(fd.get(), &st) != 0) return {{}, errno};
  return {{st.st_dev, st.st_ino}, 0};
}

bool DirectoryTree::is_followed(const std::string& relative) const {
  return relative.empty() || followed_at(AT_FDCWD, path_of(relative).c_str());
}

DirectoryTree::Walk DirectoryTree::walk(const std::string& directory) {
  Walk walk;
  ++walks_;
  problems_.erase(directory);
  auto [first, last] = range_below(problems_, directory);
  problems_.erase(first, last);
  bool reachable = directory.empty() || (contains(parent_of(directory)) && is_followed(directory));
  if (reachable) {
    auto depth = directory.empty() ? 0u : static_cast<unsigned>(std::ranges::count(directory, '/')) + 1;
    visit(directory, depth, walk);
  }
  sweep(directory, walk);
  return walk;
}

void DirectoryTree::visit(const std::string& relative, unsigned depth, Walk& walk) {
  if (depth > max_depth_) {
    problems_[relative] =
        fmt::format("{} lies more than {} directories deep and is not read", path_of(relative), max_depth_);
    return;
  }
  if (!contains(relative) && directories_.size() >= max_directories_) {
    problems_[relative] =
        fmt::format("{} is not read: there are more than {} directories", path_of(relative), max_directories_);
    return;
  }
  Fd fd(::open(path_of(relative).c_str(), O_RDONLY | O_DIRECTORY | O_NONBLOCK | O_CLOEXEC));
  struct stat st{};
  if (!fd || fstat(fd.get(), &st) != 0) {
    if (!is_absence(errno)) unread(relative, errno, walk);
    return;
  }
  if (!adopt(relative, {st.st_dev, st.st_ino})) return;
  watch(relative);
  list(std::move(fd), relative, depth, walk);
}

void DirectoryTree::list(Fd fd, const std::string& relative, unsigned depth, Walk& walk) {
  std::unique_ptr<DIR, CloseDir> dir(fdopendir(fd.get()));
  if (!dir) return unread(relative, errno, walk);
  int at = fd.release();  // the DIR's now
  while (true) {
    errno = 0;
    const dirent* entry = readdir(dir.get());
    if (entry == nullptr) break;
    std::string_view name(entry->d_name);
    if (name.front() == '.') continue;
    bool named = is_document_name(name);
    bool descend = entry->d_type == DT_DIR;
    // A link is asked for only when its name does not already say that it is a document.
    if (entry->d_type == DT_UNKNOWN || (entry->d_type == DT_LNK && !named)) descend = followed_at(at, entry->d_name);
    if (descend) {
      visit(join(relative, name), depth + 1, walk);
    } else if (named) {
      walk.documents.push_back(join(relative, name));
    }
  }
  if (errno != 0) unread(relative, errno, walk);
}

// Makes `relative` a directory of the tree. False: it is reached by another way already (a bind mount, a `..data`
// loop).
bool DirectoryTree::adopt(const std::string& relative, DirectoryId id) {
  if (auto other = by_id_.find(id); other != by_id_.end() && other->second != relative) {
    struct stat st{};
    bool still_there = stat(path_of(other->second).c_str(), &st) == 0 && DirectoryId{st.st_dev, st.st_ino} == id;
    if (still_there) return false;
    // It was renamed: the watch moves along, because the kernel gives one inode one watch.
    std::string old = other->second;
    by_wd_.erase(directories_[old].wd);
    directories_.erase(old);
    by_id_.erase(id);
  }
  if (auto known = directories_.find(relative); known != directories_.end() && known->second.id != id) forget(relative);
  Directory& directory = directories_[relative];
  directory.id = id;
  directory.walk = walks_;
  by_id_[id] = relative;
  return true;
}

void DirectoryTree::watch(const std::string& relative) {
  int wd = inotify_add_watch(inotify_.get(), path_of(relative).c_str(), kDirectoryEvents | IN_MASK_ADD);
  if (wd < 0) {
    if (is_absence(errno)) return;
    problems_[relative] = fmt::format(
        "{} cannot be watched ({}; on ENOSPC raise fs.inotify.max_user_watches): changes there are seen only every "
        "half minute",
        path_of(relative), std::strerror(errno));
    return;
  }
  Directory& directory = directories_[relative];
  if (directory.wd >= 0 && directory.wd != wd) by_wd_.erase(directory.wd);
  directory.wd = wd;
  by_wd_[wd] = relative;
}

void DirectoryTree::forget(const std::string& relative) {
  auto it = directories_.find(relative);
  if (it == directories_.end()) return;
  Directory directory = it->second;
  directories_.erase(it);
  if (auto by_id = by_id_.find(directory.id); by_id != by_id_.end() && by_id->second == relative) by_id_.erase(by_id);
  if (directory.wd < 0) return;
  by_wd_.erase(directory.wd);
  // Fails when the directory is deleted already, and the kernel has dropped the watch itself.
  if (directory.wd != ancestor_wd_) inotify_rm_watch(inotify_.get(), directory.wd);
}

void DirectoryTree::sweep(const std::string& relative, const Walk& walk) {
  std::vector<std::string> stale;
  auto consider = [&](const std::string& path, const Directory& directory) {
    bool kept = !walk.covers(path) || std::ranges::find(walk.unread, path) != walk.unread.end();
    if (directory.walk != walks_ && !kept) stale.push_back(path);
  };
  if (auto self = directories_.find(relative); self != directories_.end()) consider(self->first, self->second);
  auto [first, last] = range_below(directories_, relative);
  for (auto it = first; it != last; ++it) {
    if (it->first != relative) consider(it->first, it->second);
  }
  for (const auto& path : stale) forget(path);
}

void DirectoryTree::unread(const std::string& relative, int err, Walk& walk) {
  walk.unread.push_back(relative);
  problems_[relative] = fmt::format("policy directory {} cannot be read ({}); its last state stays in force",
                                    path_of(relative), std::strerror(err));
}

void DirectoryTree::forget_all() {
  while (!directories_.empty()) forget(std::string(directories_.begin()->first));
  problems_.clear();
}

void DirectoryTree::watch_ancestor() {
  std::string ancestor = top_;
  int wd = -1;
  while (wd < 0 && ancestor.size() > 1) {
    auto slash = ancestor.rfind('/');
    ancestor_child_ = ancestor.substr(slash + 1);
    ancestor = slash == 0 ? "/" : ancestor.substr(0, slash);
    wd = inotify_add_watch(inotify_.get(), ancestor.c_str(), kAncestorEvents | IN_MASK_ADD);
  }
  if (wd != ancestor_wd_ && ancestor_wd_ >= 0 && !by_wd_.contains(ancestor_wd_))
    inotify_rm_watch(inotify_.get(), ancestor_wd_);
  ancestor_wd_ = wd;
}

const std::string* DirectoryTree::directory_of(int wd) const {
  auto it = by_wd_.find(wd);
  return it == by_wd_.end() ? nullptr : &it->second;
}

bool DirectoryTree::concerns_top(int wd, std::string_view name) const {
  return wd == ancestor_wd_ && (name.empty() || name == ancestor_child_);
}

void DirectoryTree::watch_gone(int wd) {
  if (wd == ancestor_wd_) ancestor_wd_ = -1;
  auto it = by_wd_.find(wd);
  if (it == by_wd_.end()) return;
  if (auto directory = directories_.find(it->second); directory != directories_.end()) directory->second.wd = -1;
  by_wd_.erase(it);
}

}  // namespace casa::source

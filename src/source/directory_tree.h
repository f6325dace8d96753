// The directories below the policy directory: which there are, one inotify watch on each, and walks that find
// documents. Paths are relative to the top, "" is the top itself. A walk watches a directory first and lists it then,
// so that nothing falls between. Never reads documents, never speaks to a handler.
//
// Followed: real directories whose name is not hidden, and symlinks to directories that go through `..data/` (a
// Kubernetes ConfigMap with sub-paths). Other symlinks to directories are not followed.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "base/error.h"
#include "base/fd.h"

namespace casa::source {

struct DirectoryId {
  dev_t device = 0;
  ino_t inode = 0;
  auto operator<=>(const DirectoryId&) const = default;
};

// The part before the last slash, "" when there is none.
std::string parent_of(const std::string& relative);

class DirectoryTree {
 public:
  // `top`: absolute, without a trailing slash.
  DirectoryTree(std::string top, unsigned max_depth, std::size_t max_directories);

  Status open();
  void close();
  [[nodiscard]] int fd() const { return inotify_.get(); }
  [[nodiscard]] std::string path_of(const std::string& relative) const;

  struct Top {
    DirectoryId id;
    int error = 0;  // errno: why it cannot be listed
  };
  [[nodiscard]] Top probe() const;

  struct Walk {
    std::vector<std::string> documents;  // paths of entries with a document's name, whatever they are
    std::vector<std::string> unread;     // directories that could not be listed: what was below them stays as it was
    [[nodiscard]] bool covers(const std::string& origin) const;  // false: it lies below one of `unread`
  };
  // Lists and watches `directory` and all below it, and forgets what is not there any more.
  Walk walk(const std::string& directory);
  void forget_all();

  // Watches the nearest directory above the top that exists, to hear of the top's coming, going and replacing.
  void watch_ancestor();

  // An inotify event's place.
  [[nodiscard]] const std::string* directory_of(int wd) const;           // null: not one of the tree's
  [[nodiscard]] bool concerns_top(int wd, std::string_view name) const;  // an ancestor's event about the way to the top
  void watch_gone(int wd);                                               // after IN_IGNORED

  [[nodiscard]] bool contains(const std::string& directory) const { return directories_.contains(directory); }
  // A symlink or directory at this path would be walked.
  [[nodiscard]] bool is_followed(const std::string& relative) const;
  [[nodiscard]] const std::map<std::string, std::string>& problems() const { return problems_; }  // by directory

 private:
  struct Directory {
    DirectoryId id;
    int wd = -1;
    std::uint64_t walk = 0;  // the last that met it
  };
  void visit(const std::string& relative, unsigned depth, Walk& walk);
  void list(Fd fd, const std::string& relative, unsigned depth, Walk& walk);
  bool adopt(const std::string& relative, DirectoryId id);
  void watch(const std::string& relative);
  void forget(const std::string& relative);
  void sweep(const std::string& relative, const Walk& walk);
  void unread(const std::string& relative, int err, Walk& walk);

  const std::string top_;
  const unsigned max_depth_;
  const std::size_t max_directories_;
  Fd inotify_;
  std::map<std::string, Directory> directories_;
  std::map<DirectoryId, std::string> by_id_;
  std::unordered_map<int, std::string> by_wd_;
  std::map<std::string, std::string> problems_;
  std::uint64_t walks_ = 0;
  int ancestor_wd_ = -1;
  std::string ancestor_child_;  // the name below the ancestor that leads to the top
};

}  // namespace casa::source

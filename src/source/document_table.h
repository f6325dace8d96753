// What the handler has been told of each document, and so what is news. One refresh() looks at one file and announces
// at most one thing. Assumes one thread; must not decide when or where to look (directory.h does).
#pragma once

#include <cstddef>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "source/document_file.h"
#include "source/source.h"

namespace casa::source {

class DocumentTable {
 public:
  DocumentTable(Handler& handler, std::size_t max_bytes, std::size_t max_documents);

  enum class Why {
    kScan,   // read only what looks different from when it was last read
    kEvent,  // read in any case: something happened to it, and times are too coarse to show all that happens
  };
  // `path` is where the document of that origin is. True when something was announced.
  bool refresh(const std::string& origin, const std::string& path, Why why);
  // The document is gone. True when it had been announced.
  bool remove(const std::string& origin);

  [[nodiscard]] std::vector<std::string> below(const std::string& directory) const;  // "" is all; sorted
  [[nodiscard]] bool empty() const { return entries_.empty(); }
  // Documents have been turned away since the last forgive(), because there are max_documents already.
  [[nodiscard]] bool over_limit() const { return over_limit_; }
  void forgive() { over_limit_ = false; }

 private:
  struct Entry {
    std::optional<Stamp> stamp;    // when it was last read; none when it could not be
    std::optional<Digest> digest;  // of what was announced last
    bool racy = false;    // it changed so shortly before the read that a later change can leave the stamp as it is
    std::string problem;  // announced as unreadable, with this
  };
  bool set_unreadable(const std::string& origin, const std::string& path, const Error& error);
  bool admit(const std::string& origin);

  Handler& handler_;
  const std::size_t max_bytes_, max_documents_;
  std::map<std::string, Entry> entries_;
  bool over_limit_ = false;
};

// The entries of a map keyed by relative path that lie below `directory` ("" is the top).
template <typename Map>
auto range_below(Map& map, const std::string& directory) {
  if (directory.empty()) return std::pair(map.begin(), map.end());
  // '0' follows '/', so this is the first key past the prefix.
  return std::pair(map.lower_bound(directory + '/'), map.lower_bound(directory + '0'));
}

}  // namespace casa::source

// The documents that the sources brought, each with its last good reading. A bad save loses nothing: while a document
// cannot be read as text or is syntactically broken, what it said before stays in force, also across a restart, for which
// the last good bytes are kept below the state directory.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "base/error.h"
#include "identity/snapshot.h"
#include "policy/parse.h"
#include "source/source.h"

namespace casa::app {

class Documents {
 public:
  explicit Documents(std::string last_good_dir) : dir_(std::move(last_good_dir)) {}

  // Errors are about keeping the last good copy only; the document itself is taken in any case.
  Status upsert(const source::Document& document);
  void remove(const std::string& origin);
  void unreadable(const std::string& origin, const std::string& path, const Error& error);

  // All objects in force. The same object in two documents: the first document (by origin) has it.
  [[nodiscard]] const identity::ObjectSet& objects() const;
  // One sentence per document that is not in force as it stands.
  [[nodiscard]] std::vector<std::string> problems() const;

  [[nodiscard]] std::size_t size() const { return documents_.size(); }
  [[nodiscard]] std::size_t bad() const;

 private:
  struct Entry {
    policy::ParseResult good;  // in force
    bool has_good = false;
    std::string problem;  // empty when the document is in force as it stands
  };
  std::string copy_path(const std::string& origin) const;
  Status keep_copy(const source::Document& document);
  void fall_back(const std::string& origin, const std::string& path, Entry& entry, std::string problem);

  const std::string dir_;
  std::map<std::string, Entry> documents_;
  mutable identity::ObjectSet objects_;  // merged when asked for, after a change
  mutable bool merged_ = false;
};

}  // namespace casa::app

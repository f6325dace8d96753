// The documents that the sources brought, each with its last good reading. A bad save loses nothing: while a document
// cannot be read as text or is syntactically broken, what it said before stays in force, also across a restart, for which
// the last good bytes are kept below the state directory.
#pragma once

#include <map>
#include <set>
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

  // Errors are about keeping the last good copy only; the document itself is taken in any case. Of what an API server brings no copy
  // is kept: the server has it.
  Status upsert(const source::Document& document);
  void remove(const std::string& origin);
  void unreadable(const std::string& origin, const std::string& path, const Error& error);

  // All objects in force. The same object in two documents: the API server has it before a file, and else the first document (by
  // origin) has it.
  [[nodiscard]] const identity::ObjectSet& objects() const;
  // What changed of them since the last call (ObjectSet).
  [[nodiscard]] std::optional<identity::Changes> take_changes();
  [[nodiscard]] bool has_changes() const { return objects().has_changes(); }
  // One sentence per document that is not in force as it stands.
  [[nodiscard]] std::vector<std::string> problems() const;
  // One sentence per object that a file and the API server both have, by the object.
  [[nodiscard]] std::map<policy::ObjectKey, std::string> conflicts() const;

  // `api`: of the API server's, else of the files.
  struct Counts {
    std::size_t documents = 0, bad = 0, objects = 0;  // objects: in force, and the invalid policies
  };
  [[nodiscard]] Counts count(bool api) const;

 private:
  struct Entry {
    std::vector<policy::ObjectKey> keys;   // all of its objects
    std::vector<policy::Object> shadowed;  // those of them that another document has in force
    std::vector<policy::InvalidPolicy> invalid;
    bool has_good = false;
    std::string problem;  // empty when the document is in force as it stands
  };
  Entry& entry_of(const std::string& origin);
  std::string copy_path(const std::string& origin) const;
  Status keep_copy(const source::Document& document);
  void upsert_api_object(const source::Document& document);
  void fall_back(const std::string& origin, const std::string& path, Entry& entry, const std::string& problem);
  void set_problem(const std::string& origin, Entry& entry, std::string problem);
  // What the document says from now on, instead of what it said before.
  void replace(const std::string& origin, Entry& entry, policy::ParseResult&& result);
  void put(const std::string& origin, Entry& entry, policy::Object&& object);
  void take_back(const std::string& origin, Entry& entry);
  // Where the object in force stands, and the same object of a shadowed file.
  [[nodiscard]] const std::string& where_of(const policy::ObjectKey& key) const;
  [[nodiscard]] const std::string& where_of(const policy::ObjectKey& key, const std::string& origin) const;

  const std::string dir_;
  std::map<std::string, Entry> documents_;
  std::size_t api_documents_ = 0;        // of them the API server's
  mutable identity::ObjectSet objects_;  // every object in force, once; `invalid` is listed when asked for
  // The file that an object in force is of; of the others the API server's document of that object is.
  std::map<policy::ObjectKey, std::string> file_of_;
  std::map<policy::ObjectKey, std::set<std::string>> shadowed_;  // files that have it too
  std::set<std::string> with_invalid_, with_problem_;            // documents
  mutable bool invalid_listed_ = true;
};

}  // namespace casa::app

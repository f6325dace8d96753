// What casad itself needs of the JSON that an API server sends: who an object is, what happened to it, why a request failed. Only these fields
// are touched (simdjson on demand); the object as a whole is for policy/.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "base/error.h"

namespace casa::source {

// Valid until the reader's next call.
struct ObjectHead {
  std::string_view ns, name, uid, version;  // metadata.namespace (empty: of the cluster), name, uid, resourceVersion
};

struct WatchEvent {
  enum class Type { kAdded, kModified, kDeleted, kBookmark, kError };
  Type type = Type::kError;
  ObjectHead head;          // not of kError; of kBookmark the version only
  std::string_view object;  // its JSON, in the line
  unsigned code = 0;        // of kError: as an HTTP status
  std::string message;      // of kError
};

struct ListHead {
  std::string version, next;  // metadata.resourceVersion and continue (empty: this was the last page)
};

// A Status object; empty when it is none.
struct StatusText {
  std::string message, reason;
};

// The texts must have room behind their ends for simdjson, as JsonSplit makes it; where they have not, they are moved.
class KubeJson {
 public:
  KubeJson();
  ~KubeJson();
  KubeJson(const KubeJson&) = delete;
  KubeJson& operator=(const KubeJson&) = delete;

  Result<ObjectHead> read_object(std::string& text);
  Result<WatchEvent> read_event(std::string& text);
  Result<ListHead> read_list(std::string& text);
  StatusText read_status(std::string& text);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

// A resourceVersion as a number: they grow with each change. Nothing for one that is no number.
std::uint64_t version_number(std::string_view version);

}  // namespace casa::source

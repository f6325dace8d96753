// Where objects come from. A source brings documents as bytes and never looks inside; policy/ parses them. A directory
// brings whole files, an API server brings one object a document. First room of the data's way: it knows nothing of the
// rooms behind it.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

#include "base/error.h"

namespace casa::source {

inline constexpr std::size_t kMaxDocumentBytes = 8u << 20;

// kApiObject: one JSON object as a Kubernetes API server sent it: validated there, of a version that may be newer than casad, and, out of a
// list, without apiVersion and kind.
enum class Format { kYaml, kJson, kApiObject };

// What the origins of an API server's objects begin with, and no other.
inline constexpr std::string_view kApiOrigin = "kubernetes:";

// One document as it stood when it was read completely. `origin` names it for ever: the path below the policy
// directory ("team-a/agent.yaml"; "./kubernetes:x.yaml"), or "kubernetes:Pod/team-a/agent-0". The bytes are unchecked.
struct Document {
  std::string origin;
  std::string path;  // as a person would open it, for diagnostics
  Format format = Format::kYaml;
  std::string bytes;
  std::string kind;  // of a kApiObject: "Pod"
};

// Called on the source's executor, never concurrently. After start() the handler gets every present document, then
// on_synced(); from then on changes as they happen. Unchanged bytes are not announced again.
class Handler {
 public:
  virtual ~Handler() = default;
  virtual void on_upsert(Document document) = 0;
  virtual void on_remove(const std::string& origin) = 0;
  // A document that is there but cannot be read or is too large (above kMaxDocumentBytes). The handler keeps the last
  // good one of that origin; an on_upsert or on_remove of that origin ends it.
  virtual void on_unreadable(const std::string& origin, const std::string& path, const Error& error) = 0;
  // The state is complete: after start, and again after each burst of changes.
  virtual void on_synced() = 0;
  // The source as a whole is degraded ("policy directory is gone; the last state stays in force") or well (empty).
  virtual void on_health(const std::string& problem) = 0;
};

}  // namespace casa::source

// One file of the policy directory: which names count as documents, and how to read one so that the bytes are one state
// of it. Knows nothing of what was read before (document_table.h) or where files are (directory_tree.h). Never blocks
// on what is not a regular file.
#pragma once

#include <sys/stat.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "base/error.h"
#include "source/source.h"

namespace casa::source {

// *.yaml, *.yml, *.json, case-sensitive, not hidden. The suffix rule is what keeps editors' files out: `x.yaml~`,
// `.x.yaml.swp`, `4913`, `#x.yaml#`, `x.yaml.tmp`.
bool is_document_name(std::string_view name);
Format format_of(std::string_view name);

// What changes when a file changes, short of its bytes. Times in nanoseconds since 1970.
struct Stamp {
  std::uint64_t device = 0, inode = 0, size = 0;
  std::int64_t modified = 0, changed = 0;
  bool operator==(const Stamp&) const = default;
};
Stamp stamp_of(const struct stat& st);

using Digest = std::array<std::uint8_t, 32>;  // SHA-256

struct FileContent {
  std::string bytes;
  Stamp stamp;
  Digest digest{};
};

// Follows symlinks. kNotFound: there is no such file (any more); kLimit: larger than max_bytes; kBusy: it changed
// during each of five attempts; kInvalidArgument: not a regular file; kSystem: the rest.
Result<FileContent> read_document(const std::string& path, std::size_t max_bytes);

}  // namespace casa::source

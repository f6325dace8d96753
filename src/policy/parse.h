// Bytes to objects: YAML (many documents) or JSON (one object, an array or a List), then validation. Pure: no files, no
// clock, no globals. Bounded: time linear in the input, memory a small multiple of it, whatever the bytes are.
#pragma once

#include <string_view>
#include <vector>

#include "policy/objects.h"

namespace casa::policy {

// Limits on input; exceeding one is a diagnostic.
inline constexpr std::size_t kMaxFileBytes = 8u << 20;
inline constexpr unsigned kMaxDepth = 64;
inline constexpr unsigned kMaxDiagnostics = 100;  // of one file; then one last line says how many more

enum class Syntax { kYaml, kJson };

// A policy that does not validate but whose identity (namespace, name, target) can still be read: its workload falls back
// to deny all.
struct InvalidPolicy {
  ObjectKey key;
  std::string target_name;  // empty when unreadable
  std::string message;      // its first error
};

struct ParseResult {
  std::vector<Object> objects;          // the valid ones, in file order
  std::vector<InvalidPolicy> invalid;   // CASAPolicies with errors
  std::vector<Diagnostic> diagnostics;  // sorted by line, column
  // What the last line of `diagnostics` stands for when there are more than kMaxDiagnostics.
  std::size_t omitted_errors = 0, omitted_warnings = 0;
  // False: the text itself is broken (half-written) or was not read to its end; nothing in it can be trusted. `objects` is
  // empty then, and `invalid` names the policies that were seen before the break.
  bool syntax_ok = true;
  [[nodiscard]] bool ok() const;  // no diagnostic of severity error
};

// `file` is what diagnostics call the input.
ParseResult parse_text(std::string_view file, std::string_view bytes, Syntax syntax);

// `.json` means JSON, everything else YAML.
Syntax syntax_of(std::string_view path);

}  // namespace casa::policy

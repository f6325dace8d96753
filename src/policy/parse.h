// Bytes to objects: YAML (many documents) or JSON (one object, an array or a List), then validation; or an API server's JSON. Pure: no files, no
// clock, no globals. Bounded: time linear in the input, memory a small multiple of it, whatever the bytes are.
#pragma once

#include <optional>
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

// One object as an API server sent it: of the kind that was asked for, also where the text does not repeat kind and apiVersion. Only the
// fields that casad uses are looked at. The server has validated them: what casad cannot read is left out with a warning, but in the
// spec of a CASAPolicy or MultiAgentSystem, where an unknown or wrong field is an error as it is in a file. The annotation
// casa.io/cgroup counts in files only: who may make a Pod must not choose its cgroup. Diagnostics and `where` have no lines.
ParseResult parse_api_object(std::string_view origin, std::string_view bytes, Kind kind);
// By its name, "Pod".
std::optional<Kind> kind_of(std::string_view name);

// `.json` means JSON, everything else YAML.
Syntax syntax_of(std::string_view path);

}  // namespace casa::policy

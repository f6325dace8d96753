// The query parameters of every route, read strictly: an unknown name, a repeated name or a value that cannot be
// meant is an error with a suggestion, so that a misspelt filter never shows more than was asked for. Pure.
#pragma once

#include <cstddef>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "api/state.h"
#include "api/target.h"
#include "base/error.h"

namespace casa::api {

inline constexpr std::size_t kDefaultLimit = 100;
inline constexpr std::size_t kMaxLimit = 1000;

struct Query {
  std::optional<Time> since, until;
  std::string ns;        // parameter `namespace`
  std::string workload;  // "name" or "namespace/name"
  std::optional<casa_verdict> verdict;
  std::optional<casa_reason> reason;
  std::optional<casa_direction> direction;
  std::size_t limit = kDefaultLimit;
  std::string cursor;  // as it came; empty: from the start
  std::string from, to;
  std::string protocol = "tcp";
  bool baseline = false;
  std::string kind;  // as it came: each list has kinds of its own
};

// `allowed`: the names that this route takes.
Result<Query> parse_query(const Target& target, std::span<const std::string_view> allowed, Time now);

// The values of `kind`: of /v1/alerts.
Result<token::AlertKind> parse_alert_kind(std::string_view value);
// Of /v1/events: words of Feed::kKinds with commas between. Bits as EventQuery has them.
Result<unsigned> parse_event_kinds(std::string_view value);

// Whether the workload filter (empty: all) means ns/name.
bool means_workload(std::string_view filter, std::string_view ns, std::string_view name);

}  // namespace casa::api

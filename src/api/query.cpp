// See query.h. One reader a parameter; the router says which route takes which.
#include "api/query.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <vector>

#include "base/text.h"

namespace casa::api {
namespace {

constexpr std::size_t kMaxName = 253;
constexpr std::size_t kMaxEchoed = 80;   // of a bad value in its own error
constexpr std::size_t kListedWords = 6;  // a closed list up to this long is written out

std::string shown(std::string_view value) {
  return value.size() <= kMaxEchoed ? std::string(value) : fmt::format("{}...", value.substr(0, kMaxEchoed));
}

bool equal_but_case(std::string_view a, std::string_view b) {
  return std::ranges::equal(a, b, [](unsigned char x, unsigned char y) { return std::tolower(x) == std::tolower(y); });
}

std::string_view suggestion(std::string_view word, std::span<const std::string_view> words) {
  auto same = std::ranges::find_if(words, [&](std::string_view w) { return equal_but_case(w, word); });
  return same != words.end() ? *same : nearest_name(word, words);
}

// "Did you mean X?", "Write A, B or C.", or both, or where the list stands.
std::string advice(std::string_view word, std::span<const std::string_view> words, std::string_view elsewhere) {
  std::string text;
  if (auto near = suggestion(word, words); !near.empty()) text = fmt::format(" Did you mean '{}'?", near);
  if (words.empty()) return text;
  if (words.size() <= kListedWords) return text + fmt::format(" It is one of: {}.", fmt::join(words, ", "));
  return text + std::string(elsewhere);
}

Result<std::size_t> choose(std::string_view name, std::string_view value, std::span<const std::string_view> words) {
  auto found = std::ranges::find(words, value);
  if (found != words.end()) return static_cast<std::size_t>(found - words.begin());
  return fail(ErrorCode::kInvalidArgument, "Parameter '{}' cannot be '{}'.{}", name, shown(value),
              advice(value, words, " docs/reasons.md lists the reasons."));
}

// Names as Kubernetes and systemd have them.
bool is_name(std::string_view text) {
  return !text.empty() && text.size() <= kMaxName && std::ranges::all_of(text, [](unsigned char c) {
    return std::isalnum(c) || std::string_view("-._@:\\").find(static_cast<char>(c)) != std::string_view::npos;
  });
}

// Clock arithmetic in nanoseconds overflows 292 years from 1970: nothing outside these bounds is a time that is meant.
std::optional<Time> parse_when(std::string_view text, Time now) {
  constexpr std::size_t kMaxDurationDigits = 5;
  if (text.find_first_of("Tt") == std::string_view::npos) {
    if (text.size() > kMaxDurationDigits + 1) return std::nullopt;
  } else if (auto year = parse_number(text.substr(0, 4), 2200); !year || *year < 1970) {
    return std::nullopt;
  }
  return parse_time(text, now);
}

Status read_time(std::string_view name, std::string_view value, Time now, std::optional<Time>& into) {
  into = parse_when(value, now);
  if (into) return {};
  return fail(ErrorCode::kInvalidArgument,
              "Parameter '{}' is '{}', which is no time. Write RFC 3339, as in 2026-01-31T09:30:00Z, or a time back "
              "from now, as in 90s, 15m, 2h or 1d.",
              name, shown(value));
}

Status read_namespace(Query& query, std::string_view value, Time) {
  if (!is_name(value))
    return fail(ErrorCode::kInvalidArgument,
                "Parameter 'namespace' is '{}', which is no name. Leave it out for all namespaces.", shown(value));
  query.ns = value;
  return {};
}

Status read_workload(Query& query, std::string_view value, Time) {
  auto slash = value.find('/');
  bool good = slash == std::string_view::npos ? is_name(value)
                                              : is_name(value.substr(0, slash)) && is_name(value.substr(slash + 1));
  if (!good)
    return fail(ErrorCode::kInvalidArgument,
                "Parameter 'workload' is '{}'. Write a workload's name, or NAMESPACE/NAME.", shown(value));
  query.workload = value;
  return {};
}

Status read_verdict(Query& query, std::string_view value, Time) {
  static constexpr std::array<std::string_view, 3> kWords{"ALLOWED", "DENIED", "AUDIT"};
  static constexpr std::array<casa_verdict, 3> kVerdicts{CASA_ALLOWED, CASA_DENIED, CASA_AUDIT};
  TRY_ASSIGN(std::size_t i, choose("verdict", value, kWords));
  query.verdict = kVerdicts[i];
  return {};
}

Status read_reason(Query& query, std::string_view value, Time) {
#define CASA_API_WORD(number, name, word) word,
#define CASA_API_VALUE(number, name, word) CASA_REASON_##name,
  static constexpr auto kWords = std::to_array<std::string_view>({CASA_REASONS(CASA_API_WORD)});
  static constexpr auto kReasons = std::to_array<casa_reason>({CASA_REASONS(CASA_API_VALUE)});
#undef CASA_API_VALUE
#undef CASA_API_WORD
  TRY_ASSIGN(std::size_t i, choose("reason", value, kWords));
  query.reason = kReasons[i];
  return {};
}

Status read_direction(Query& query, std::string_view value, Time) {
  static constexpr std::array<std::string_view, 2> kWords{"egress", "ingress"};
  TRY_ASSIGN(std::size_t i, choose("direction", value, kWords));
  query.direction = i == 0 ? CASA_EGRESS : CASA_INGRESS;
  return {};
}

Status read_limit(Query& query, std::string_view value, Time) {
  auto limit = parse_number(value, kMaxLimit);
  if (!limit || *limit == 0)
    return fail(ErrorCode::kInvalidArgument, "Parameter 'limit' is '{}'. Write a whole number from 1 to {}.",
                shown(value), kMaxLimit);
  query.limit = *limit;
  return {};
}

Status read_cursor(Query& query, std::string_view value, Time) {
  if (value.empty())
    return fail(ErrorCode::kInvalidArgument,
                "Parameter 'cursor' is empty. Give the nextCursor of the page before, or leave it out.");
  query.cursor = value;
  return {};
}

Status read_since(Query& query, std::string_view value, Time now) {
  return read_time("since", value, now, query.since);
}
Status read_until(Query& query, std::string_view value, Time now) {
  return read_time("until", value, now, query.until);
}

constexpr std::size_t kMaxEnd = 2 * kMaxName + 64;  // "ns/name:port"

Status read_end(std::string_view name, std::string_view value, std::string& into) {
  if (value.empty() || value.size() > kMaxEnd)
    return fail(ErrorCode::kInvalidArgument, "Parameter '{}' is {}.", name,
                value.empty() ? "empty" : "too long for a name, a host or an address");
  into = value;
  return {};
}
Status read_from(Query& query, std::string_view value, Time) { return read_end("from", value, query.from); }
Status read_to(Query& query, std::string_view value, Time) { return read_end("to", value, query.to); }

Status read_protocol(Query& query, std::string_view value, Time) {
  static constexpr std::array<std::string_view, 2> kWords{"tcp", "udp"};
  TRY(choose("protocol", value, kWords));
  query.protocol = value;
  return {};
}

Status read_baseline(Query& query, std::string_view value, Time) {
  static constexpr std::array<std::string_view, 2> kWords{"true", "false"};
  TRY_ASSIGN(std::size_t i, choose("baseline", value.empty() ? "true" : value, kWords));
  query.baseline = i == 0;
  return {};
}

Status read_kind(Query& query, std::string_view value, Time) {
  if (value.empty()) return fail(ErrorCode::kInvalidArgument, "Parameter 'kind' is empty. Leave it out for all kinds.");
  query.kind = value;
  return {};
}

struct Parameter {
  std::string_view name;
  Status (*read)(Query&, std::string_view, Time);
};
constexpr std::array<Parameter, 14> kParameters{{{"since", read_since},
                                                 {"until", read_until},
                                                 {"namespace", read_namespace},
                                                 {"workload", read_workload},
                                                 {"verdict", read_verdict},
                                                 {"reason", read_reason},
                                                 {"direction", read_direction},
                                                 {"limit", read_limit},
                                                 {"cursor", read_cursor},
                                                 {"from", read_from},
                                                 {"to", read_to},
                                                 {"protocol", read_protocol},
                                                 {"baseline", read_baseline},
                                                 {"kind", read_kind}}};

std::unexpected<Error> unknown_parameter(std::string_view path, std::string_view name,
                                         std::span<const std::string_view> allowed) {
  if (allowed.empty())
    return fail(ErrorCode::kInvalidArgument, "Unknown query parameter '{}': {} takes none.", shown(name), path);
  std::string near;
  if (auto word = suggestion(name, allowed); !word.empty()) near = fmt::format(" Did you mean '{}'?", word);
  return fail(ErrorCode::kInvalidArgument, "Unknown query parameter '{}'.{} {} takes: {}.", shown(name), near, path,
              fmt::join(allowed, ", "));
}

}  // namespace

Result<Query> parse_query(const Target& target, std::span<const std::string_view> allowed, Time now) {
  Query query;
  std::vector<std::string_view> seen;
  for (const auto& [name, value] : target.query) {
    if (std::ranges::find(allowed, name) == allowed.end()) return unknown_parameter(target.path, name, allowed);
    if (std::ranges::find(seen, name) != seen.end())
      return fail(ErrorCode::kInvalidArgument, "Parameter '{}' is given twice; give it once.", name);
    seen.push_back(name);
    auto parameter = std::ranges::find(kParameters, name, &Parameter::name);
    if (parameter == kParameters.end()) return fail(ErrorCode::kInternal, "Parameter '{}' has no reader.", name);
    TRY(parameter->read(query, value, now));
  }
  if (query.since && query.until && *query.until <= *query.since)
    return fail(ErrorCode::kInvalidArgument, "Parameter 'until' is not after 'since', so nothing can match.");
  return query;
}

Result<token::AlertKind> parse_alert_kind(std::string_view value) {
  std::array<std::string_view, token::kAlertKinds> words;
  for (std::size_t i = 0; i < words.size(); ++i) words[i] = token::to_string(static_cast<token::AlertKind>(i));
  TRY_ASSIGN(std::size_t i, choose("kind", value, words));
  return static_cast<token::AlertKind>(i);
}

Result<unsigned> parse_event_kinds(std::string_view value) {
  unsigned kinds = 0;
  for (;;) {
    auto comma = value.find(',');
    TRY_ASSIGN(std::size_t i, choose("kind", value.substr(0, comma), Feed::kKinds));
    kinds |= 1u << i;
    if (comma == std::string_view::npos) return kinds;
    value.remove_prefix(comma + 1);
  }
}

bool means_workload(std::string_view filter, std::string_view ns, std::string_view name) {
  auto slash = filter.find('/');
  if (slash == std::string_view::npos) return filter.empty() || filter == name;
  return filter.substr(0, slash) == ns && filter.substr(slash + 1) == name;
}

}  // namespace casa::api

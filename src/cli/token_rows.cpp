// See token_rows.h.
#include "cli/token_rows.h"

#include <fmt/format.h>

#include "cli/json_cells.h"

namespace casa::cli {
namespace {

using simdjson::dom::element;

// "team-a/agent", or "team-a/agent +2".
std::string first_of(const element& token, std::string_view list, std::string_view more, bool port) {
  simdjson::dom::array places;
  if (token[list].get(places) != simdjson::SUCCESS || places.size() == 0) return "-";
  element first = places.at(0);
  std::string text = port ? with_port(who_is(first), number_of(first, "port")) : who_is(first);
  std::uint64_t others = places.size() - 1;
  bool open = number_of(token, more) != 0;
  if (others == 0 && !open) return text;
  return fmt::format("{} +{}{}", text, others, open ? " or more" : "");
}

// "1 issuance, 4 use".
std::string counts_of(const element& token) {
  std::string text;
  simdjson::dom::object counts;
  if (token["counts"].get(counts) != simdjson::SUCCESS) return "-";
  for (auto count : counts) {
    std::uint64_t n = 0;
    if (count.value.get(n) != simdjson::SUCCESS || n == 0) continue;
    text += fmt::format("{}{} {}", text.empty() ? "" : ", ", n, std::string_view(count.key));
  }
  return or_dash(text);
}

}  // namespace

const Cells& token_titles() {
  static const Cells kTitles{"LAST SEEN", "SHAPE", "SIGNATURE", "REQUESTS", "PRESENTED BY", "WENT TO", "SHA256"};
  return kTitles;
}

Cells token_cells(const element& token) {
  bool unsigned_token = false;
  if (token["algNone"].get(unsigned_token) != simdjson::SUCCESS) unsigned_token = false;
  return {text_of(token, "lastSeen"),
          or_dash(text_of(token, "shape")) + (unsigned_token ? " (alg none)" : ""),
          or_dash(text_of(token, "signature")),
          counts_of(token),
          first_of(token, "presenters", "morePresenters", false),
          first_of(token, "destinations", "moreDestinations", true),
          text_of(token, "sha256")};
}

const Cells& sighting_titles() {
  static const Cells kTitles{"TIME", "EVENT", "REQUEST", "VERDICT", "FROM -> TO", "REASON", "POLICY", "TOKEN"};
  return kTitles;
}

Cells sighting_cells(const element& sighting) {
  constexpr std::size_t kShownDigits = 16;
  std::string token = text_of(sighting, "sha256").substr(0, kShownDigits);
  if (token.empty()) token = text_of(sighting, "shape");
  bool duplicate = false;
  if (sighting["duplicate"].get(duplicate) == simdjson::SUCCESS && duplicate) token += " (duplicate)";
  return {text_of(sighting, "time"),
          or_dash(text_of(sighting, "event")),
          or_dash(text_of(sighting, "request")),
          or_dash(text_of(sighting, "verdict")),
          ends_of(sighting, "source", "destination"),
          or_dash(text_of(sighting, "reason")),
          or_dash(text_of(sighting, "policy")),
          token};
}

const Cells& alert_titles() {
  static const Cells kTitles{"LAST SEEN", "SEVERITY", "KIND", "COUNT", "BLOCKED", "MESSAGE"};
  return kTitles;
}

Cells alert_cells(const element& alert) {
  bool blocked = false;
  if (alert["blocked"].get(blocked) != simdjson::SUCCESS) blocked = false;
  return {text_of(alert, "lastSeen"),      or_dash(text_of(alert, "severity")),
          or_dash(text_of(alert, "kind")), fmt::format("x{}", number_of(alert, "count")),
          blocked ? "blocked" : "-",       text_of(alert, "message")};
}

}  // namespace casa::cli

// `casad tokens` and `casad alerts`: see client.h. Lists page by page; follows what comes through /v1/events.
#include <fmt/format.h>
#include <simdjson.h>

#include <algorithm>
#include <map>
#include <optional>
#include <ranges>
#include <thread>

#include "cli/answer.h"
#include "cli/client.h"
#include "cli/event_stream.h"
#include "cli/terminal.h"
#include "cli/token_rows.h"

namespace casa::cli {
namespace {

using simdjson::dom::element;

constexpr std::size_t kPage = 1000;  // what the API gives at most
constexpr std::size_t kDefaultRows = 100;
constexpr std::size_t kDefaultFirstRows = 10;
constexpr std::size_t kMaxRows = 100'000;
constexpr std::chrono::milliseconds kLookForStop{100};

Colour colour_of_severity(std::string_view severity) {
  if (severity == "critical") return Colour::kRed;
  return severity == "high" ? Colour::kYellow : Colour::kNone;
}

struct Columns {
  const Cells& (*titles)();
  Cells (*cells)(const element&);
  std::size_t painted;
  Colour (*colour)(std::string_view);
  std::vector<std::size_t> widths;
};
const Columns kTokenColumns{token_titles, token_cells, std::string::npos, nullptr, {24, 13, 10, 18, 20, 24, 64}};
const Columns kSightingColumns{
    sighting_titles, sighting_cells, kSightingVerdictColumn, colour_of_verdict, {24, 13, 20, 7, 40, 16, 12, 16}};
const Columns kAlertColumns{alert_titles, alert_cells, kAlertSeverityColumn, colour_of_severity, {24, 8, 28, 4, 7, 0}};

// Rows to a stream: a table that people read, or JSON lines.
class Rows {
 public:
  Rows(const TokensOptions& options, const Columns& columns)
      : options_(options), columns_(columns), colour_(wants_colour(options.out)), table_(columns.widths) {}

  void titles() {
    if (!options_.json) put(table_.line(columns_.titles(), std::string::npos, Colour::kNone, false));
  }
  void fit(const element& row) {
    if (!options_.json) table_.fit(columns_.cells(row));
  }
  void row(const element& row) {
    if (options_.json) return put(printable_json(simdjson::minify(row)));
    Cells cells = columns_.cells(row);
    bool painted = columns_.painted < cells.size();
    put(table_.line(cells, columns_.painted, painted ? columns_.colour(cells[columns_.painted]) : Colour::kNone,
                    colour_));
  }
  void put(const std::string& line) {
    std::fwrite(line.data(), 1, line.size(), options_.out);
    std::fputc('\n', options_.out);
  }

 private:
  const TokensOptions& options_;
  const Columns& columns_;
  bool colour_;
  Table table_;
};

class Lister {
 public:
  Lister(const TokensOptions& options, std::string_view route, const char* what)
      : options_(options), client_(options.api_socket), route_(route), what_(what) {}

  // Calls `each` with the newest `wanted` rows, oldest first; an exit code when that failed.
  template <typename Each>
  std::optional<int> list(std::size_t wanted, Each each) {
    std::vector<std::string> pages;
    std::string cursor;
    std::size_t count = 0;
    do {
      auto target = make_target(route_, {{"since", options_.since},
                                         {"namespace", options_.ns},
                                         {"workload", options_.workload},
                                         {"kind", options_.kind},
                                         {"limit", std::to_string(std::min(kPage, wanted - count))},
                                         {"cursor", cursor}});
      auto response = client_.get(target);
      if (!response) return report_error(options_.err, response.error());
      if (response->status != 200) return report_problem(options_.err, *response);
      element document;
      simdjson::dom::array items;
      if (parser_.parse(response->body).get(document) != simdjson::SUCCESS ||
          document["items"].get(items) != simdjson::SUCCESS)
        return report_error(options_.err, not_understood(what_));
      count += items.size();
      std::string_view next;
      cursor = document["nextCursor"].get(next) == simdjson::SUCCESS ? std::string(next) : std::string();
      pages.push_back(std::move(response->body));
    } while (!cursor.empty() && count < wanted);
    for (const auto& body : pages | std::views::reverse) {
      std::vector<element> rows;
      for (element row : parser_.parse(body)["items"]) rows.push_back(row);
      for (const auto& row : rows | std::views::reverse) each(row);
    }
    return std::nullopt;
  }

 private:
  const TokensOptions& options_;
  HttpClient client_;
  simdjson::dom::parser parser_;
  std::string_view route_;
  const char* what_;
};

// Calls `each` with the data of every event of this kind, until stop; a daemon that is away is waited for. `opened` is called once the first
// time that the daemon streams; when it returns an exit code, that is it.
template <typename Opened, typename Each>
int follow(const TokensOptions& options, const char* kind, Opened opened, Each each) {
  EventStream stream(
      options.api_socket,
      make_target("/v1/events", {{"kind", kind}, {"namespace", options.ns}, {"workload", options.workload}}));
  bool begun = false, away = false;
  simdjson::dom::parser parser;
  auto stopped = [&] { return std::ferror(options.out) != 0 || (options.stop != nullptr && options.stop->load()); };
  auto failed = [&](const std::string& sentence) {
    if (!away) fmt::print(options.err, "casad: {}; trying again\n", printable(sentence));
    away = true;
    std::this_thread::sleep_for(options.interval);
  };
  while (!stopped()) {
    if (!stream.is_open()) {
      auto answer = stream.open();
      bool refused = answer && *answer;
      if (!begun && !answer) return report_error(options.err, answer.error());
      if (refused && (!begun || (*answer)->status != 503)) return report_problem(options.err, **answer);
      if (!answer || refused) {
        failed(answer ? problem_sentence(**answer) : answer.error().context);
        continue;
      }
      away = false;
      if (!begun)
        if (std::optional<int> code = opened()) return *code;
      begun = true;
      std::fflush(options.out);
    }
    auto event = stream.next(kLookForStop);
    if (!event) {
      failed(event.error().context);
      continue;
    }
    element data;
    if (!*event || parser.parse((*event)->data).get(data) != simdjson::SUCCESS) continue;
    std::uint64_t lost = 0;
    if ((*event)->kind == kind) each(data);
    else if (data["count"].get(lost) == simdjson::SUCCESS)
      fmt::print(options.err, "casad: {} events were missed: they came faster than they were read\n", lost);
    std::fflush(options.out);
  }
  return kExitDone;
}

std::size_t wanted_rows(const TokensOptions& options) {
  return options.limit != 0 ? options.limit : options.follow ? kDefaultFirstRows : kDefaultRows;
}

int too_many(const TokensOptions& options) {
  return report_error(options.err, {ErrorCode::kInvalidArgument, fmt::format("--limit is {} at most", kMaxRows)});
}

// The whole list at once, lined up.
int show_list(const TokensOptions& options, std::string_view route, const char* what, const Columns& columns) {
  Lister lister(options, route, what);
  Rows rows(options, columns);
  bool any = false;
  auto code = lister.list(wanted_rows(options), [&](const element& row) {
    if (!std::exchange(any, true)) rows.titles();
    rows.row(row);
  });
  if (code) return *code;
  if (!any && !options.json) fmt::print(options.err, "no {} match\n", what);
  return kExitDone;
}

// One token: what is known of it, then its path.
int show_token(const TokensOptions& options) {
  HttpClient client(options.api_socket);
  auto response = client.get("/v1/tokens/" + options.sha256);
  if (!response) return report_error(options.err, response.error());
  if (response->status != 200) return report_problem(options.err, *response);
  simdjson::dom::parser parser;
  element token;
  simdjson::dom::array path;
  if (parser.parse(response->body).get(token) != simdjson::SUCCESS || token["path"].get(path) != simdjson::SUCCESS)
    return report_error(options.err, not_understood("tokens"));
  if (options.json) {
    fmt::print(options.out, "{}\n", printable_json(simdjson::minify(token)));
    return kExitDone;
  }
  Cells cells = token_cells(token);
  for (std::size_t i = 0; i < cells.size(); ++i) fmt::print(options.out, "{:<13} {}\n", token_titles()[i], cells[i]);
  fmt::print(options.out, "\n");
  Rows rows(options, kSightingColumns);
  for (element step : path) rows.fit(step);
  rows.titles();
  for (element step : path) rows.row(step);
  std::uint64_t forgotten = 0;
  if (token["stepsForgotten"].get(forgotten) == simdjson::SUCCESS && forgotten != 0)
    fmt::print(options.out, "{} sightings in between are not kept\n", forgotten);
  return kExitDone;
}

int follow_tokens(const TokensOptions& options) {
  Rows rows(options, kSightingColumns);
  return follow(
      options, "sighting",
      [&]() -> std::optional<int> {
        rows.titles();
        return std::nullopt;
      },
      [&](const element& sighting) {
        std::string_view sha256;
        bool has = sighting["sha256"].get(sha256) == simdjson::SUCCESS;
        if (options.sha256.empty() || (has && sha256 == options.sha256)) rows.row(sighting);
      });
}

int follow_alerts(const TokensOptions& options) {
  Rows rows(options, kAlertColumns);
  // The stream is open when the list is asked for: what is in both is shown once.
  std::map<std::string, std::string> shown;
  auto show = [&](const element& alert) {
    std::string_view id, last_seen, kind;
    if (alert["id"].get(id) != simdjson::SUCCESS || alert["lastSeen"].get(last_seen) != simdjson::SUCCESS) return;
    if (alert["kind"].get(kind) != simdjson::SUCCESS || (!options.kind.empty() && kind != options.kind)) return;
    auto known = shown.find(std::string(id));
    if (known != shown.end() && known->second == last_seen) return;
    if (known != shown.end()) shown.erase(known);
    rows.row(alert);
  };
  return follow(
      options, "alert",
      [&]() -> std::optional<int> {
        rows.titles();
        Lister lister(options, "/v1/alerts", "alerts");
        return lister.list(wanted_rows(options), [&](const element& alert) {
          show(alert);
          std::string_view id = alert["id"], last_seen = alert["lastSeen"];
          shown.emplace(id, last_seen);
        });
      },
      show);
}

}  // namespace

int run_tokens(const TokensOptions& given) {
  TokensOptions options = given;
  auto usage = [&](const char* sentence) { return report_error(options.err, {ErrorCode::kInvalidArgument, sentence}); };
  std::ranges::transform(options.sha256, options.sha256.begin(),
                         [](unsigned char c) { return static_cast<char>(c >= 'A' && c <= 'F' ? c + 32 : c); });
  bool digits = options.sha256.find_first_not_of("0123456789abcdef") == std::string::npos;
  if (!options.sha256.empty() && (!digits || options.sha256.size() != 64))
    return usage("a token is named by its SHA-256, 64 hexadecimal digits: printf %s \"$TOKEN\" | sha256sum");
  if (options.follow && (!options.since.empty() || options.limit != 0))
    return usage("--follow shows sightings from now on: leave out --since and --limit");
  if (wanted_rows(options) > kMaxRows) return too_many(options);
  if (options.follow) return follow_tokens(options);
  return options.sha256.empty() ? show_list(options, "/v1/tokens", "tokens", kTokenColumns) : show_token(options);
}

int run_alerts(const TokensOptions& options) {
  if (wanted_rows(options) > kMaxRows) return too_many(options);
  return options.follow ? follow_alerts(options) : show_list(options, "/v1/alerts", "alerts", kAlertColumns);
}

}  // namespace casa::cli

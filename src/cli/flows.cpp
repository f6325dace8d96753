// `casad flows`: see client.h. Following asks again for what was seen since a little before the newest row, and shows
// each row once a change: a row changes in place, so a cursor alone would miss it.
#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <optional>
#include <thread>

#include "base/text.h"
#include "cli/answer.h"
#include "cli/client.h"
#include "cli/flow_row.h"
#include "cli/terminal.h"

namespace casa::cli {
namespace {

using Time = std::chrono::system_clock::time_point;

constexpr std::size_t kPage = 1000;  // what the API gives at most
constexpr std::size_t kDefaultRows = 100;
constexpr std::size_t kDefaultFirstRows = 10;
constexpr std::size_t kMaxRows = 100'000;
constexpr std::size_t kMaxRemembered = 200'000;
// News reach the daemon out of order by up to a sweep of its counters.
constexpr std::chrono::seconds kOverlap{15};

class FlowPrinter {
 public:
  explicit FlowPrinter(const FlowsOptions& options)
      : options_(options),
        client_(options.api_socket),
        colour_(wants_colour(options.out)),
        table_({24, 7, 9, 40, 16, 12, 16, 0}) {}

  int run() {
    std::size_t wanted = options_.limit != 0 ? options_.limit : options_.follow ? kDefaultFirstRows : kDefaultRows;
    if (wanted > kMaxRows)
      return report_error(options_.err, {ErrorCode::kInvalidArgument, fmt::format("--limit is {} at most", kMaxRows)});
    if (auto code = fetch(options_.since, wanted)) return *code;
    show_first();
    if (!options_.follow) return kExitDone;
    return follow();
  }

 private:
  struct Remembered {
    std::string state;
    Time last_seen;
    bool open = false;
  };

  // Fills rows_ with at most `wanted` rows, oldest first. An exit code when that failed.
  std::optional<int> fetch(const std::string& since, std::size_t wanted) {
    rows_.clear();
    std::string cursor;
    do {
      std::size_t limit = std::min(kPage, wanted - rows_.size());
      auto target = make_target("/v1/flows", {{"since", since},
                                              {"namespace", options_.ns},
                                              {"workload", options_.workload},
                                              {"verdict", options_.verdict},
                                              {"reason", options_.reason},
                                              {"direction", options_.direction},
                                              {"limit", std::to_string(limit)},
                                              {"cursor", cursor}});
      auto response = client_.get(target);
      if (!response) return failed(response.error());
      if (response->status == 503) return failed({ErrorCode::kSystem, problem_sentence(*response)});
      if (response->status != 200) return report_problem(options_.err, *response);
      auto page = read_flow_page(response->body);
      if (!page) return report_error(options_.err, page.error());
      for (auto& row : page->rows) rows_.push_back(std::move(row));
      cursor = page->next_cursor;
    } while (!cursor.empty() && rows_.size() < wanted);
    std::ranges::reverse(rows_);
    away_ = false;
    return std::nullopt;
  }

  // While following, a daemon that is away is waited for.
  std::optional<int> failed(const Error& error) {
    rows_.clear();
    if (!following_) return report_error(options_.err, error);
    if (!away_) fmt::print(options_.err, "casad: {}; trying again\n", printable(error.context));
    away_ = true;
    return std::nullopt;
  }

  void show_first() {
    if (!options_.json) {
      for (const auto& row : rows_) table_.fit(row.cells);
      if (!rows_.empty() || options_.follow) print(table_.line(flow_titles(), std::string::npos, Colour::kNone, false));
      else fmt::print(options_.err, "no flows match\n");
    }
    for (const auto& row : rows_) {
      print(row);
      remember(row);
      first_id_ = std::max(first_id_, row.id);
    }
    first_seen_ = newest_;
    std::fflush(options_.out);
  }

  int follow() {
    following_ = true;
    while (std::ferror(options_.out) == 0) {
      std::this_thread::sleep_for(options_.interval);
      if (options_.stop != nullptr && options_.stop->load()) break;
      std::string since = newest_ ? format_time(*newest_ - kOverlap) : options_.since;
      if (auto code = fetch(since, kMaxRows)) return *code;
      for (const auto& row : rows_) show_news(row);
      std::fflush(options_.out);
      forget_old();
    }
    return kExitDone;
  }

  void show_news(const FlowLine& row) {
    auto known = seen_.find({row.id, row.time});
    bool changed = known == seen_.end() || known->second.state != state_of(row);
    // Rows that the first page left out for its limit are no news until they change.
    bool left_out = known == seen_.end() && first_seen_ && row.id <= first_id_ && row.last_seen <= *first_seen_;
    if (changed && !left_out) print(row);
    remember(row);
  }

  [[nodiscard]] const std::string& state_of(const FlowLine& row) const { return options_.json ? row.json : row.gist; }

  void remember(const FlowLine& row) {
    seen_[{row.id, row.time}] = {state_of(row), row.last_seen, row.open};
    if (!newest_ || row.last_seen > *newest_) newest_ = row.last_seen;
  }

  // A closed row that is too old to be asked for comes again only with news; an open one comes with every counter.
  void forget_old() {
    if (!newest_) return;
    Time asked_from = *newest_ - kOverlap;
    bool too_many = seen_.size() > kMaxRemembered;
    std::erase_if(seen_, [&](const auto& entry) {
      return entry.second.last_seen < asked_from && (too_many || !entry.second.open);
    });
  }

  void print(const FlowLine& row) {
    print(options_.json ? row.json : table_.line(row.cells, kVerdictColumn, colour_of_verdict(row.verdict), colour_));
  }
  void print(const std::string& line) {
    std::fwrite(line.data(), 1, line.size(), options_.out);
    std::fputc('\n', options_.out);
  }

  const FlowsOptions& options_;
  HttpClient client_;
  bool colour_;
  Table table_;
  std::vector<FlowLine> rows_;
  std::map<std::pair<std::uint64_t, std::string>, Remembered> seen_;
  std::optional<Time> newest_, first_seen_;
  std::uint64_t first_id_ = 0;
  bool following_ = false, away_ = false;
};

}  // namespace

int run_flows(const FlowsOptions& options) {
  FlowPrinter printer(options);
  return printer.run();
}

}  // namespace casa::cli

// A page of /v1/flows as the CLI shows it: each row's cells, made safe for a terminal, and what tells rows apart.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"

namespace casa::cli {

struct FlowLine {
  std::uint64_t id = 0;
  std::string time;  // with the id it names the row, also over a restart of the daemon
  std::chrono::system_clock::time_point last_seen;
  bool open = false;
  std::string verdict;
  std::vector<std::string> cells;  // of kFlowTitles
  std::string json;                // the whole row, one line
  std::string gist;                // changes when the row changes in more than its counters
};

inline constexpr std::size_t kVerdictColumn = 1;
const std::vector<std::string>& flow_titles();

struct FlowPage {
  std::vector<FlowLine> rows;  // newest first
  std::string next_cursor;
};
Result<FlowPage> read_flow_page(const std::string& body);

}  // namespace casa::cli

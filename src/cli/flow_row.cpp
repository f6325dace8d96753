// See flow_row.h.
#include "cli/flow_row.h"

#include <fmt/format.h>
#include <simdjson.h>

#include "base/text.h"
#include "cli/answer.h"
#include "cli/json_cells.h"
#include "cli/terminal.h"

namespace casa::cli {
namespace {

using simdjson::dom::element;

std::string process_of(const element& party) {
  element process;
  if (party["process"].get(process) != simdjson::SUCCESS) return {};
  std::string comm = text_of(process, "comm");
  std::uint64_t pid = number_of(process, "pid");
  if (pid == 0) return comm;
  return comm.empty() ? fmt::format("pid {}", pid) : fmt::format("{}[{}]", comm, pid);
}

Result<FlowLine> read_row(const element& row) {
  FlowLine line;
  auto id = parse_number(text_of(row, "id"), UINT64_MAX);
  line.time = text_of(row, "time");
  auto last_seen = parse_time(text_of(row, "lastSeen"), {});
  element source, destination;
  if (!id || !last_seen || row["source"].get(source) != simdjson::SUCCESS ||
      row["destination"].get(destination) != simdjson::SUCCESS)
    return std::unexpected(not_understood("flows"));
  line.id = *id;
  line.last_seen = *last_seen;
  std::string state = text_of(row, "state"), direction = text_of(row, "direction"), reason = text_of(row, "reason"),
              policy = text_of(row, "policy");
  // Of a denial: the name that was asked for, or called.
  if (std::string name = text_of(row, "askedName"); !name.empty()) reason += fmt::format(" ({})", name);
  line.open = state == "open";
  line.verdict = text_of(row, "verdict");
  // The subject's own process: who called, or who was called.
  std::string process = process_of(direction == "ingress" ? destination : source);
  if (process.empty()) process = process_of(direction == "ingress" ? source : destination);
  std::uint64_t count = number_of(row, "count");
  std::string ends =
      fmt::format("{} -> {}/{}", who_is(source), with_port(who_is(destination), number_of(destination, "port")),
                  text_of(row, "protocol"));
  line.cells = {line.time,          or_dash(line.verdict),
                or_dash(direction), ends,
                or_dash(reason),    or_dash(policy),
                or_dash(process),   count > 1 ? fmt::format("x{}", count) : std::string()};
  line.json = printable_json(simdjson::minify(row));
  line.gist = fmt::format("{} {} {} {} {}", state, line.verdict, reason, count, policy);
  return line;
}

}  // namespace

const std::vector<std::string>& flow_titles() {
  static const std::vector<std::string> kTitles{"TIME",   "VERDICT", "DIRECTION", "FLOW",
                                                "REASON", "POLICY",  "PROCESS",   "COUNT"};
  return kTitles;
}

Result<FlowPage> read_flow_page(const std::string& body) {
  simdjson::dom::parser parser;
  element document;
  simdjson::dom::array items;
  if (parser.parse(body).get(document) != simdjson::SUCCESS || document["items"].get(items) != simdjson::SUCCESS)
    return std::unexpected(not_understood("flows"));
  FlowPage page;
  for (element row : items) {
    TRY_ASSIGN(FlowLine line, read_row(row));
    page.rows.push_back(std::move(line));
  }
  std::string_view cursor;
  if (document["nextCursor"].get(cursor) == simdjson::SUCCESS) page.next_cursor = cursor;
  return page;
}

}  // namespace casa::cli

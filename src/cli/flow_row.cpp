// See flow_row.h.
#include "cli/flow_row.h"

#include <fmt/format.h>
#include <simdjson.h>

#include "base/text.h"
#include "cli/answer.h"
#include "cli/terminal.h"

namespace casa::cli {
namespace {

using simdjson::dom::element;

std::string text(const element& object, std::string_view name) {
  std::string_view value;
  return object[name].get(value) == simdjson::SUCCESS ? printable(value) : std::string();
}

std::uint64_t number(const element& object, std::string_view name) {
  std::uint64_t value = 0;
  return object[name].get(value) == simdjson::SUCCESS ? value : 0;
}

std::string or_dash(std::string value) { return value.empty() ? "-" : value; }

// A workload or service by its name; anything else by its name or address where it has one, else by what it is.
std::string who(const element& party) {
  std::string ns = text(party, "namespace"), kind = text(party, "kind"), address = text(party, "address");
  std::string name = text(party, "workload");
  if (name.empty()) name = text(party, "name");
  if (!name.empty()) return ns.empty() ? name : ns + "/" + name;
  if (std::string fqdn = text(party, "fqdn"); !fqdn.empty()) return fqdn;
  if (kind == "host" || address.empty()) return or_dash(kind);
  return address;
}

std::string with_port(const std::string& name, std::uint64_t port) {
  if (port == 0) return name;
  return name.find(':') == std::string::npos ? fmt::format("{}:{}", name, port) : fmt::format("[{}]:{}", name, port);
}

std::string process_of(const element& party) {
  element process;
  if (party["process"].get(process) != simdjson::SUCCESS) return {};
  std::string comm = text(process, "comm");
  std::uint64_t pid = number(process, "pid");
  if (pid == 0) return comm;
  return comm.empty() ? fmt::format("pid {}", pid) : fmt::format("{}[{}]", comm, pid);
}

Result<FlowLine> read_row(const element& row) {
  FlowLine line;
  auto id = parse_number(text(row, "id"), UINT64_MAX);
  line.time = text(row, "time");
  auto last_seen = parse_time(text(row, "lastSeen"), {});
  element source, destination;
  if (!id || !last_seen || row["source"].get(source) != simdjson::SUCCESS ||
      row["destination"].get(destination) != simdjson::SUCCESS)
    return std::unexpected(not_understood("flows"));
  line.id = *id;
  line.last_seen = *last_seen;
  std::string state = text(row, "state"), direction = text(row, "direction"), reason = text(row, "reason"),
              policy = text(row, "policy");
  // Of a denial: the name that was asked for, or called.
  if (std::string name = text(row, "askedName"); !name.empty()) reason += fmt::format(" ({})", name);
  line.open = state == "open";
  line.verdict = text(row, "verdict");
  // The subject's own process: who called, or who was called.
  std::string process = process_of(direction == "ingress" ? destination : source);
  if (process.empty()) process = process_of(direction == "ingress" ? source : destination);
  std::uint64_t count = number(row, "count");
  std::string ends = fmt::format("{} -> {}/{}", who(source), with_port(who(destination), number(destination, "port")),
                                 text(row, "protocol"));
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

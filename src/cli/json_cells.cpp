// See json_cells.h.
#include "cli/json_cells.h"

#include <fmt/format.h>

#include "cli/terminal.h"

namespace casa::cli {

using simdjson::dom::element;

std::string text_of(const element& object, std::string_view name) {
  std::string_view value;
  return object[name].get(value) == simdjson::SUCCESS ? printable(value) : std::string();
}

std::uint64_t number_of(const element& object, std::string_view name) {
  std::uint64_t value = 0;
  return object[name].get(value) == simdjson::SUCCESS ? value : 0;
}

std::string or_dash(std::string value) { return value.empty() ? "-" : value; }

std::string who_is(const element& party) {
  std::string ns = text_of(party, "namespace"), kind = text_of(party, "kind"), address = text_of(party, "address");
  std::string name = text_of(party, "workload");
  if (name.empty()) name = text_of(party, "name");
  if (!name.empty()) return ns.empty() ? name : ns + "/" + name;
  if (std::string fqdn = text_of(party, "fqdn"); !fqdn.empty()) return fqdn;
  if (kind == "host" || address.empty()) return or_dash(kind);
  return address;
}

std::string with_port(const std::string& name, std::uint64_t port) {
  if (port == 0) return name;
  return name.find(':') == std::string::npos ? fmt::format("{}:{}", name, port) : fmt::format("[{}]:{}", name, port);
}

std::string ends_of(const element& object, std::string_view source, std::string_view destination) {
  element from, to;
  if (object[source].get(from) != simdjson::SUCCESS || object[destination].get(to) != simdjson::SUCCESS) return "-";
  return fmt::format("{} -> {}", who_is(from), with_port(who_is(to), number_of(to, "port")));
}

}  // namespace casa::cli

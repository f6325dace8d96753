// Cells of a table out of the API's JSON, safe for a terminal.
#pragma once

#include <simdjson.h>

#include <cstdint>
#include <string>
#include <string_view>

namespace casa::cli {

// Empty, or 0, when it is absent.
std::string text_of(const simdjson::dom::element& object, std::string_view name);
std::uint64_t number_of(const simdjson::dom::element& object, std::string_view name);
std::string or_dash(std::string value);
// One end of a flow, sighting or alert: a workload or service by its name; anything else by its name or address where it has one, else by what
// it is.
std::string who_is(const simdjson::dom::element& party);
std::string with_port(const std::string& name, std::uint64_t port);
// "team-a/agent -> tools/mcp-server:8080" of an object with two ends of these names.
std::string ends_of(const simdjson::dom::element& object, std::string_view source, std::string_view destination);

}  // namespace casa::cli

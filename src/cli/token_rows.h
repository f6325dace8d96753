// Tokens, sightings, steps and alerts as the CLI shows them: the cells of each, made safe for a terminal.
#pragma once

#include <simdjson.h>

#include <string>
#include <vector>

namespace casa::cli {

using Cells = std::vector<std::string>;

const Cells& token_titles();
Cells token_cells(const simdjson::dom::element& token);

// A sighting of /v1/events, or a step of a token's path, which have the same members.
const Cells& sighting_titles();
Cells sighting_cells(const simdjson::dom::element& sighting);
inline constexpr std::size_t kSightingVerdictColumn = 3;

const Cells& alert_titles();
Cells alert_cells(const simdjson::dom::element& alert);
inline constexpr std::size_t kAlertSeverityColumn = 1;

}  // namespace casa::cli

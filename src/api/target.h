// A request target (RFC 9112, origin or absolute form) taken apart: a decoded path and decoded query parameters in
// their order. Pure. Assumes nothing about its input; decodes once, and refuses what two readers could read
// differently.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/error.h"

namespace casa::api {

struct Target {
  std::string path;
  std::vector<std::pair<std::string, std::string>> query;
};

// kInvalidArgument with a sentence. "+" is a plus sign (times have one: 2026-01-01T00:00:00+02:00), not a space.
Result<Target> parse_target(std::string_view raw);

}  // namespace casa::api

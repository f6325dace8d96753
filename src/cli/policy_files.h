// The files that `casad check` and `casad render` are given: found, read, parsed, and told of where something is wrong with them. Needs neither
// root nor a running daemon, and changes nothing. Knows of no rule itself: those are policy/'s; what it adds is that an object stands in
// one file only.
#pragma once

#include <cstdio>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "policy/objects.h"

namespace casa::cli {

struct PolicyFiles {
  std::vector<policy::Object>
      objects;  // the valid ones, in the order of the paths and, below a directory, of the names
  std::size_t files = 0, errors = 0, warnings = 0;
  bool unreadable = false;  // a path does not exist or cannot be read
};

// Each path is a file or a directory (searched recursively for *.yaml, *.yml and *.json; hidden names and links to
// directories are skipped); "-" is standard input. Prints every diagnostic to `out`; `command` ("casad check") begins those that
// are about no place in a file.
PolicyFiles read_policy_files(std::span<const std::string> paths, std::string_view command, std::FILE* out);

}  // namespace casa::cli

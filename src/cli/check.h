// `casad check`: the daemon's own validation of policy files, for people and CI. Reads files, prints, changes nothing,
// and needs neither root nor a running daemon. Knows of no rule itself: those are policy/'s; what it adds is that an object
// stands in one file only.
#pragma once

#include <cstdio>
#include <span>
#include <string>

namespace casa::cli {

// Each path is a file or a directory (searched recursively for *.yaml, *.yml and *.json; hidden names and links to
// directories are skipped); "-" is standard input. Prints every diagnostic, then a summary line, to `out`.
// Returns 0: all valid; 1: something is not; 2: nothing to check, or a path that does not exist or cannot be read.
int run_check(std::span<const std::string> paths, std::FILE* out);

}  // namespace casa::cli

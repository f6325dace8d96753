// `casad check`: the daemon's own validation of policy files, for people and CI. Reads files, prints, changes nothing,
// and needs neither root nor a running daemon. Finding and reading them is policy_files' business.
#pragma once

#include <cstdio>
#include <span>
#include <string>

namespace casa::cli {

// Paths as read_policy_files() takes them. Prints every diagnostic, then a summary line, to `out`.
// Returns 0: all valid; 1: something is not; 2: nothing to check, or a path that does not exist or cannot be read.
int run_check(std::span<const std::string> paths, std::FILE* out);

}  // namespace casa::cli

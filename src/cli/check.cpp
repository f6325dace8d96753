#include "cli/check.h"

#include <fmt/format.h>

#include "cli/policy_files.h"

namespace casa::cli {

int run_check(std::span<const std::string> paths, std::FILE* out) {
  if (paths.empty()) {
    fmt::print(out, "casad check: error: no file is named; write casad check FILE|DIR...\n");
    return 2;
  }
  PolicyFiles found = read_policy_files(paths, "casad check", out);
  auto count = [](std::size_t n, std::string_view word) { return fmt::format("{} {}{}", n, word, n == 1 ? "" : "s"); };
  fmt::print(out, "{}, {}: {}, {}\n", count(found.files, "file"), count(found.objects.size(), "object"),
             count(found.errors, "error"), count(found.warnings, "warning"));
  if (found.unreadable) return 2;
  return found.errors > 0 ? 1 : 0;
}

}  // namespace casa::cli

// The examples that users copy are valid, and so is every policy in docs/policy.md.
#include <catch2/catch_test_macros.hpp>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "support.h"

using namespace casa::policy;
using namespace casa::policy::test;

namespace {
std::string read_all(const std::filesystem::path& path) {
  std::ifstream in(path, std::ios::binary);
  REQUIRE(in);
  std::ostringstream out;
  out << in.rdbuf();
  return out.str();
}
}  // namespace

TEST_CASE("examples/policies") {
  std::size_t files = 0;
  for (const auto& entry :
       std::filesystem::directory_iterator(std::filesystem::path(CASA_SOURCE_DIR) / "examples" / "policies")) {
    INFO(entry.path());
    auto r = parse_text("f", read_all(entry.path()), syntax_of(entry.path().string()));
    CHECK(lines(r) == Lines{});
    CHECK_FALSE(r.objects.empty());
    ++files;
  }
  CHECK(files >= 6);
}

TEST_CASE("the examples of docs/policy.md") {
  std::istringstream in(read_all(std::filesystem::path(CASA_SOURCE_DIR) / "docs" / "policy.md"));
  std::string line, block;
  bool inside = false;
  std::size_t blocks = 0;
  while (std::getline(in, line)) {
    if (!inside && line == "```yaml") {
      inside = true;
      block.clear();
    } else if (inside && line == "```") {
      inside = false;
      ++blocks;
      INFO(block);
      CHECK(lines(block) == Lines{});
    } else if (inside) {
      block += line + "\n";
    }
  }
  CHECK(blocks >= 5);
}

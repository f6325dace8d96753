// Staging against a real kernel map: nothing of the generation in force changes until the switch, a crash in the middle is
// undone, and prefixes fall back to the right shorter one on both sides of the switch. Needs root.
#include <unistd.h>

#include <catch2/catch_test_macros.hpp>

#include "base/fd.h"
#include "datapath/staged_table.h"

namespace {

using casa::datapath::BpfMap;
using casa::datapath::StagedTable;
using Table = StagedTable<std::uint32_t, std::uint32_t>;
using Image = Table::Image;

std::uint32_t same(const std::uint32_t& x) { return x; }

struct Fixture {
  explicit Fixture(std::uint32_t entries = 64)
      : fd(bpf_map_create(BPF_MAP_TYPE_HASH, "casa_test", 4, sizeof(casa_versioned), entries, nullptr)) {
    if (::geteuid() != 0) SKIP("needs root: it makes a BPF map");
    REQUIRE(fd);
    table = fresh();
  }
  Table fresh() const { return Table({fd.get(), "casa_test"}, same, same); }
  // What a program sees under a generation.
  Image seen(std::uint32_t generation) const {
    Image image;
    BpfMap<std::uint32_t, casa_versioned>(fd.get(), "").each([&](const std::uint32_t& key, const casa_versioned& v) {
      if (std::uint32_t payload = generation >= v.since ? v.cur : v.prev) image[key] = payload;
    });
    return image;
  }
  void bring(const Image& image, std::uint32_t generation) {
    REQUIRE(table.stage(image, generation));
    REQUIRE(table.clean(image));
  }
  casa::Fd fd;
  Table table;
};

}  // namespace

TEST_CASE("the present generation does not see what is staged, the next one sees it whole") {
  Fixture f;
  const Image now{{1, 10}, {2, 20}, {3, 30}}, next{{2, 21}, {3, 30}, {4, 40}};
  f.bring(now, 1);
  REQUIRE(f.table.stage(next, 2));
  CHECK(f.seen(1) == now);
  CHECK(f.seen(2) == next);
  REQUIRE(f.table.clean(next));
  CHECK(f.seen(2) == next);
}

TEST_CASE("a crash between staging and switch is undone, one after the switch is finished") {
  Fixture f;
  const Image now{{1, 10}, {2, 20}}, next{{2, 21}, {3, 30}};
  f.bring(now, 1);
  REQUIRE(f.table.stage(next, 2));
  SECTION("before the switch") {
    Table restarted = f.fresh();
    REQUIRE(restarted.adopt(1));
    CHECK(restarted.applied() == now);
    CHECK(f.seen(1) == now);
    CHECK(f.seen(2) == now);
  }
  SECTION("after the switch") {
    Table restarted = f.fresh();
    REQUIRE(restarted.adopt(2));
    CHECK(restarted.applied() == next);
    CHECK(f.seen(2) == next);
  }
}

TEST_CASE("a full map reverts to exactly what was") {
  Fixture f(3);
  const Image now{{1, 10}, {2, 20}}, next{{3, 30}, {4, 40}, {5, 50}};
  f.bring(now, 1);
  CHECK(f.table.size_while_staged(next) == 5);
  auto staged = f.table.stage(next, 2);
  REQUIRE_FALSE(staged);
  CHECK(staged.error().code == casa::ErrorCode::kLimit);
  REQUIRE(f.table.revert(1));
  CHECK(f.seen(1) == now);
  CHECK(f.seen(2) == now);
}

TEST_CASE("a longer prefix that comes or goes leaves the shorter one in force meanwhile") {
  Fixture f;
  // Keys stand for prefixes: 100 contains 101.
  auto shorter = [](const Image& image, const std::uint32_t& key) {
    return key == 101 && image.contains(100) ? image.at(100) : 0u;
  };
  Table table({f.fd.get(), "casa_test"}, same, same, shorter);
  const Image with{{100, 7}, {101, 8}}, without{{100, 7}};
  REQUIRE(table.stage(without, 1));
  REQUIRE(table.clean(without));
  REQUIRE(table.stage(with, 2));
  CHECK(f.seen(1).at(101) == 7);
  CHECK(f.seen(2).at(101) == 8);
  REQUIRE(table.clean(with));
  REQUIRE(table.stage(without, 3));
  CHECK(f.seen(2).at(101) == 8);
  CHECK(f.seen(3).at(101) == 7);
}

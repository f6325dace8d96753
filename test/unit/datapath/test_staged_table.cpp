// Staging against a real kernel map: nothing of the generation in force changes until the switch, a crash in the middle is
// undone, and prefixes fall back to the right shorter one on both sides of the switch. Needs root.
#include <unistd.h>

#include <catch2/catch_test_macros.hpp>
#include <random>

#include "base/fd.h"
#include "datapath/staged_table.h"

namespace {

using casa::datapath::BpfMap;
using casa::datapath::StagedTable;
using Table = StagedTable<std::uint32_t, std::uint32_t>;
using Image = Table::Image;
using Names = Table::Names;

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
  void stage(const Image& image, std::uint32_t generation, const Names* names = nullptr) {
    table.compare(image, names);
    REQUIRE(table.stage(image, generation));
  }
  void bring(const Image& image, std::uint32_t generation) {
    stage(image, generation);
    REQUIRE(table.clean());
  }
  casa::Fd fd;
  Table table;
};

}  // namespace

TEST_CASE("the present generation does not see what is staged, the next one sees it whole") {
  Fixture f;
  const Image now{{1, 10}, {2, 20}, {3, 30}}, next{{2, 21}, {3, 30}, {4, 40}};
  f.bring(now, 1);
  f.stage(next, 2);
  CHECK(f.seen(1) == now);
  CHECK(f.seen(2) == next);
  REQUIRE(f.table.clean());
  CHECK(f.seen(2) == next);
}

TEST_CASE("a crash between staging and switch is undone, one after the switch is finished") {
  Fixture f;
  const Image now{{1, 10}, {2, 20}}, next{{2, 21}, {3, 30}};
  f.bring(now, 1);
  f.stage(next, 2);
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
  f.table.compare(next);
  CHECK(f.table.size_while_staged() == 5);
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
  f.table = Table({f.fd.get(), "casa_test"}, same, same, shorter);
  const Image with{{100, 7}, {101, 8}}, without{{100, 7}};
  f.bring(without, 1);
  f.stage(with, 2);
  CHECK(f.seen(1).at(101) == 7);
  CHECK(f.seen(2).at(101) == 8);
  REQUIRE(f.table.clean());
  f.stage(without, 3);
  CHECK(f.seen(2).at(101) == 8);
  CHECK(f.seen(3).at(101) == 7);
}

TEST_CASE("of an image whose rows are named, no other rows are looked at") {
  Fixture f;
  f.bring({{1, 10}, {2, 20}, {3, 30}}, 1);
  const Image next{{1, 11}, {3, 31}, {4, 40}};
  const Names names{2, 3, 4, 5};
  f.stage(next, 2, &names);
  CHECK(f.table.size_while_staged() == 4);
  CHECK(f.seen(1) == Image{{1, 10}, {2, 20}, {3, 30}});
  CHECK(f.seen(2) == Image{{1, 10}, {3, 31}, {4, 40}});
  REQUIRE(f.table.clean());
  CHECK(f.table.applied() == f.seen(2));
}

TEST_CASE("rows that are named and do not differ are no difference") {
  Fixture f;
  f.bring({{1, 10}, {2, 20}}, 1);
  const Names names{1, 7};
  f.table.compare({{1, 10}, {2, 21}}, &names);
  CHECK_FALSE(f.table.differs());
  f.table.compare({{1, 10}, {2, 21}});
  CHECK(f.table.differs());
}

TEST_CASE("an image that has more or fewer rows than were named does not follow") {
  Fixture f;
  f.bring({{1, 10}, {2, 20}}, 1);
  const Names none, two{2}, three{3};
  CHECK(f.table.follows({{1, 11}, {2, 20}}, &none));
  CHECK(f.table.follows({{1, 10}}, &two));
  CHECK(f.table.follows({{1, 10}, {2, 20}, {3, 30}}, &three));
  CHECK_FALSE(f.table.follows({{1, 10}}, &none));
  CHECK_FALSE(f.table.follows({{1, 10}, {2, 20}, {3, 30}}, &two));
  CHECK_FALSE(f.table.follows({{1, 10}, {3, 30}}, &three));
  CHECK(f.table.follows({}, nullptr));
}

TEST_CASE("what a failure left of named rows reverts to what was, and the table can go on") {
  Fixture f(3);
  const Image now{{1, 10}, {2, 20}};
  f.bring(now, 1);
  const Image next{{2, 21}, {3, 30}, {4, 40}};
  const Names names{1, 2, 3, 4};
  f.table.compare(next, &names);
  REQUIRE_FALSE(f.table.stage(next, 2));
  REQUIRE(f.table.revert(1));
  CHECK(f.seen(1) == now);
  CHECK(f.seen(2) == now);
  const Names two{2};
  f.stage({{1, 10}, {2, 22}}, 2, &two);
  REQUIRE(f.table.clean());
  CHECK(f.seen(2) == Image{{1, 10}, {2, 22}});
}

TEST_CASE("what the kernel did of the changes by itself is no difference") {
  Fixture f;
  f.bring({{1, 10}, {2, 20}, {3, 30}}, 1);
  BpfMap<std::uint32_t, casa_versioned> kernel(f.fd.get(), "");
  REQUIRE(kernel.erase(1));
  REQUIRE(kernel.put(4, {1, 40, 40}));
  REQUIRE(kernel.put(5, {1, 50, 50}));
  const Names names{1, 4};
  const Names* rows = nullptr;
  SECTION("whole") {}
  SECTION("named rows") { rows = &names; }
  const Image next{{2, 20}, {3, 30}, {4, 40}};
  f.table.compare(next, rows);
  f.table.look_at_kernel(1);
  CHECK_FALSE(f.table.differs());
  CHECK(f.table.applied() == next);
  // A row with another payload is one.
  const Image other{{2, 20}, {3, 30}, {4, 40}, {5, 51}};
  const Names five{5};
  f.table.compare(other, rows != nullptr ? &five : nullptr);
  f.table.look_at_kernel(1);
  REQUIRE(f.table.stage(other, 2));
  CHECK(f.seen(1).at(5) == 50);
  CHECK(f.seen(2) == other);
}

// Under the old generation the old image and under the new one the new image, whatever differs and whatever comes of it: the switch, a
// revert, or a crash on either side of the switch. Whole commits and those of named rows take turns at one map.
TEST_CASE("random images, whole or by the rows that differ") {
  Fixture f;
  std::mt19937 random(20);  // NOLINT: the same images each time
  auto below = [&](std::uint32_t bound) { return static_cast<std::uint32_t>(random() % bound); };
  Image now;
  std::uint32_t generation = 0;
  for (int round = 0; round < 3000; ++round) {
    Image next = now;
    Names names;
    for (std::uint32_t i = below(6); i > 0; --i) {
      std::uint32_t name = below(24);
      names.insert(name);
      if (below(3) == 0) next.erase(name);
      else next[name] = 1 + below(3);
    }
    const bool whole = below(3) == 0;
    REQUIRE(f.table.follows(next, &names));
    f.table.compare(next, whole ? nullptr : &names);
    REQUIRE(f.table.differs() == (next != now));
    REQUIRE(f.table.stage(next, generation + 1));
    REQUIRE(f.seen(generation) == now);
    REQUIRE(f.seen(generation + 1) == next);
    switch (below(4)) {
      case 0:
        REQUIRE(f.table.revert(generation));
        REQUIRE(f.seen(generation + 1) == now);
        break;
      case 1:
        f.table = f.fresh();
        REQUIRE(f.table.adopt(generation));
        REQUIRE(f.seen(generation + 1) == now);
        break;
      case 2:
        f.table = f.fresh();
        REQUIRE(f.table.adopt(++generation));
        now = next;
        break;
      default:
        REQUIRE(f.table.clean());
        ++generation;
        now = next;
    }
    REQUIRE(f.seen(generation) == now);
    REQUIRE(f.table.applied() == now);
  }
}

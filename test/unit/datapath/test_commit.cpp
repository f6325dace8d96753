// Commits of whole images and of named rows at a datapath of its own, in a bpf file system that goes with this process. Nothing is attached.
// Needs root.
#include <fmt/format.h>
#include <sched.h>
#include <sys/mount.h>
#include <unistd.h>

#include <catch2/catch_test_macros.hpp>
#include <filesystem>
#include <random>

#include "base/fd.h"
#include "datapath/bpf_map.h"
#include "datapath/datapath.h"
#include "datapath/pins.h"
#include "datapath/tables.h"

namespace {

using casa::IpAddress;
using casa::compile::MapImage;
using casa::compile::Touched;
using casa::datapath::BpfMap;
using casa::datapath::Datapath;

constexpr unsigned kRootLevel = 2;
const std::string kRoot = "/a/b";

// All test cases share it: to load the programs takes more than a second.
struct Bed {
  Bed() {
    REQUIRE(::unshare(CLONE_NEWNS) == 0);
    REQUIRE(::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0);
    dir = (std::filesystem::temp_directory_path() / "casa-commit-XXXXXX").string();
    REQUIRE(::mkdtemp(dir.data()) != nullptr);
    REQUIRE(::mount("bpf", dir.c_str(), "bpf", 0, nullptr) == 0);
    open();
  }
  ~Bed() {
    datapath.reset();
    ::umount2(dir.c_str(), MNT_DETACH);
    ::rmdir(dir.c_str());
  }
  void open() {
    datapath.reset();
    casa::datapath::Options options;
    options.bpffs = dir + "/casad";
    options.mount = {"/sys/fs/cgroup", "/sys/fs/cgroup", kRoot, kRootLevel};
    options.limits = {64, 64, 64, 64, 64, 64};
    auto opened = Datapath::open(options);
    INFO((opened ? "" : opened.error().context));
    REQUIRE(opened);
    datapath = std::move(*opened);
  }
  std::string dir;
  std::unique_ptr<Datapath> datapath;
};
Bed& bed() {
  if (::geteuid() != 0) SKIP("needs root: it loads BPF programs");
  static Bed bed;
  return bed;
}

IpAddress address(unsigned i) { return *casa::parse_ip(fmt::format("10.0.{}.{}", i / 256, i % 256)); }

struct Fixture {
  explicit Fixture(const MapImage& image) {
    commit(image);
    before = datapath->generation();
  }
  // Since that image.
  [[nodiscard]] std::uint32_t generations() const { return datapath->generation() - before; }

  bool commit(const MapImage& image) { return value(datapath->commit(image)); }
  bool commit(const MapImage& image, const Touched& touched) { return value(datapath->commit(image, touched)); }
  static bool value(const casa::Result<bool>& committed) {
    INFO((committed ? "" : committed.error().context));
    REQUIRE(committed);
    return *committed;
  }

  template <typename Key, typename Value = casa_versioned>
  BpfMap<Key, Value> map(const char* name) {
    fds.emplace_back(bpf_obj_get((casa::datapath::abi_dir(bed().dir + "/casad") + "/" + name).c_str()));
    REQUIRE(fds.back());
    return {fds.back().get(), name};
  }
  template <typename Key, typename Decode>
  auto rows(const char* name, Decode decode) {
    std::map<decltype(decode(Key{})), std::uint32_t> image;
    map<Key>(name).each([&](const Key& key, const casa_versioned& value) {
      if (std::uint32_t payload = datapath->generation() >= value.since ? value.cur : value.prev)
        image[decode(key)] = payload;
    });
    return image;
  }
  // What the kernel's programs read. The tables that are compared whole have one to stand for them.
  MapImage seen() {
    MapImage image;
    image.addresses =
        rows<casa_addr_key>("casa_addr", [](const casa_addr_key& key) { return casa::make_ip(key.address); });
    image.cgroup_paths = rows<casa_cgpath_key>(
        "casa_cgpath", [](const casa_cgpath_key& key) { return std::string(key.path).substr(kRoot.size() + 1); });
    image.cgroups = rows<std::uint64_t>("casa_cgroup", [](std::uint64_t id) { return id; });
    image.subjects = rows<std::uint32_t>("casa_subject", [](std::uint32_t subject) { return subject; });
    return image;
  }
  casa_config config() { return *map<std::uint32_t, casa_config>("casa_config").get(0); }

  std::unique_ptr<Datapath>& datapath = bed().datapath;
  std::uint32_t before = 0;
  std::vector<casa::Fd> fds;
};

void require_same(const MapImage& seen, const MapImage& image) {
  REQUIRE(seen.addresses == image.addresses);
  REQUIRE(seen.cgroup_paths == image.cgroup_paths);
  REQUIRE(seen.cgroups == image.cgroups);
  REQUIRE(seen.subjects == image.subjects);
}

MapImage small_image() {
  MapImage image;
  for (unsigned i = 0; i < 4; ++i) {
    image.addresses[address(i)] = 100 + i;
    image.cgroup_paths[fmt::format("s.slice/{}.service", i)] = 100 + i;
    image.cgroups[1000 + i] = 100 + i;
    image.subjects[100 + i] = CASA_SUBJECT_MANAGED;
  }
  image.level_max = 2;
  return image;
}

}  // namespace

TEST_CASE("a commit looks at the rows named, and is a generation only when they differ") {
  MapImage image = small_image();
  Fixture f(image);
  CHECK_FALSE(f.commit(image, {}));
  CHECK_FALSE(f.commit(image, {{address(0)}, {"s.slice/0.service"}, {1000}, true}));
  CHECK(f.generations() == 0);

  MapImage next = image;
  next.addresses[address(0)] = next.cgroup_paths["s.slice/0.service"] = next.cgroups[1000] = 7;
  MapImage more = next;  // with changes that are not named
  more.addresses[address(1)] = more.cgroup_paths["s.slice/1.service"] = more.cgroups[1001] = more.subjects[100] = 9;
  CHECK(f.commit(more, {{address(0)}, {"s.slice/0.service"}, {1000}, false}));
  require_same(f.seen(), next);
  CHECK(f.datapath->cgroups() == next.cgroups);
  CHECK(f.generations() == 1);

  CHECK(f.commit(more, {{}, {}, {}, true}));
  next.subjects = more.subjects;
  require_same(f.seen(), next);
  CHECK(f.commit(more));
  require_same(f.seen(), more);
  CHECK(f.generations() == 3);
}

TEST_CASE("what cannot be the rows named alone is committed whole") {
  MapImage image = small_image();
  Fixture f(image);
  SECTION("another number of rows") {
    image.addresses[address(9)] = 9;
    image.addresses[address(1)] = 9;
    CHECK(f.commit(image, {{address(1)}, {}, {}, false}));
  }
  SECTION("another number of rows of a table that is not to be looked at") {
    image.subjects.erase(100);
    image.addresses[address(1)] = 9;
    CHECK(f.commit(image, {}));
  }
  SECTION("after an image that did not fit") {
    image.addresses[address(1)] = 9;
    MapImage large = image;
    for (unsigned i = 0; i < 100; ++i) large.addresses[address(1000 + i)] = 1;
    Touched touched{{address(1)}, {}, {}, false};
    for (unsigned i = 0; i < 100; ++i) touched.addresses.insert(address(1000 + i));
    auto committed = f.datapath->commit(large, touched);
    REQUIRE_FALSE(committed);
    CHECK(committed.error().code == casa::ErrorCode::kLimit);
    require_same(f.seen(), small_image());
    CHECK(f.commit(image, {}));
  }
  SECTION("the first of a run") {
    bed().open();
    image.addresses[address(1)] = 9;
    CHECK(f.commit(image, {}));
  }
  require_same(f.seen(), image);
  CHECK(f.generations() == 1);
}

TEST_CASE("named rows must fit beside what they replace, and paths be short enough") {
  MapImage image;
  for (unsigned i = 0; i < 60; ++i) image.addresses[address(i)] = 1;
  Fixture f(image);
  MapImage next = image;
  Touched touched;
  SECTION("room") {
    for (unsigned i = 0; i < 8; ++i) {
      next.addresses.erase(address(i));
      next.addresses[address(100 + i)] = 1;
      touched.addresses.insert({address(i), address(100 + i)});
    }
  }
  SECTION("a path") {
    next.cgroup_paths[std::string(300, 'x')] = 1;
    touched.cgroup_paths.insert(std::string(300, 'x'));
  }
  auto committed = f.datapath->commit(next, touched);
  REQUIRE_FALSE(committed);
  CHECK(committed.error().code == casa::ErrorCode::kLimit);
  CHECK(f.generations() == 0);
  require_same(f.seen(), image);
}

TEST_CASE("levels follow a path that is named") {
  MapImage image = small_image();
  Fixture f(image);
  CHECK(f.config().level_max == kRootLevel + 2);
  MapImage deeper = image;
  deeper.cgroup_paths["s.slice/t/u/v"] = 5;
  deeper.level_max = 4;
  CHECK(f.commit(deeper, {{}, {"s.slice/t/u/v"}, {}, false}));
  CHECK(f.config().level_max == kRootLevel + 4);
  CHECK(f.commit(image, {{}, {"s.slice/t/u/v"}, {}, false}));
  CHECK(f.config().level_max == kRootLevel + 2);
}

TEST_CASE("of cgroups that the kernel entered and removed by itself, those named are looked at") {
  MapImage image = small_image();
  Fixture f(image);
  auto kernel = f.map<std::uint64_t>("casa_cgroup");
  REQUIRE(kernel.put(2000, {f.datapath->generation(), 100, 100}));
  REQUIRE(kernel.erase(1001));
  image.cgroups[2000] = 100;
  image.cgroups.erase(1001);
  CHECK_FALSE(f.commit(image, {{}, {}, {1001, 2000}, false}));
  CHECK(f.generations() == 0);
  CHECK(f.datapath->cgroups() == image.cgroups);
  require_same(f.seen(), image);
}

TEST_CASE("random changes by the rows that differ leave what whole commits would") {
  MapImage image = small_image();
  Fixture f(image);
  std::mt19937 random(7);  // NOLINT: the same images each time
  auto change = [&](auto& table, const auto& key) {
    if (random() % 3 == 0) table.erase(key);
    else table[key] = 1 + random() % 3;
  };
  for (int round = 0; round < 300; ++round) {
    MapImage next = image;
    Touched touched;
    for (auto n = random() % 4; n > 0; --n) {
      auto i = static_cast<unsigned>(random() % 8);
      switch (random() % 4) {
        case 0: change(next.addresses, *touched.addresses.insert(address(i)).first); break;
        case 1: change(next.cgroups, *touched.cgroups.insert(1000 + i).first); break;
        case 2: {
          auto path = fmt::format("s.slice/{}.service", i);
          change(next.cgroup_paths, *touched.cgroup_paths.insert(path).first);
          break;
        }
        default: change(next.subjects, 100 + i); touched.others = true;
      }
    }
    bool differs = next.addresses != image.addresses || next.cgroups != image.cgroups ||
                   next.cgroup_paths != image.cgroup_paths || next.subjects != image.subjects;
    REQUIRE(f.commit(next, touched) == differs);
    require_same(f.seen(), next);
    REQUIRE_FALSE(f.commit(next));  // the whole commit finds nothing more
    image = next;
  }
}

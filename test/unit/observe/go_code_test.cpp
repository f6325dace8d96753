// Where probes may stand in the code of Go's functions: on one function as Go 1.26 compiled it for two machines, whole, cut and changed.
// test/net has whole programs.
#include "observe/go_code.h"

#include <array>
#include <catch2/catch_test_macros.hpp>
#include <random>
#include <string>
#include <tuple>

using namespace casa;
using observe::find_go_places;
using observe::Machine;

namespace {

// func f(a *[9]int, b []byte) (int, bool) { if len(b) > 3 { return g(b) + 0xc3, true }; return len(b) + a[3], false }
// It returns at 0x37 and 0x47; 0xc3, which is also what returning looks like, stands in an addition before.
constexpr char kAmd64Bytes[] =
    "\x49\x3b\x66\x10\x76\x42\x55\x48\x89\xe5\x48\x83\xec\x18\x48\x89\x5c\x24\x30\x48\x83\xf9\x03\x7e\x1f\x48\x89\xd8"
    "\x48\x89\xcb\x48"
    "\x89\xf9\xe8\x59\x00\x00\x00\x48\x05\xc3\x00\x00\x00\xbb\x01\x00\x00\x00\x48\x83\xc4\x18\x5d\xc3\x48\x8b\x50\x18"
    "\x48\x8d\x04\x0a"
    "\x31\xdb\x48\x83\xc4\x18\x5d\xc3\x48\x89\x44\x24\x08\x48\x89\x5c\x24\x10\x48\x89\x4c\x24\x18\x48\x89\x7c\x24\x20"
    "\x0f\x1f\x40\x00"
    "\xe8\xbb\xb4\xff\xff\x48\x8b\x44\x24\x08\x48\x8b\x5c\x24\x10\x48\x8b\x4c\x24\x18\x48\x8b\x7c\x24\x20\xeb\x85\xcc"
    "\xcc\xcc\xcc\xcc";
constexpr char kArm64Bytes[] =
    "\x90\x0b\x40\xf9\xff\x63\x30\xeb\xc9\x02\x00\x54\xfe\x0f\x1d\xf8\xfd\x83\x1f\xf8\xfd\x23\x00\xd1\xe1\x23\x00\xf9"
    "\x5f\x0c\x00\xf1"
    "\x4d\x01\x00\x54\xe0\x03\x01\xaa\xe1\x03\x02\xaa\xe2\x03\x03\xaa\x14\x00\x00\x94\x00\x0c\x03\x91\xe1\x03\x40\xb2"
    "\xfd\x83\x5f\xf8"
    "\xfe\x07\x43\xf8\xc0\x03\x5f\xd6\x03\x0c\x40\xf9\x60\x00\x02\x8b\xe1\x03\x1f\xaa\xfd\x83\x5f\xf8\xfe\x07\x43\xf8"
    "\xc0\x03\x5f\xd6"
    "\xe0\x87\x00\xa9\xe2\x8f\x01\xa9\xe3\x03\x1e\xaa\xb5\xee\xff\x97\xe0\x87\x40\xa9\xe2\x8f\x41\xa9\xe2\xff\xff\x17"
    "\x00\x00\x00\x00";
constexpr std::string_view kAmd64(kAmd64Bytes, sizeof kAmd64Bytes - 1), kArm64(kArm64Bytes, sizeof kArm64Bytes - 1);

}  // namespace

TEST_CASE("behind the check of the stack, and at each return") {
  auto places = find_go_places(kAmd64, Machine::kAmd64);
  REQUIRE(places);
  CHECK(places->call == 6);
  CHECK(places->returns == std::vector<std::uint64_t>{0x37, 0x47});
  places = find_go_places(kArm64, Machine::kArm64);
  REQUIRE(places);
  CHECK(places->call == 12);
  CHECK(places->returns == std::vector<std::uint64_t>{0x44, 0x5c});
}

TEST_CASE("padding does not matter") {
  CHECK(find_go_places(kAmd64.substr(0, kAmd64.size() - 5), Machine::kAmd64));
  CHECK(find_go_places(std::string(kAmd64) + std::string(32, '\xcc'), Machine::kAmd64));
  CHECK(find_go_places(kArm64.substr(0, kArm64.size() - 4), Machine::kArm64));
}

TEST_CASE("what is not one whole function of Go's has no places") {
  for (auto [code, machine, padding] :
       {std::tuple{kAmd64, Machine::kAmd64, 5u}, std::tuple{kArm64, Machine::kArm64, 4u}}) {
    for (std::size_t cut = 1; cut < code.size(); ++cut) CHECK_FALSE(find_go_places(code.substr(cut), machine));
    for (std::size_t size = 0; size < code.size() - padding; ++size)
      CHECK_FALSE(find_go_places(code.substr(0, size), machine));
    CHECK_FALSE(find_go_places(std::string(code) + std::string(code), machine));
  }
  CHECK_FALSE(find_go_places(kAmd64, Machine::kArm64));
  CHECK_FALSE(find_go_places(kArm64, Machine::kAmd64));
  // Go 1.16 has its goroutine elsewhere: mov rcx, fs:[-8]; cmp rsp, [rcx+16].
  std::string old("\x64\x48\x8b\x0c\x25\xf8\xff\xff\xff\x48\x3b\x61\x10\x76\x01\xc3\xeb\xee", 18);
  CHECK_FALSE(find_go_places(old, Machine::kAmd64));
}

TEST_CASE("a jump into an instruction is not believed") {
  std::string changed(kAmd64);
  changed[0x18] = '\x22';  // jle: two bytes further, into what it led to
  CHECK_FALSE(find_go_places(changed, Machine::kAmd64));
}

TEST_CASE("changed code does no harm") {
  std::mt19937_64 random(3);
  for (auto [code, machine] : {std::pair{kAmd64, Machine::kAmd64}, std::pair{kArm64, Machine::kArm64}})
    for (int i = 0; i < 50000; ++i) {
      std::string changed(code);
      for (int k = 0; k < 3; ++k) changed[random() % changed.size()] = static_cast<char>(random());
      auto places = find_go_places(changed, machine);
      if (!places) continue;
      CHECK(places->call < changed.size());
      for (auto at : places->returns) CHECK(at < changed.size());
    }
}

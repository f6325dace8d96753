// Numbers and the file that keeps them.
#include <unistd.h>
#include <catch2/catch_test_macros.hpp>

#include <filesystem>
#include <fstream>
#include <string>

#include "identity/allocator.h"

namespace casa::identity {
namespace {

struct File {
  File() { std::filesystem::remove(path); }
  ~File() { std::filesystem::remove(path); }
  [[nodiscard]] std::string text() const {
    std::ifstream in(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(in), {}};
  }
  void add(const std::string& bytes) const { std::ofstream(path, std::ios::binary | std::ios::app) << bytes; }
  // How many a daemon that starts anew reads in it.
  [[nodiscard]] std::size_t numbers() const {
    Allocator allocator;
    REQUIRE(allocator.load(path));
    return allocator.size();
  }
  std::string path = "/tmp/casad-numbers-" + std::to_string(::getpid());
};

std::uint32_t workload(Allocator& allocator, const std::string& name) {
  return allocator.number_of(NameKind::kWorkload, "a", name);
}

}  // namespace

TEST_CASE("numbers survive in the file; new ones are added to it") {
  File file;
  Allocator first;
  auto one = workload(first, "one");
  REQUIRE(first.save(file.path));
  auto size = std::filesystem::file_size(file.path);
  auto two = workload(first, "two");
  auto policy = first.number_of(NameKind::kPolicy, "a", "two");
  std::string before = file.text();
  REQUIRE(first.save(file.path));
  CHECK(file.text().starts_with(before));
  CHECK(std::filesystem::file_size(file.path) > size);
  Allocator second;
  REQUIRE(second.load(file.path));
  CHECK(second.size() == 3);
  CHECK(workload(second, "one") == one);
  CHECK(workload(second, "two") == two);
  CHECK(second.number_of(NameKind::kPolicy, "a", "two") == policy);
}

TEST_CASE("a file that somebody removed is written whole again") {
  File file;
  Allocator first;
  workload(first, "one");
  REQUIRE(first.save(file.path));
  std::filesystem::remove(file.path);
  workload(first, "two");
  REQUIRE(first.save(file.path));
  CHECK(file.numbers() == 2);
}

TEST_CASE("half a line, from a crash, is none, and nothing is ever added to it") {
  File file;
  Allocator first;
  workload(first, "one");
  REQUIRE(first.save(file.path));
  file.add("4711\t0\ta\tha");
  Allocator second;
  REQUIRE(second.load(file.path));
  CHECK(second.size() == 1);
  workload(second, "two");
  REQUIRE(second.save(file.path));
  CHECK(file.numbers() == 2);
}

TEST_CASE("numbers that cannot be kept are kept the next time") {
  File file;
  Allocator first;
  workload(first, "one");
  CHECK_FALSE(first.save("/nowhere/numbers"));
  REQUIRE(first.save(file.path));
  CHECK(file.numbers() == 1);
}

TEST_CASE("a whole line that makes no sense is an error: guessing could merge two names") {
  File file;
  file.add("casad-identities 1\nx\t0\ta\tone\n");
  Allocator allocator;
  CHECK_FALSE(allocator.load(file.path));
}

}  // namespace casa::identity

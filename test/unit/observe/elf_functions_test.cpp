// The reader of ELF files: on a real library and a made table of Go's, and on both when they are cut short or changed.
#include "observe/elf_functions.h"

#include <dlfcn.h>
#include <elf.h>
#include <fcntl.h>
#include <sys/mman.h>

#include <array>
#include <catch2/catch_test_macros.hpp>
#include <cstring>
#include <fstream>
#include <random>
#include <vector>

#include "base/fd.h"
#include "observe/go_table.h"

using namespace casa;

namespace {

constexpr std::array<std::string_view, 3> kNames = {"SSL_write", "SSL_read_ex", "SSL_free"};
constexpr std::array<std::string_view, 2> kGoNames = {"crypto/tls.(*Conn).Write", "crypto/tls.(*Conn).Close"};

struct Library {
  std::string path;
  std::map<std::string, const unsigned char*> code;  // as it is loaded here
};

Library load_libssl() {
  Library library;
  void* handle = ::dlopen("libssl.so.3", RTLD_NOW);
  if (handle == nullptr) return library;
  for (std::string_view name : kNames) {
    void* at = ::dlsym(handle, std::string(name).c_str());
    Dl_info info{};
    REQUIRE(at != nullptr);
    REQUIRE(::dladdr(at, &info) != 0);
    library.path = info.dli_fname;
    library.code.emplace(name, static_cast<const unsigned char*>(at));
  }
  return library;
}

std::vector<char> bytes_of(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

Fd file_of(const char* bytes, std::size_t size) {
  Fd fd(::memfd_create("elf", MFD_CLOEXEC));
  REQUIRE(::write(fd.get(), bytes, size) == static_cast<ssize_t>(size));
  return fd;
}

void put(std::string& to, auto value) { to.append(reinterpret_cast<const char*>(&value), sizeof value); }

std::string go_table() {
  std::string texts =
      std::string("main.main\0", 10) + std::string(kGoNames[0]) + '\0' + std::string(kGoNames[1]) + "Later" + '\0';
  const std::uint64_t header = 8 + 8 * 8, list = header + texts.size(), count = 3;
  std::string table;
  put(table, std::uint32_t{0xfffffff1});
  table += std::string("\0\0\1\x8", 4);
  for (std::uint64_t word : {count, std::uint64_t{1}, std::uint64_t{0x401000}, header, header, header, header, list})
    put(table, word);
  table += texts;
  const std::uint32_t names[] = {0, 10, 10 + static_cast<std::uint32_t>(kGoNames[0].size()) + 1};
  for (std::uint32_t i = 0; i < count; ++i) {
    put(table, 0x100 * i);
    put(table, static_cast<std::uint32_t>(count * 8 + 4 + 8 * i));
  }
  put(table, static_cast<std::uint32_t>(0x100 * count));
  for (std::uint32_t i = 0; i < count; ++i) {
    put(table, 0x100 * i);
    put(table, names[i]);
  }
  return table;
}

}  // namespace

TEST_CASE("functions of a real library are where the loader finds them") {
  Library library = load_libssl();
  if (library.path.empty()) SKIP("no libssl.so.3");
  Fd fd(::open(library.path.c_str(), O_RDONLY | O_CLOEXEC));
  auto found = observe::find_functions(fd.get(), kNames, kGoNames);
  REQUIRE(found);
  CHECK_FALSE(found->is_go);
  REQUIRE(found->functions.size() == kNames.size());
  for (const auto& [name, function] : found->functions) {
    std::array<unsigned char, 16> code{};
    REQUIRE(::pread(fd.get(), code.data(), code.size(), static_cast<off_t>(function.call)) == 16);
    CHECK(function.returns.empty());
    CHECK(std::memcmp(code.data(), library.code.at(name), code.size()) == 0);
  }
}

TEST_CASE("what is not there is not found, what is no ELF file is refused") {
  Fd self(::open("/proc/self/exe", O_RDONLY | O_CLOEXEC));
  constexpr std::array<std::string_view, 1> nobody = {"casa_no_such_function"};
  auto found = observe::find_functions(self.get(), nobody, nobody);
  REQUIRE(found);
  CHECK(found->functions.empty());
  Fd text = file_of("#!/bin/sh\nexit 0\n", 17), empty(::memfd_create("empty", MFD_CLOEXEC));
  for (int fd : {text.get(), empty.get(), -1}) {
    auto refused = observe::find_functions(fd, kNames, {});
    REQUIRE_FALSE(refused);
    CHECK(refused.error().code == ErrorCode::kInvalidArgument);
  }
}

TEST_CASE("a library that is cut short or changed does no harm") {
  Library library = load_libssl();
  if (library.path.empty()) SKIP("no libssl.so.3");
  const std::vector<char> whole = bytes_of(library.path);
  std::mt19937_64 random(1);
  auto read = [&](const std::vector<char>& bytes, std::size_t size) {
    Fd fd = file_of(bytes.data(), size);
    auto found = observe::find_functions(fd.get(), kNames, kGoNames);
    return found ? found->functions.size() : 0;
  };
  for (int i = 0; i < 200; ++i) CHECK(read(whole, random() % whole.size()) <= kNames.size());
  Elf64_Ehdr header{};
  std::memcpy(&header, whole.data(), sizeof header);
  for (int i = 0; i < 600; ++i) {
    std::vector<char> changed = whole;
    // In the headers, where a change means most: of the file, of segments, of sections.
    for (int k = 0; k < 4; ++k) {
      std::size_t sections = header.e_shnum * sizeof(Elf64_Shdr),
                  segments = sizeof header + header.e_phnum * sizeof(Elf64_Phdr);
      std::size_t at = random() % 2 ? header.e_shoff + random() % sections : 16 + random() % (segments - 16);
      changed[at] = static_cast<char>(random());
    }
    CHECK(read(changed, changed.size()) <= kNames.size());
  }
}

TEST_CASE("the table of a stripped Go program") {
  const std::string table = go_table();
  auto found = observe::find_in_go_table(table, kGoNames);
  CHECK(found == std::map<std::string, observe::GoFunction>{{std::string(kGoNames[0]), {0x100, 0x100}}});
  CHECK(observe::go_table_text(table) == 0x401000);
  CHECK(observe::go_table_text(std::string_view(table).substr(1)) == 0);
  for (std::size_t size = 0; size < table.size(); ++size)
    CHECK(observe::find_in_go_table(std::string_view(table).substr(0, size), kGoNames).size() <= 1);
  std::mt19937_64 random(2);
  for (int i = 0; i < 20000; ++i) {
    std::string changed = table;
    for (int k = 0; k < 3; ++k) changed[random() % changed.size()] = static_cast<char>(random());
    CHECK(observe::find_in_go_table(changed, kGoNames).size() <= 2);
  }
}

// Keys of names and resolvers as the kernel's programs look them up, to the byte, and back.
#include "datapath/tables.h"

#include <algorithm>
#include <catch2/catch_test_macros.hpp>
#include <cstring>

#include "compile/dns_names.h"

using namespace casa::datapath;
using casa::compile::NameKey;
using casa::compile::ResolverKey;

namespace {

template <typename Key>
std::string bytes_of(const Key& key) {
  return {reinterpret_cast<const char*>(&key), sizeof key};
}

}  // namespace

TEST_CASE("a name: subject, a dot before each label, zeros to the end") {
  auto key = encode_name({0x11223344, "api.llm.example"});
  std::string expected("\x44\x33\x22\x11.api.llm.example");
  expected.resize(sizeof key, '\0');
  CHECK(bytes_of(key) == expected);
  CHECK(decode_name(key) == NameKey{0x11223344, "api.llm.example"});
}

TEST_CASE("the longest name ends in zeros; the names around it stay apart") {
  const std::string longest(casa::compile::kMaxNameLength, 'a');
  auto key = encode_name({1, longest});
  CHECK(key.name[CASA_NAME_LEN - 1] == '\0');
  CHECK(key.name[CASA_NAME_LEN - 2] == '\0');
  CHECK(key.name[CASA_NAME_LEN - 3] == 'a');
  CHECK(decode_name(key) == NameKey{1, longest});
  CHECK(bytes_of(key) != bytes_of(encode_name({1, longest.substr(1)})));
  CHECK(bytes_of(key) != bytes_of(encode_name({2, longest})));
  // What compile() never makes is cut, and reads no further than the key.
  CHECK(decode_name(encode_name({1, longest + "bbb"})).name == longest + "b");
}

TEST_CASE("a key that has no end is read to its own end") {
  casa_name_key key{};
  std::memset(key.name, 'x', sizeof key.name);
  CHECK(decode_name(key).name.size() == CASA_NAME_LEN - 1);
}

TEST_CASE("a resolver: 16 bytes in network order, the port in host order, and no stray bytes behind") {
  auto v4 = encode_resolver({*casa::parse_ip("192.0.2.53"), 53});
  CHECK(bytes_of(v4) == std::string("\0\0\0\0\0\0\0\0\0\0\xff\xff\xc0\0\2\x35\x35\0\0\0", 20));
  CHECK(decode_resolver(v4) == ResolverKey{*casa::parse_ip("192.0.2.53"), 53});
  ResolverKey v6{*casa::parse_ip("2001:db8::35"), 5353};
  CHECK(decode_resolver(encode_resolver(v6)) == v6);
  CHECK(bytes_of(encode_resolver({*casa::parse_ip("::ffff:192.0.2.53"), 53})) == bytes_of(v4));
}

TEST_CASE("a path: below the enforcement root in an image, from the cgroup2 mount in the kernel") {
  for (const char* root : {"", "/a/b"}) {
    auto key = encode_path(root, "team.slice/agent@");
    CHECK(key.path == std::string(root) + "/team.slice/agent@");
    CHECK(decode_path(root, key) == "team.slice/agent@");
    CHECK(std::ranges::all_of(key.path + std::strlen(key.path), std::end(key.path), [](char c) { return c == 0; }));
  }
}

TEST_CASE("a path that another enforcement root left is told apart, and found again to be removed") {
  for (const char* elsewhere : {"/team.slice", "/a/bc/team.slice", "/a/b"}) {
    auto key = encode_path("", elsewhere + 1);
    CHECK(decode_path("/a/b", key) == elsewhere);
    CHECK(bytes_of(encode_path("/a/b", decode_path("/a/b", key))) == bytes_of(key));
  }
}

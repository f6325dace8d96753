// bpf/lib/hello.h, compiled for user space, against a second reader of ClientHellos (test/inspect): in every split into two, byte by byte,
// cut, with bytes changed, and in made segments. The sequence is the same in every run; test/fuzz/hello goes on from here.
#include <catch2/catch_test_macros.hpp>
#include <random>

#include "hello_check.h"
#include "seeds.h"

namespace {

using casa::inspect::Bytes;
using casa::inspect::HelloResult;
using casa::inspect::HelloWay;
using casa::inspect::View;

struct Seed {
  explicit Seed(const Bytes& file) : way(HelloWay::of(file.at(0))), bytes(file.begin() + 2 + file.at(1), file.end()) {
    lengths.assign(file.begin() + 2, file.begin() + 2 + file.at(1));
  }
  HelloWay way;
  Bytes bytes;
  std::vector<std::size_t> lengths;
};

std::map<std::string, Seed> hello_seeds() {
  std::map<std::string, Seed> seeds;
  for (const auto& [name, file] : read_seeds("hello")) seeds.emplace(name, Seed(file));
  return seeds;
}

void require_right(const HelloResult& result, const std::string& what) {
  if (result.problem.empty()) return;
  INFO(what);
  REQUIRE(result.problem == "");
}

}  // namespace

TEST_CASE("ClientHellos of openssl, curl, node, python and attackers") {
  auto seeds = hello_seeds();
  REQUIRE(seeds.size() >= 50);
  auto verdict = [&](const char* name) {
    const Seed& s = seeds.at(name);
    return check_hello(s.way, s.bytes, s.lengths);
  };
  for (const auto& [name, seed] : seeds) require_right(check_hello(seed.way, seed.bytes, seed.lengths), name);
  for (const char* proven :
       {"openssl-13", "openssl-12", "openssl-case", "openssl-alpn-ocsp", "openssl-groups", "openssl-padding", "curl",
        "curl-12", "node", "node-alpn", "python-13", "python-12", "python-alpn", "shared-name", "post-quantum", "small",
        "behind-the-hello", "fast-open", "ipv6"}) {
    INFO(proven);
    CHECK(verdict(proven).proven);
    CHECK(verdict(proven).reason == CASA_REASON_NONE);
  }
  const std::pair<const char*, casa_reason> refused[] = {
      {"openssl-no-sni", CASA_REASON_SNI_MISSING},
      {"openssl-12-no-sni", CASA_REASON_SNI_MISSING},
      {"node-no-sni", CASA_REASON_SNI_MISSING},
      {"python-no-sni", CASA_REASON_SNI_MISSING},
      {"empty-sni", CASA_REASON_SNI_MISSING},
      {"no-extensions", CASA_REASON_SNI_MISSING},
      {"openssl-other-name", CASA_REASON_SNI_MISMATCH},
      {"openssl-second-name", CASA_REASON_SNI_MISMATCH},
      {"two-names-in-list", CASA_REASON_SNI_MISMATCH},
      {"two-extensions", CASA_REASON_SNI_MISMATCH},
      {"name-type", CASA_REASON_SNI_MISMATCH},
      {"nul-in-name", CASA_REASON_SNI_MISMATCH},
      {"name-learnt-long-ago", CASA_REASON_SNI_MISMATCH},
      {"name-only-asked", CASA_REASON_SNI_MISMATCH},
      {"long-name", CASA_REASON_SNI_MISMATCH},
      {"ech", CASA_REASON_ECH_NOT_ALLOWED},
      {"esni", CASA_REASON_ECH_NOT_ALLOWED},
      {"curl-http", CASA_REASON_NOT_TLS},
      {"sslv2", CASA_REASON_NOT_TLS},
      {"alert", CASA_REASON_NOT_TLS},
      {"server-hello", CASA_REASON_NOT_TLS},
      {"record-split", CASA_REASON_NOT_TLS},
      {"extensions-too-long", CASA_REASON_NOT_TLS},
      {"many-extensions", CASA_REASON_NOT_TLS},
  };
  for (const auto& [name, reason] : refused) {
    INFO(name);
    CHECK(verdict(name).reason == reason);
    CHECK_FALSE(verdict(name).proven);
  }
}

TEST_CASE("a ClientHello in every split into two") {
  for (const auto& [name, seed] : hello_seeds())
    for (std::size_t first = 0; first <= seed.bytes.size(); ++first) {
      const std::size_t lengths[] = {first};
      require_right(check_segments(seed.way, seed.bytes, lengths), name + " split at " + std::to_string(first));
    }
}

TEST_CASE("a ClientHello in segments of one byte, and of two and three") {
  for (const auto& [name, seed] : hello_seeds())
    for (std::size_t length : {1, 2, 3}) {
      std::vector<std::size_t> lengths(seed.bytes.size(), length);
      require_right(check_segments(seed.way, seed.bytes, lengths), name + " in segments of " + std::to_string(length));
    }
}

TEST_CASE("ClientHellos that end early") {
  for (const auto& [name, seed] : hello_seeds())
    for (std::size_t n = 0; n < seed.bytes.size(); ++n)
      require_right(check_segments(seed.way, View(seed.bytes).first(n), {}), name + " cut at " + std::to_string(n));
}

TEST_CASE("ClientHellos with one byte changed") {
  auto seeds = hello_seeds();
  for (const char* name : {"small", "python-12", "openssl-12", "two-names-in-list"}) {
    Seed seed = seeds.at(name);
    const std::size_t lengths[] = {seed.bytes.size() / 2};
    for (std::size_t at = 0; at < seed.bytes.size(); ++at) {
      std::uint8_t was = seed.bytes[at];
      for (unsigned byte = 0; byte < 256; ++byte) {
        seed.bytes[at] = static_cast<std::uint8_t>(byte);
        require_right(check_segments(seed.way, seed.bytes, lengths),
                      std::string(name) + ", byte " + std::to_string(at) + " is " + std::to_string(byte));
      }
      seed.bytes[at] = was;
    }
  }
}

TEST_CASE("20,000 ClientHellos in made segments, every other one spoilt") {
  std::mt19937 engine(1);
  auto below = [&](std::size_t n) { return std::uniform_int_distribution<std::size_t>(0, n - 1)(engine); };
  auto seeds = hello_seeds();
  std::size_t proven = 0;
  for (int i = 0; i < 20'000; ++i) {
    Seed seed = std::next(seeds.begin(), static_cast<std::ptrdiff_t>(below(seeds.size())))->second;
    HelloWay way = HelloWay::of(static_cast<std::uint8_t>(below(64)));
    if (i % 2 == 1)
      for (std::size_t n = below(3); n > 0; --n)
        seed.bytes[below(seed.bytes.size())] = static_cast<std::uint8_t>(below(256));
    std::vector<std::size_t> lengths(below(20));
    for (std::size_t& length : lengths) length = below(below(4) == 0 ? 400 : 12);
    HelloResult result = check_segments(way, seed.bytes, lengths);
    require_right(result, "hello " + std::to_string(i));
    proven += result.proven;
  }
  CHECK(proven > 5'000);
}

// bpf/lib/dns.h, compiled for user space, against a second reader of DNS (test/inspect): seeds, each of their truncations, bytes changed
// one by one, and made messages. The sequence is the same in every run; test/fuzz/dns goes on from here.
#include <catch2/catch_test_macros.hpp>
#include <random>

#include "compile/dns_names.h"
#include "dns_check.h"
#include "seeds.h"

namespace {

using casa::inspect::Bytes;
using casa::inspect::DnsResult;
using casa::inspect::DnsWay;
using casa::inspect::View;

DnsResult check_seed(const Bytes& seed) {
  return casa::inspect::check_dns(DnsWay::of(seed.at(0)), View(seed).subspan(1));
}

// REQUIRE costs more than a case: only what is wrong comes to it.
void require_right(const DnsResult& result, const std::string& what) {
  if (result.problem.empty()) return;
  INFO(what);
  REQUIRE(result.problem == "");
}

class Maker {
 public:
  explicit Maker(unsigned seed) : engine_(seed) {}

  std::uint32_t below(std::uint32_t n) { return std::uniform_int_distribution<std::uint32_t>(0, n - 1)(engine_); }
  bool once_in(std::uint32_t n) { return below(n) == 0; }
  template <typename... Choice>
  unsigned one_of(Choice... choices) {
    const unsigned all[] = {static_cast<unsigned>(choices)...};
    return all[below(sizeof...(choices))];
  }

  DnsWay way() {
    DnsWay w = DnsWay::of(static_cast<std::uint8_t>(below(2)));
    w.tcp = once_in(4);
    w.ipv6 = once_in(4);
    w.host_netns = !once_in(8);
    w.asked = !once_in(8);
    w.full = once_in(16);
    w.audit = once_in(16);
    return w;
  }

  Bytes bytes(const DnsWay& way) {
    if (!way.tcp) return message(way.answer);
    Bytes stream;
    for (unsigned i = 1 + below(5); i > 0; --i) {
      Bytes m = message(way.answer);
      put16(stream, m.size());
      stream.insert(stream.end(), m.begin(), m.end());
    }
    return stream;
  }

  void spoil(Bytes& bytes) {
    for (unsigned i = below(4); i > 0 && !bytes.empty(); --i) bytes[below(size(bytes))] = byte();
    if (once_in(4)) bytes.resize(below(size(bytes) + 1));
    if (once_in(8)) bytes.insert(bytes.end(), 1 + below(9), byte());
  }

 private:
  static std::uint32_t size(const Bytes& bytes) { return static_cast<std::uint32_t>(bytes.size()); }
  std::uint8_t byte() { return static_cast<std::uint8_t>(below(256)); }
  static void put16(Bytes& to, std::size_t n) {
    to.push_back(static_cast<std::uint8_t>(n >> 8));
    to.push_back(static_cast<std::uint8_t>(n));
  }

  std::string name() {
    using namespace casa::inspect;
    const char* known[] = {kLearnt[0], kLearnt[0], kLearnt[1], kLearnt[2],
                           kAsked,     kReverse,   kForeign,   "next.example.com"};
    std::string name = known[below(8)];
    if (once_in(8)) name += ".com";
    if (once_in(8)) name = "x." + name;
    for (char& c : name)
      if (c >= 'a' && c <= 'z' && once_in(3)) c = static_cast<char>(c - 'a' + 'A');
    return name;
  }

  void put_name(Bytes& to, const std::string& name) {
    std::size_t from = 0;
    while (from < name.size()) {
      std::size_t dot = std::min(name.find('.', from), name.size());
      to.push_back(static_cast<std::uint8_t>(dot - from));
      to.insert(to.end(), name.begin() + static_cast<std::ptrdiff_t>(from),
                name.begin() + static_cast<std::ptrdiff_t>(dot));
      from = dot + 1;
    }
    to.push_back(0);
  }

  void put_record(Bytes& to, const std::string& owner) {
    if (once_in(2)) put16(to, 0xc00c);
    else put_name(to, owner);
    unsigned type = one_of(1, 1, 1, 28, 28, 28, 5, 46);
    put16(to, type);
    put16(to, once_in(32) ? 3 : 1);
    put16(to, once_in(4) ? below(65536) : 0);
    put16(to, below(65536));
    std::size_t length = type == 1 ? 4 : type == 28 ? 16 : below(40);
    if (once_in(128)) length = below(20);
    put16(to, length);
    std::uint8_t first = static_cast<std::uint8_t>(one_of(203, 10, 127, 169, 0, 224, 0x20, 0xfe, 0xff));
    for (std::size_t i = 0; i < length; ++i) to.push_back(i == 0 ? first : once_in(2) ? byte() : 0);
  }

  Bytes message(bool answer) {
    Bytes m;
    unsigned records = answer ? (once_in(16) ? below(60) : below(6)) : once_in(16), extra = once_in(2);
    put16(m, below(65536));
    put16(m, answer ? one_of(0x8180, 0x8180, 0x8580, 0x8183, 0x8380, 0x8182)
                    : one_of(0x0100, 0x0120, 0x0100, 0x0110, 0, 0x0200));
    for (unsigned n : {once_in(64) ? below(3) : 1, records, once_in(32) ? 1u : 0u, extra}) put16(m, n);
    std::string asked = name();
    put_name(m, asked);
    put16(m, asked.find("arpa") != std::string::npos ? one_of(12, 12, 12, 1) : one_of(1, 1, 28, 28, 16, 12));
    put16(m, once_in(32) ? 3 : 1);
    for (unsigned i = 0; i < records; ++i) put_record(m, asked);
    if (extra != 0) put_edns(m);
    return m;
  }

  void put_edns(Bytes& m) {
    m.push_back(0);
    put16(m, 41);
    put16(m, 1232);
    put16(m, once_in(8) ? below(65536) : 0);
    put16(m, one_of(0, 0x8000));
    std::size_t cookie = one_of(0, 8, 24, 40, 41);
    put16(m, cookie == 0 ? 0 : cookie + 4);
    if (cookie == 0) return;
    put16(m, once_in(8) ? 12 : 10);
    put16(m, cookie);
    for (std::size_t i = 0; i < cookie; ++i) m.push_back(byte());
  }

  std::mt19937 engine_;
};

}  // namespace

TEST_CASE("DNS messages of dig, dnsmasq and attackers") {
  auto seeds = read_seeds("dns");
  REQUIRE(seeds.size() > 50);
  for (const auto& [name, seed] : seeds) require_right(check_seed(seed), name);
  for (const char* passes :
       {"query-a", "query-aaaa", "query-edns", "query-edns-cookie", "query-case-0x20", "query-ptr", "query-service",
        "query-single-label", "query-longest", "query-ipv6", "tcp-query", "tcp-query-two", "answer-a", "answer-nodata",
        "answer-ptr", "answer-truncated", "answer-servfail", "answer-32", "answer-200"}) {
    INFO(passes);
    CHECK(check_seed(seeds.at(passes)).passed);
  }
  for (const char* refused : {"query-txt",           "query-null",           "query-chaos",
                              "query-tunnel",        "query-edns-subnet",    "query-edns-padding",
                              "query-edns-version",  "query-nxdomain",       "query-too-long",
                              "query-map-full",      "query-tcp-five",       "tcp-query-cut",
                              "answer-not-asked",    "answer-tunnel",        "broken-compressed-question",
                              "broken-dot-in-label", "broken-two-questions", "broken-trailing",
                              "broken-response-out", "broken-query-in",      "broken-short-a",
                              "broken-record-cut",   "broken-count"}) {
    INFO(refused);
    CHECK_FALSE(check_seed(seeds.at(refused)).passed);
  }
  CHECK(check_seed(seeds.at("answer-a")).learnt == 1);
  CHECK(check_seed(seeds.at("answer-aaaa")).learnt == 1);
  CHECK(check_seed(seeds.at("answer-32")).learnt == 32);
  CHECK(check_seed(seeds.at("answer-200")).learnt == 160);
  CHECK(check_seed(seeds.at("answer-rebinding")).learnt == 2);
  CHECK(check_seed(seeds.at("tcp-answer-two")).learnt == 2);
  CHECK(check_seed(seeds.at("broken-pointer-loop")).learnt == 1);  // nobody follows an owner's name
  for (const char* nothing : {"answer-ptr", "answer-service", "answer-truncated", "answer-servfail",
                              "answer-other-netns", "answer-not-asked", "answer-map-full", "broken-record-cut"}) {
    INFO(nothing);
    CHECK(check_seed(seeds.at(nothing)).learnt == 0);
  }
}

TEST_CASE("the longest name that compile lets in is one that the kernel reads") {
  CHECK(std::string(casa::inspect::kLearnt[2]).size() == casa::compile::kMaxNameLength);
  CHECK(check_seed(read_seeds("dns").at("query-longest")).passed);
}

TEST_CASE("DNS messages that end early") {
  for (const auto& [name, seed] : read_seeds("dns"))
    for (std::size_t n = 1; n < seed.size(); ++n)
      require_right(check_seed({seed.begin(), seed.begin() + static_cast<std::ptrdiff_t>(n)}),
                    name + " cut at " + std::to_string(n));
}

TEST_CASE("DNS messages with one byte changed") {
  auto seeds = read_seeds("dns");
  for (const char* name :
       {"query-a", "query-edns-cookie", "query-ptr", "answer-a", "answer-aaaa", "tcp-query-two", "answer-rebinding"}) {
    Bytes seed = seeds.at(name);
    for (std::size_t at = 1; at < seed.size(); ++at) {
      std::uint8_t was = seed[at];
      for (unsigned byte = 0; byte < 256; ++byte) {
        seed[at] = static_cast<std::uint8_t>(byte);
        require_right(check_seed(seed),
                      std::string(name) + ", byte " + std::to_string(at) + " is " + std::to_string(byte));
      }
      seed[at] = was;
    }
  }
}

TEST_CASE("100,000 made DNS messages, every other one spoilt") {
  Maker maker(1);
  std::size_t passed = 0, learnt = 0;
  for (int i = 0; i < 100'000; ++i) {
    DnsWay way = maker.way();
    Bytes bytes = maker.bytes(way);
    if (i % 2 == 1) maker.spoil(bytes);
    DnsResult result = casa::inspect::check_dns(way, bytes);
    require_right(result, "message " + std::to_string(i));
    passed += result.passed;
    learnt += result.learnt;
  }
  // The maker makes what is worth looking at.
  CHECK(passed > 20'000);
  CHECK(passed < 80'000);
  CHECK(learnt > 5'000);
}

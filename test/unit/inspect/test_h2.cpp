// bpf/lib/h2.h, compiled for user space, against libnghttp2 (test/inspect/h2_check.h): connections of thousands of header blocks, by its own
// encoder and by one that uses everything that HPACK allows, in made segments, and with bytes changed. The sequence is the same in
// every run; test/fuzz/h2 goes on from here.
#include <nghttp2/nghttp2.h>

#include <catch2/catch_test_macros.hpp>
#include <random>

#include "h2_check.h"
#include "h2_encode.h"

namespace {

using casa::inspect::Bytes;
using casa::inspect::H2Block;
using casa::inspect::H2Encoder;
using casa::inspect::H2Field;
using casa::inspect::H2Reading;
using casa::inspect::View;

std::vector<std::size_t> random_lengths(std::mt19937& random, std::size_t bytes) {
  std::vector<std::size_t> lengths;
  std::size_t most = random() % 4 ? 1 + random() % 3000 : 1 + random() % 4;
  for (std::size_t sum = 0; sum < bytes; sum += lengths.back()) lengths.push_back(1 + random() % most);
  return lengths;
}

Bytes made_connection(std::mt19937& random, int requests, bool tame) {
  H2Encoder encoder([&] { return static_cast<std::uint32_t>(random()); }, tame);
  for (int i = 0; i < requests; i++) {
    encoder.request();
    if (random() % 4 == 0) encoder.other_frame();
  }
  return encoder.take();
}

Bytes hex(std::string_view text) {
  Bytes bytes;
  for (std::size_t i = 0; i + 1 < text.size(); i += 2)
    bytes.push_back(static_cast<std::uint8_t>(std::stoi(std::string(text.substr(i, 2)), nullptr, 16)));
  return bytes;
}

// The preface, and frames of which each is its type, flags, stream and payload.
struct Frame {
  unsigned type, flags, stream;
  Bytes payload;
};
Bytes connection(const std::vector<Frame>& frames) {
  std::string_view preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
  Bytes bytes(preface.begin(), preface.end());
  for (const Frame& f : frames) {
    std::size_t n = f.payload.size();
    for (std::size_t b : {n >> 16, n >> 8, n, std::size_t{f.type}, std::size_t{f.flags}, std::size_t{f.stream >> 24},
                          std::size_t{f.stream >> 16}, std::size_t{f.stream >> 8}, std::size_t{f.stream}})
      bytes.push_back(static_cast<std::uint8_t>(b));
    bytes.insert(bytes.end(), f.payload.begin(), f.payload.end());
  }
  return bytes;
}

H2Reading read_right(const std::vector<Frame>& frames) {
  Bytes bytes = connection(frames);
  H2Reading reading;
  std::vector<std::size_t> ones(bytes.size(), 1);
  REQUIRE(casa::inspect::check_h2(bytes, ones) == "");
  REQUIRE(casa::inspect::check_h2(bytes, {}, &reading) == "");
  return reading;
}
unsigned unread_of(const std::vector<Frame>& frames) {
  Bytes bytes = connection(frames);
  return casa::inspect::read_h2(bytes, {}).unread;
}

Bytes operator+(Bytes a, const Bytes& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}
Bytes text(std::string_view s) { return {s.begin(), s.end()}; }

}  // namespace

TEST_CASE("HTTP/2: the RFC's own examples of requests") {
  // RFC 7541, C.3 and C.4: three requests on one connection, without and with Huffman coding; 400 bytes later nothing has moved.
  const char* plain[] = {"828684410f7777772e6578616d706c652e636f6d", "828684be58086e6f2d6361636865",
                         "828785bf400a637573746f6d2d6b65790c637573746f6d2d76616c7565"};
  const char* coded[] = {"828684418cf1e3c2e5f23a6ba0ab90f4ff", "828684be5886a8eb10649cbf",
                         "828785bf408825a849e95ba97d7f8925a849e95bb8e8b4bf"};
  for (auto& blocks : {plain, coded}) {
    H2Reading reading =
        read_right({{4, 0, 0, {}}, {1, 5, 1, hex(blocks[0])}, {1, 5, 3, hex(blocks[1])}, {1, 5, 5, hex(blocks[2])}});
    REQUIRE(reading.unread == 0);
    REQUIRE(reading.blocks.size() == 3);
    CHECK(reading.blocks[0] == H2Block{1, {{H2Field::kMethod, "GET"}, {H2Field::kPath, "/"}}});
    CHECK(reading.blocks[2] == H2Block{5, {{H2Field::kMethod, "GET"}, {H2Field::kPath, "/index.html"}}});
  }
}

TEST_CASE("HTTP/2: a body is passed over, and costs nothing") {
  std::vector<Frame> frames = {{1, 4, 1, hex("8284")}};
  for (int i = 0; i < 64; i++) frames.push_back({0, 0, 1, Bytes(16384, 0x82)});
  frames.push_back({1, 5, 3, hex("8385")});
  H2Reading reading = read_right(frames);
  REQUIRE(reading.blocks.size() == 2);
  CHECK(reading.blocks[1] == H2Block{3, {{H2Field::kMethod, "POST"}, {H2Field::kPath, "/index.html"}}});
  CHECK(reading.calls == 24 + frames.size() * 9 + 4);
}

TEST_CASE("HTTP/2: what no client may send ends the reading") {
  Bytes get = hex("8284");
  const unsigned ambiguous = CASA_UNREAD_AMBIGUOUS;
  CHECK(unread_of({{1, 4, 0, get}}) == ambiguous);                              // no stream
  CHECK(unread_of({{9, 4, 1, get}}) == ambiguous);                              // continues nothing
  CHECK(unread_of({{1, 0, 1, get}, {0, 0, 1, {}}}) == ambiguous);               // something in between
  CHECK(unread_of({{1, 0, 1, get}, {9, 4, 3, get}}) == ambiguous);              // another stream's
  CHECK(unread_of({{1, 0, 1, get}, {1, 4, 3, get}}) == ambiguous);              // two at once
  CHECK(unread_of({{5, 4, 1, get}}) == ambiguous);                              // a client's push
  CHECK(unread_of({{1, 12, 1, {}}}) == ambiguous);                              // padding without its length
  CHECK(unread_of({{1, 12, 1, hex("038284")}}) == ambiguous);                   // longer than the frame
  CHECK(unread_of({{1, 36, 1, get}}) == ambiguous);                             // no room for the priority
  CHECK(unread_of({{1, 4, 1, hex("80")}}) == ambiguous);                        // index 0
  CHECK(unread_of({{1, 4, 1, hex("be")}}) == ambiguous);                        // of an empty table
  CHECK(unread_of({{1, 4, 1, hex("8241")}}) == ambiguous);                      // half a field
  CHECK(unread_of({{1, 4, 1, hex("ffffffffffff0f")}}) == ambiguous);            // a long integer
  CHECK(unread_of({{1, 4, 1, hex("ff8080808080808000")}}) == ambiguous);        // one that is long for nothing
  CHECK(unread_of({{1, 4, 1, hex("0f08") + hex("84ffffffff")}}) == ambiguous);  // EOS
  CHECK(unread_of({{1, 4, 1, hex("0f0881fe")}}) == ambiguous);                  // padding that is not ones
  CHECK(unread_of({{1, 4, 1, hex("0f08821fff")}}) == ambiguous);                // eight bits of it and more
  CHECK(unread_of({{1, 4, 1, hex("8484")}}) == ambiguous);                      // two paths
  CHECK(unread_of({{1, 4, 1, hex("000d") + text("Authorization") + hex("0178")}}) == ambiguous);
  CHECK(casa::inspect::read_h2(text("PRI * HTTP/1.1\r\n"), {}).unread == CASA_UNREAD_OPAQUE);
}

TEST_CASE("HTTP/2: the longest integers, and names that go on") {
  Bytes request = hex("8284");
  // A table of 2^28 + 30 bytes, the size in five bytes; then one of 30.
  H2Reading reading = read_right({{1, 4, 1, hex("3fffffffff00") + request}, {1, 4, 3, hex("3e") + request}});
  CHECK(reading.unread == 0);
  for (Bytes name :
       {hex("000e") + text("authorization") + hex("00"), hex("0011") + text("authorization") + hex("00000000"),
        hex("001d") + text("authorizationaauthorization:p"), hex("0006") + text(":path") + hex("00")})
    CHECK(read_right({{1, 4, 1, request + name + hex("0178")}}).blocks.at(0).fields.size() == 2);
  CHECK(
      read_right({{1, 4, 1, request + hex("000d") + text("authorization") + hex("0178")}}).blocks.at(0).fields.size() ==
      3);
}

TEST_CASE("HTTP/2: an entry larger than the table is not in it, whatever its coding") {
  // The table has 70 bytes: authorization (13 + 32) has room for 25 more. References then stand for what went in before.
  Bytes token = text("Bearer 0123456789abcdefgh");
  Bytes fits = hex("3f27") + hex("5719") + token;
  Bytes too_long = hex("571a") + token + text("i");
  H2Reading reading = read_right({{1, 4, 1, fits}, {1, 4, 3, hex("be")}});
  REQUIRE(reading.blocks.size() == 2);
  CHECK(reading.blocks[1].fields[0].value == "Bearer 0123456789abcdefgh");
  CHECK(unread_of({{1, 4, 1, hex("3f27") + too_long}, {1, 4, 3, hex("be")}}) == CASA_UNREAD_AMBIGUOUS);
  // cookie (6 + 32): 32 symbols of five bits fit into it and 33 do not, as only decoding shows. When the newest insertion is not the cookie,
  // it is still the path of before (which a peer has evicted by then).
  for (std::size_t n : {32, 33}) {
    Bytes coded;
    casa::inspect::huffman_encode(coded, std::string(n, 'a'));
    Bytes path = hex("3f27440178"), cookie = hex("60") + Bytes{static_cast<std::uint8_t>(0x80 | coded.size())} + coded;
    H2Reading after = read_right({{1, 4, 1, path + cookie}, {1, 4, 3, hex("be")}});
    REQUIRE(after.blocks.size() == 2);
    CHECK(after.blocks[1].fields.size() == (n == 32 ? 0u : 1u));
  }
}

TEST_CASE("HTTP/2: a token that was forgotten is said to be") {
  auto insert = [](char c) { return hex("5701") + Bytes{static_cast<std::uint8_t>(c)}; };
  std::vector<Frame> frames;
  for (unsigned i = 0; i < CASA_H2_TOKENS; i++) frames.push_back({1, 4, 1 + 2 * i, insert(static_cast<char>('a' + i))});
  frames.push_back({1, 4, 99, {0x80 + 62 + CASA_H2_TOKENS - 1}});
  H2Reading reading = read_right(frames);
  CHECK(reading.unread == 0);
  CHECK(reading.blocks.back() == H2Block{99, {{H2Field::kAuthorization, "a"}}});
  frames.insert(frames.begin(), {1, 4, 1, insert('0')});
  frames.back().payload[0]++;
  CHECK(read_right(frames).unread == CASA_UNREAD_TRUNCATED);

  std::vector<Frame> paths;
  for (unsigned i = 0; i <= CASA_H2_PATHS; i++)
    paths.push_back({1, 4, 1 + 2 * i, hex("4401") + Bytes{static_cast<std::uint8_t>('a' + i)}});
  paths.push_back({1, 4, 99, {0x80 + 62 + CASA_H2_PATHS}});
  CHECK(read_right(paths).blocks.back() == H2Block{99, {{H2Field::kPath, "", true}}});
}

TEST_CASE("HTTP/2: connections of thousands of made header blocks are read as libnghttp2 reads them") {
  std::mt19937 random(7541);
  std::size_t references = 0, recognised = 0;
  for (int i = 0; i < 10; i++) {
    Bytes bytes = made_connection(random, 3000, true);
    H2Reading reading;
    INFO(i);
    REQUIRE(casa::inspect::check_h2(bytes, random_lengths(random, bytes.size()), &reading) == "");
    REQUIRE_FALSE(reading.peer_refuses);
    REQUIRE(reading.unread == 0);
    REQUIRE(reading.blocks.size() == 3000);
    auto told = casa::inspect::read_h2_requests(bytes, random_lengths(random, bytes.size()), recognised);
    REQUIRE(told.size() > 2500);
    REQUIRE(told == casa::inspect::tell_h2_requests(reading));
    references += reading.references;
  }
  CHECK(references > 5000);
  CHECK(recognised > 500);
}

TEST_CASE("HTTP/2: what is told of a request") {
  std::size_t recognised = 0;
  Bytes post = hex("830409") + text("/v1/x?q=1");
  Bytes token = hex("5710") + text("BEARER  abc.def ");
  Bytes bytes = connection(
      {{1, 4, 1, post + token}, {1, 5, 3, hex("8284be")}, {1, 5, 5, hex("8284be") + hex("5705") + text("Basic")}});
  auto told = casa::inspect::read_h2_requests(bytes, {}, recognised);
  REQUIRE(told.size() == 3);
  CHECK(told[0].method == "POST");
  CHECK(told[0].path == "/v1/x");
  CHECK(told[1].path == "/");
  CHECK(told[1].tokens == told[0].tokens);
  CHECK(told[2].tokens == told[0].tokens);
  // printf abc.def | sha256sum
  std::string expected;
  for (std::uint8_t b : hex("ebb3127bf5c7c4b4e42b51710f4946c1c1d05b331d2379dd15e3a5431ed93416"))
    expected += static_cast<char>(b);
  REQUIRE(told[0].tokens.size() == 1);
  CHECK(told[0].tokens[0] == expected + " 7 2");
}

TEST_CASE("HTTP/2: short connections, with bytes changed") {
  std::mt19937 random(9113);
  for (int i = 0; i < 10000; i++) {
    Bytes bytes = made_connection(random, 1 + static_cast<int>(random() % 40), random() % 2);
    for (unsigned n = random() % 3; n; n--)
      bytes[24 + random() % (bytes.size() - 24)] ^= static_cast<std::uint8_t>(1 << random() % 8);
    if (random() % 4 == 0) bytes.resize(random() % (bytes.size() + 1));
    INFO(i);
    REQUIRE(casa::inspect::check_h2(bytes, random_lengths(random, bytes.size())) == "");
  }
}

TEST_CASE("HTTP/2: libnghttp2's own encoder") {
  std::mt19937 random(1052);
  for (int i = 0; i < 40; i++) {
    H2Encoder framer([&] { return static_cast<std::uint32_t>(random()); }, true);
    nghttp2_hd_deflater* deflater = nullptr;
    REQUIRE(nghttp2_hd_deflate_new(&deflater, 65536) == 0);
    for (int n = 0; n < 500; n++) {
      if (random() % 50 == 0) nghttp2_hd_deflate_change_table_size(deflater, random() % 3 ? random() % 8192 : 0);
      auto some = [&](const char* what, unsigned of) { return what + std::to_string(random() % of); };
      std::pair<std::string, std::string> fields[] = {{":method", random() % 4 ? "POST" : some("METHOD", 6)},
                                                      {":path", some("/v1/", 9)},
                                                      {":authority", some("host", 3)},
                                                      {"user-agent", some("agent", 2)},
                                                      {some("x-", 20), std::string(random() % 200, 'v')},
                                                      {"authorization", "Bearer " + some("abc.def.", 12)}};
      std::vector<nghttp2_nv> list;
      for (auto& [name, value] : fields) {
        if (list.size() > 2 && random() % 4 == 0) continue;
        list.push_back({reinterpret_cast<std::uint8_t*>(name.data()), reinterpret_cast<std::uint8_t*>(value.data()),
                        name.size(), value.size(),
                        static_cast<std::uint8_t>(random() % 4 ? NGHTTP2_NV_FLAG_NONE : NGHTTP2_NV_FLAG_NO_INDEX)});
      }
      Bytes block(nghttp2_hd_deflate_bound(deflater, list.data(), list.size()));
      auto length = nghttp2_hd_deflate_hd(deflater, block.data(), block.size(), list.data(), list.size());
      REQUIRE(length > 0);
      framer.frames(framer.next_stream(), View(block).first(static_cast<std::size_t>(length)));
    }
    nghttp2_hd_deflate_del(deflater);
    Bytes bytes = framer.take();
    H2Reading reading;
    REQUIRE(casa::inspect::check_h2(bytes, random_lengths(random, bytes.size()), &reading) == "");
    REQUIRE(reading.unread == 0);
    REQUIRE(reading.blocks.size() == 500);
  }
}

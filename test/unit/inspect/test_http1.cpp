// bpf/lib/http1.h, token.h and request.h, compiled for user space, against a second reader of HTTP/1 (test/inspect): made streams in made
// segments, and what was wrong once. The sequence is the same in every run; CASA_HTTP1_CASES asks for more of it (1000000), CASA_HTTP1_FIRST for
// the seed to begin at.
#include <catch2/catch_test_macros.hpp>
#include <cstdio>
#include <cstdlib>

#include "http1_made.h"

namespace {

using namespace casa::inspect;

View bytes_of(const std::string& text) { return {reinterpret_cast<const std::uint8_t*>(text.data()), text.size()}; }

unsigned long number_from(const char* name, unsigned long otherwise) {
  const char* text = std::getenv(name);
  return text != nullptr ? std::strtoul(text, nullptr, 10) : otherwise;
}

// Told as the reference says, in segments of up to so many bytes each, in both directions.
void require_told(const std::string& stream, std::size_t sightings, bool fin = false) {
  for (std::size_t longest : {0, 1, 7, 300})
    for (unsigned i = 0; i < 8; ++i) {
      Http1Way way;
      way.longest = longest;
      way.ingress = (i & 1) != 0;
      way.seed = i + 1;
      way.fin = fin;
      way.used_before = (i & 2) != 0;
      way.watch = true;
      Http1Result result = check_http1(way, bytes_of(stream));
      INFO(stream.substr(0, 200) << ", segments to " << longest << ", way " << i);
      REQUIRE(result.problem == "");
      REQUIRE(result.expected.sightings.size() == sightings);
    }
}

}  // namespace

TEST_CASE("requests, their tokens and what they are") {
  const std::string jwt = "eyJhbGciOiJSUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiJhIn0.c2lnbmF0dXJl";
  require_told("GET /mcp?a=b HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer " + jwt + "\r\n\r\n", 1);
  require_told(
      "POST /oauth2/token HTTP/1.1\r\nContent-Length: 5\r\n\r\nGET /GET / HTTP/1.0\nauthorization:bearer a\n\n", 2);
}

TEST_CASE("a token that the FIN ends, which comes alone") {
  require_told("GET / HTTP/1.1\r\nAuthorization: Bearer abcdefghijklmnopqrstuvwxyz", 1, true);
  require_told("GET / HTTP/1.1\r\nAuthorization: Bearer abcdefghijklmnopqrstuvwxyz", 0);
}

TEST_CASE("nothing of a token stays that was recognised before it was hashed") {
  const std::string request = "GET / HTTP/1.1\r\nAuthorization: Bearer abcdefghijklmnopqrstuvwxyz0123456789\r\n\r\n";
  require_told(request + request, 2);
}

TEST_CASE("a socket's second connection is read from its own first byte on") {
  const std::string stream = "GET / HTTP/1.1\r\nAuthorization: Bearer " + std::string(100, 'x') + "\r\n\r\n";
  for (unsigned seed = 1; seed < 100; ++seed) {
    Http1Way way;
    way.used_before = true;
    way.seed = seed;
    way.fast_open = seed % 2 == 0;
    INFO("seed " << seed);
    REQUIRE(check_http1(way, bytes_of(stream)).problem == "");
  }
}

TEST_CASE("a body of many chunks is no long head") {
  std::string stream = "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n";
  for (int i = 0; i < 20'000; ++i) stream += "1\r\nx\r\n";
  stream += "0\r\n\r\nGET / HTTP/1.1\r\nAuthorization: Bearer abc\r\n\r\n";
  Http1Way way;
  way.longest = 1448;
  Http1Result result = check_http1(way, bytes_of(stream));
  REQUIRE(result.problem == "");
  REQUIRE(result.expected.sightings.size() == 1);
}

TEST_CASE("a long body goes on however often its end comes too early") {
  std::string stream = "POST / HTTP/1.1\r\nContent-Length: 9000000000\r\n\r\n" + std::string(24, 'x');
  for (std::uint32_t seed = 1; seed <= 2000; ++seed) {
    INFO(seed);
    Http1Way way{.ingress = true, .fin = true, .reorders = true, .longest = 2, .seed = seed};
    REQUIRE(check_http1(way, bytes_of(stream)).problem == "");
  }
}

TEST_CASE("a head of 64 KiB is read, and not one byte more") {
  for (std::size_t length : {CASA_HEAD_MAX - 1, CASA_HEAD_MAX, CASA_HEAD_MAX + 1, CASA_HEAD_MAX + 200}) {
    std::string begin = "GET / HTTP/1.1\r\nX: ", end = "\r\nAuthorization: Bearer abc\r\n\r\n";
    std::string head = begin + std::string(length - begin.size() - end.size(), 'x') + end;
    for (std::size_t longest : {0, 1447, 300}) {
      Http1Way way;
      way.longest = longest;
      INFO(length << " in segments to " << longest);
      Http1Result result = check_http1(way, bytes_of(head + head));
      REQUIRE(result.problem == "");
      REQUIRE((result.expected.unread == CASA_UNREAD_NOTHING) == (length <= CASA_HEAD_MAX));
    }
  }
}

TEST_CASE("what follows a request and is none is out of step, not another protocol") {
  auto unread = [](const std::string& stream) {
    require_told(stream, 0);
    return check_http1({}, bytes_of(stream)).expected.unread;
  };
  CHECK(unread("GET / HTTP/1.1\r\n\r\n\1\2") == CASA_UNREAD_TRUNCATED);
  CHECK(unread("GET / HTTP/1.1\r\nUpgrade: x\r\n\r\n\1\2") == CASA_UNREAD_OPAQUE);
  CHECK(unread("CONNECT a:1 HTTP/1.1\r\n\r\n\1\2") == CASA_UNREAD_OPAQUE);
  CHECK(unread("SSH-2.0-x\r\n") == CASA_UNREAD_OPAQUE);
  CHECK(unread("GET / HTTP/1.1\r\nContent-Length: x\r\n") == CASA_UNREAD_AMBIGUOUS);
}

TEST_CASE("what some programs take for spaces is not passed over in silence") {
  for (const char* odd : {"\v", "\f", "\x1c", "\x1f", "\x7f", "\x85", "\xa0"})
    for (const std::string& field :
         {"Authorization:" + std::string(odd) + "Bearer x", "Authorization: Bearer" + std::string(odd) + "x",
          "Authorization" + std::string(odd) + ": Bearer x"}) {
      std::string stream = "GET / HTTP/1.1\r\n" + field + "\r\n\r\n";
      require_told(stream, 0);
      CHECK(check_http1({}, bytes_of(stream)).expected.unread == CASA_UNREAD_AMBIGUOUS);
    }
}

TEST_CASE("a segment of a path is told whole or not at all") {
  std::string path;
  for (int i = 0; i < 6; ++i) path += "/0123456789abcd";
  for (const char* more : {"", "x", "xxxxx/y", "/z", "/zzzzz", "/0/1/2/3/4/5"})
    for (std::size_t from : {0, 10, 11, 12, 13, 14, 15, 16})
      require_told("POST " + path.substr(from) + more + " HTTP/1.1\r\nAuthorization: Bearer t\r\n\r\n", 1);
}

TEST_CASE("a connection whose first bytes nobody saw is told as such") {
  const std::string stream = "GET / HTTP/1.1\r\nAuthorization: Bearer abc\r\n\r\n";
  for (unsigned i = 0; i < 64; ++i) {
    Http1Way way;
    way.ingress = i % 2 == 1;
    way.fin = true;
    way.seed = i + 1;
    way.longest = 1 + i % 9;
    // All of it (TCP Fast Open to a listener here), or the beginning.
    way.unseen = i % 4 == 1 ? stream.size() : 1 + i;
    if (way.unseen > stream.size() || (!way.ingress && way.unseen == stream.size())) continue;
    INFO("way " << i);
    REQUIRE(check_http1(way, bytes_of(stream)).problem == "");
  }
}

TEST_CASE("an urgent byte puts the reader out of step, in a head and in a body") {
  std::string stream = "POST / HTTP/1.1\r\nContent-Length: 100\r\n\r\n" + std::string(100, 'x');
  stream += "GET / HTTP/1.1\r\nAuthorization: Bearer abc\r\n\r\n";
  for (std::size_t at = 0; at < stream.size(); ++at) {
    Http1Way way;
    way.ingress = at % 2 == 1;
    way.urgent = at;
    INFO("at " << at);
    Http1Result result = check_http1(way, bytes_of(stream));
    // Before the end of its first head nobody knows what the connection speaks.
    if (result.problem.starts_with("app ") && result.expected.heads == 0) continue;
    REQUIRE(result.problem == "");
  }
}

TEST_CASE("rules about tokens hold in every segmentation") {
  const std::string first = "POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc";
  // {"alg":"RS256"}: only a JWT is waited for.
  const std::string token = "eyJhbGciOiJSUzI1NiJ9." + std::string(160, 'x') + "." + std::string(20, 'y');
  const std::string begin = "GET / HTTP/1.1\r\nAuthorization: Bearer ", end = "\r\nHost: a\r\n\r\n";
  const std::string stream = first + begin + token + end;
  const std::size_t at = first.size() + begin.size();
  for (unsigned i = 0; i < 400; ++i) {
    Http1Way way;
    way.seed = i + 1;
    way.repeats = i % 3 == 1;
    way.reorders = i % 5 == 1;
    way.longest = i % 4 == 0 ? 0 : i % 100;
    INFO("way " << i);
    // exfiltration: drop. Not one byte of the token leaves, and it is told.
    way.rule = CASA_SUBJECT_TOKEN_DROP;
    Http1Passed passed = pass_http1(way, bytes_of(stream));
    REQUIRE(passed.bytes <= at);
    REQUIRE(passed.reason == CASA_REASON_TOKEN_UNEXPECTED_DESTINATION);
    REQUIRE(passed.sightings == 1);
    REQUIRE(pass_http1(way, bytes_of(first + first)).bytes == 2 * first.size());
    // requireValidSignature: drop. The token's end does not pass before it is known to be valid.
    way.ingress = i % 2 == 1;
    way.rule = CASA_SUBJECT_TOKEN_VALID;
    passed = pass_http1(way, bytes_of(stream));
    REQUIRE(passed.bytes <= at + token.size());
    REQUIRE(passed.reason == CASA_REASON_TOKEN_INVALID_SIGNATURE);
    way.signature = CASA_SIGNATURE_INVALID;
    passed = pass_http1(way, bytes_of(stream));
    REQUIRE(passed.bytes <= at + token.size());
    REQUIRE(passed.reason == CASA_REASON_TOKEN_INVALID_SIGNATURE);
    way.signature = CASA_SIGNATURE_VALID;
    passed = pass_http1(way, bytes_of(stream));
    REQUIRE(passed.bytes == stream.size());
    REQUIRE(passed.reason == CASA_REASON_NONE);
    way.signature = CASA_SIGNATURE_UNVERIFIED;
    way.verified_after = 1 + i % 7;
    way.reorders = true;  // what is under way behind the one that is held back does not count
    passed = pass_http1(way, bytes_of(stream));
    REQUIRE(passed.bytes == stream.size());
    REQUIRE(passed.sightings == 1);
  }
}

TEST_CASE("where tokens can be stopped, what cannot be read for certain does not go on") {
  const std::string good = "POST / HTTP/1.1\r\nContent-Length: 3000\r\n\r\n", body(3000, 'x');
  for (casa_u32 rule : {casa_u32{CASA_SUBJECT_TOKEN_DROP}, casa_u32{CASA_SUBJECT_TOKEN_VALID}}) {
    Http1Way way;
    way.rule = rule;
    for (const char* bad : {"GET / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", "\1garbage",
                            "GET / HTTP/1.1\r\nAuthorization : Bearer x\r\n\r\n"}) {
      Http1Passed passed = pass_http1(way, bytes_of(good + body + bad));
      CHECK(passed.bytes < good.size() + body.size() + std::string(bad).size());
      CHECK(passed.reason == CASA_REASON_HTTP_UNREADABLE);
    }
    // Pages that the sender can still write to: as a body, not as a head.
    way.longest = 700;
    way.shared_from = 0;
    CHECK(pass_http1(way, bytes_of(good)).reason == CASA_REASON_HTTP_UNREADABLE);
    way.shared_from = good.size();
    CHECK(pass_http1(way, bytes_of(good + body)).bytes == good.size() + body.size());
    CHECK(pass_http1(way, bytes_of(good + body + good)).reason == CASA_REASON_HTTP_UNREADABLE);
  }
}

TEST_CASE("where tokens can be stopped, a connection that cannot be read at all does not go on") {
  const std::string stream = "GET / HTTP/1.1\r\nAuthorization: Bearer abc\r\n\r\n";
  for (casa_u32 rule : {casa_u32{0}, casa_u32{CASA_SUBJECT_TOKEN_DROP}, casa_u32{CASA_SUBJECT_TOKEN_VALID}})
    for (bool no_storage : {false, true}) {
      Http1Way way;
      way.rule = rule;
      way.no_storage = no_storage;
      way.unseen = no_storage ? 0 : 10;
      Http1Passed passed = pass_http1(way, bytes_of(stream));
      CHECK(passed.bytes == (rule != 0 ? way.unseen : stream.size()));
      CHECK(passed.reason == (rule != 0 ? CASA_REASON_HTTP_UNREADABLE : CASA_REASON_NONE));
    }
}

TEST_CASE("20,000 streams of requests in made segments") {
  unsigned long cases = number_from("CASA_HTTP1_CASES", 20'000), first = number_from("CASA_HTTP1_FIRST", 1);
  std::size_t sightings = 0, tokens = 0, ended[5] = {};
  for (unsigned long seed = first; seed < first + cases; ++seed) {
    Http1Maker maker(static_cast<std::uint32_t>(seed));
    std::string stream = maker.stream();
    Http1Way way = maker.way(stream.size());
    Http1Result result = check_http1(way, bytes_of(stream));
    for (const Sighting& s : result.expected.sightings) tokens += s.token.empty() ? 0 : 1;
    sightings += result.expected.sightings.size();
    ++ended[result.expected.unread];
    if (result.problem.empty()) continue;
    INFO("seed " << seed << (way.ingress ? ", ingress" : ", egress") << ", segments to " << way.longest);
    REQUIRE(result.problem == "");
  }
  if (cases != 20'000)
    std::printf(
        "%lu streams, %zu sightings, %zu of tokens; read to the end %zu, opaque %zu, truncated %zu, ambiguous %zu\n",
        cases, sightings, tokens, ended[CASA_UNREAD_NOTHING], ended[CASA_UNREAD_OPAQUE], ended[CASA_UNREAD_TRUNCATED],
        ended[CASA_UNREAD_AMBIGUOUS]);
  // The streams are worth reading.
  CHECK(tokens > cases);
  for (casa_unread why : {CASA_UNREAD_NOTHING, CASA_UNREAD_OPAQUE, CASA_UNREAD_TRUNCATED, CASA_UNREAD_AMBIGUOUS})
    CHECK(ended[why] > cases / 100);
}

TEST_CASE("20,000 tokens that look like JWTs") {
  std::size_t jwts = 0, none = 0;
  for (std::uint32_t seed = 1; seed <= 20'000; ++seed) {
    Http1Maker maker(seed);
    std::string token = maker.jwt();
    Shape shape = shape_of(token);
    jwts += shape.may_be_jwt && !shape.may_be_opaque ? 1 : 0;
    none += shape.is_none ? 1 : 0;
    std::string stream = "GET / HTTP/1.1\r\nAuthorization: Bearer " + token + "\r\n\r\n";
    Http1Way way;
    way.longest = seed % 3 == 0 ? 0 : seed % 90;
    way.seed = seed;
    Http1Result result = check_http1(way, bytes_of(stream));
    INFO("seed " << seed << ": " << token);
    REQUIRE(result.problem == "");
  }
  CHECK(jwts > 4'000);
  CHECK(none > 1'000);
}

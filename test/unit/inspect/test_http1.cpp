// bpf/lib/http1.h, token.h and request.h, compiled for user space, against a second reader of HTTP/1 (test/inspect): what was
// wrong once.
#include <catch2/catch_test_macros.hpp>

#include "http1_check.h"

namespace {

using namespace casa::inspect;

View bytes_of(const std::string& text) { return {reinterpret_cast<const std::uint8_t*>(text.data()), text.size()}; }

// Told as the reference says, in segments of up to so many bytes each, in both directions.
void require_told(const std::string& stream, std::size_t sightings, bool fin = false) {
  for (std::size_t longest : {0, 1, 7, 300})
    for (bool ingress : {false, true}) {
      Http1Way way;
      way.longest = longest;
      way.ingress = ingress;
      way.fin = fin;
      way.watch = true;
      Http1Result result = check_http1(way, bytes_of(stream));
      INFO(stream.substr(0, 200) << ", segments to " << longest << (ingress ? ", ingress" : ", egress"));
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

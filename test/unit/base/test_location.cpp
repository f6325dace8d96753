// Where something that is asked for may be.
#include <catch2/catch_test_macros.hpp>

#include "base/location.h"

using namespace casa;

namespace {
std::string read(const char* text) {
  auto location = parse_location(text);
  return location ? to_string(*location) : "error: " + location.error().context;
}
bool refused(const char* text, const char* part) {
  INFO(read(text));
  return read(text).starts_with("error: ") && read(text).find(part) != std::string::npos;
}
}  // namespace

TEST_CASE("files and URLs") {
  CHECK(read("/etc/casad/jwks.json") == "/etc/casad/jwks.json");
  CHECK(read("https://Auth.Example/realms/a/certs?x=1") == "https://auth.example:443/realms/a/certs?x=1");
  CHECK(read("https://auth.example") == "https://auth.example:443/");
  CHECK(read("https://auth.example?x") == "https://auth.example:443/?x");
  CHECK(read("https://192.0.2.1:8443/k") == "https://192.0.2.1:8443/k");
  CHECK(read("https://[2001:db8::1]/k") == "https://[2001:db8::1]:443/k");
  CHECK(read("http://127.0.0.1:8000/k") == "http://127.0.0.1:8000/k");
  CHECK(read("http://[::1]:8000/k") == "http://[::1]:8000/k");
  CHECK(read("http://localhost/k") == "http://localhost:80/k");
  CHECK(parse_location("https://auth.example/")->needs_name());
  CHECK_FALSE(parse_location("https://192.0.2.1/")->needs_name());
  CHECK_FALSE(parse_location("http://localhost/")->needs_name());
}

TEST_CASE("what is refused, and why") {
  CHECK(refused("", "neither an absolute path nor"));
  CHECK(refused("jwks.json", "neither an absolute path nor"));
  CHECK(refused("ftp://x/", "neither an absolute path nor"));
  CHECK(refused("HTTPS://x/", "neither an absolute path nor"));
  CHECK(refused("http://auth.example/certs", "loopback"));
  CHECK(refused("http://192.0.2.1/", "loopback"));
  CHECK(refused("http://127.0.0.1.example/", "loopback"));
  CHECK(refused("http://localhost.example/", "loopback"));
  CHECK(refused("http://127.0.0.1@evil.example/", "user or a password"));
  CHECK(refused("https://user:pw@auth.example/", "user or a password"));
  CHECK(refused("https:///certs", "neither a name nor an address"));
  CHECK(refused("https://a..b/", "neither a name nor an address"));
  CHECK(refused("https://a_b/", "neither a name nor an address"));
  CHECK(refused("https://2001:db8::1/", "port"));
  CHECK(refused("https://[192.0.2.1]/", "neither a name nor an address"));
  CHECK(refused("https://[::1/", "no ']'"));
  CHECK(refused("https://a:0/", "port"));
  CHECK(refused("https://a:65536/", "port"));
  CHECK(refused("https://a:/", "port"));
  CHECK(refused("https://a/b#c", "fragment"));
  CHECK(refused("https://a/b c", "character"));
  CHECK(refused("https://a/\r\nHost: b", "character"));
}

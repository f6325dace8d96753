// The base room: addresses and prefixes, JSON text, times, the nearest name.
#include <catch2/catch_test_macros.hpp>

#include "base/ip.h"
#include "base/json.h"
#include "base/text.h"

TEST_CASE("addresses: one form for IPv4 and its mapped twin") {
  CHECK(casa::parse_ip("10.0.0.1") == casa::parse_ip("::ffff:10.0.0.1"));
  CHECK(to_string(*casa::parse_ip("::ffff:10.0.0.1")) == "10.0.0.1");
  CHECK(casa::with_port(*casa::parse_ip("fd00::1"), 80) == "[fd00::1]:80");
  for (const char* bad : {"", "10.0.0", "10.0.0.256", "1.2.3.4/8", "fe80::1%lo", " 10.0.0.1", "::g"})
    CHECK_FALSE(casa::parse_ip(bad));
  CHECK(casa::parse_ip("127.8.8.8")->is_loopback());
  CHECK(casa::parse_ip("::1")->is_loopback());
  CHECK_FALSE(casa::parse_ip("128.0.0.1")->is_loopback());
}

TEST_CASE("prefixes: host bits, lengths, containment across families") {
  CHECK(casa::parse_prefix("10.0.0.0/8")->length == 104);
  for (const char* bad : {"10.0.0.1/8", "10.0.0.0/33", "10.0.0.0", "10.0.0.0/08", "fd00::/129", "10.0.0.0/"})
    CHECK_FALSE(casa::parse_prefix(bad));
  CHECK(to_string(*casa::parse_prefix("10.0.0.0/8")) == "10.0.0.0/8");
  CHECK(casa::parse_prefix("10.0.0.0/8")->contains(*casa::parse_ip("10.255.0.1")));
  CHECK_FALSE(casa::parse_prefix("10.0.0.0/8")->contains(*casa::parse_ip("11.0.0.1")));
  CHECK(casa::parse_prefix("10.0.0.0/8")->contains(*casa::parse_prefix("10.1.0.0/16")));
  CHECK_FALSE(casa::parse_prefix("10.1.0.0/16")->contains(*casa::parse_prefix("10.0.0.0/8")));
}

TEST_CASE("JSON strings: escapes, and no invalid UTF-8 whatever a process calls itself") {
  std::string out;
  casa::append_json_string(out, "a\"b\\c\n\x1b[31m\xff\xc3\xa9\xed\xa0\x80");
  CHECK(out == "\"a\\\"b\\\\c\\u000a\\u001b[31m\xef\xbf\xbd\xc3\xa9\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\"");
  casa::JsonWriter json;
  json.begin_object()
      .field("a", 1)
      .key("b")
      .begin_array()
      .value(true)
      .value("x")
      .null()
      .end_array()
      .field("c", 1.5)
      .end_object();
  CHECK(json.str() == R"({"a":1,"b":[true,"x",null],"c":1.5})");
}

TEST_CASE("times: RFC 3339 both ways, and durations back from now") {
  auto now = *casa::parse_time("2026-11-24T01:51:33.123Z", {});
  CHECK(casa::format_time(now) == "2026-11-24T01:51:33.123Z");
  CHECK(casa::parse_time("2026-11-24T03:51:33.123+02:00", {}) == now);
  CHECK(*casa::parse_time("90s", now) == now - std::chrono::seconds(90));
  for (const char* bad : {"", "s", "90", "-1s", "90x", "2026-11-24", "2026-11-24T01:51:33", "2026-11-24T01:51:33.Z",
                          "99999999h", "9999-01-01T00:00:00Z"})
    CHECK_FALSE(casa::parse_time(bad, now));
}

TEST_CASE("the nearest name, when one is near") {
  const std::string_view names[] = {"allowedEndpoints", "allowedSources", "targetRef"};
  CHECK(casa::nearest_name("allowedEndpoint", names) == "allowedEndpoints");
  CHECK(casa::nearest_name("targetref", names) == "targetRef");
  CHECK(casa::nearest_name("spec", names).empty());
}

// Host names by RFC 1123, each rule on its own.
#include <catch2/catch_test_macros.hpp>

#include "policy/names.h"
#include "support.h"

using namespace casa::policy;
using casa::policy::test::has_advice;

namespace {
std::string bad(std::string_view text) {
  std::string out;
  std::string message = check_fqdn(text, out);
  INFO(text);
  CHECK((message.empty() || has_advice(message)));
  return message;
}
std::string good(std::string_view text) {
  std::string out;
  INFO(text);
  CHECK(check_fqdn(text, out).empty());
  return out;
}
}  // namespace

TEST_CASE("host names that are taken, in their normal form") {
  CHECK(good("api.openai.com") == "api.openai.com");
  CHECK(good("API.OpenAI.COM.") == "api.openai.com");
  CHECK(good("a.b") == "a.b");
  CHECK(good("1.2.3.4.example") == "1.2.3.4.example");
  CHECK(good("3com.9x") == "3com.9x");
  CHECK(good("xn--bcher-kva.example") == "xn--bcher-kva.example");
  CHECK(good("a--b.c-d.xn--p1ai") == "a--b.c-d.xn--p1ai");
  std::string label(63, 'a');
  CHECK(good(label + ".com") == label + ".com");
  std::string name = label + "." + label + "." + label + "." + std::string(61, 'a');  // 253
  CHECK(name.size() == 253);
  CHECK(good(name) == name);
  CHECK(good(name + ".") == name);
}

TEST_CASE("host names that are not") {
  CHECK(bad("") == "the host name is empty; write the whole name, such as api.example.com");
  CHECK(bad(".") == "\".\" has an empty part between dots; write single dots only");
  CHECK(bad("a.b..") == "\"a.b..\" has an empty part between dots; write single dots only");
  CHECK(bad(".a.b") == "\".a.b\" has an empty part between dots; write single dots only");
  CHECK(bad("a..b") == "\"a..b\" has an empty part between dots; write single dots only");
  CHECK(bad("localhost") == "\"localhost\" has no dot; write the whole host name, such as api.example.com");
  CHECK(bad("com.") == "\"com.\" has no dot; write the whole host name, such as api.example.com");
  CHECK(bad("*.openai.com").find("is a pattern, and casad allows exactly one name; write the whole host name") !=
        std::string::npos);
  CHECK(bad("api.*").find("is a pattern") != std::string::npos);
  CHECK(bad("https://api.openai.com:8443/v1") ==
        "\"https://api.openai.com:8443/v1\" is a URL; write only its host name: api.openai.com");
  CHECK(bad("api.openai.com:443") ==
        "\"api.openai.com:443\" contains ':'; write only the name (api.openai.com), and the port in port");
  CHECK(bad("api.openai.com/v1") == "\"api.openai.com/v1\" contains a path; write only the name: api.openai.com");
  for (const char* address : {"10.0.0.1", "::1", "fd00::1", "[::1]", "::ffff:10.0.0.1"}) {
    CHECK(bad(address).find("is an address, not a name; write the host name") != std::string::npos);
  }
  for (const char* number : {"300.300.300.300", "10.0.1", "a.1", "a.1."})
    CHECK(bad(number).find("ends in a number like an address") != std::string::npos);
  CHECK(bad("b\xC3\xBC"
            "cher.example")
            .find("is not ASCII; write its punycode form, as xn--bcher-kva.example stands for") != std::string::npos);
  CHECK(bad("a_b.com") == "\"a_b.com\" contains \"_\"; write letters, digits, '-' and dots only");
  CHECK(bad("a b.com") == "\"a b.com\" contains \" \"; write letters, digits, '-' and dots only");
  CHECK(bad(std::string_view("a\0.com", 6)) ==
        "\"a\\x00.com\" contains \"\\x00\"; write letters, digits, '-' and dots only");
  CHECK(bad("-a.com") == "\"-a.com\" has a part that begins or ends with '-'; write the name as DNS knows it");
  CHECK(bad("a-.com") == "\"a-.com\" has a part that begins or ends with '-'; write the name as DNS knows it");
  std::string label(63, 'a');
  CHECK(bad(label + "a.com").find("has a part longer than 63 characters") != std::string::npos);
  CHECK(bad(label + "." + label + "." + label + "." + std::string(62, 'a')).find("is longer than 253 characters") !=
        std::string::npos);
}

TEST_CASE("hosts in URLs may be one label") {
  std::string out;
  CHECK(check_host("Weather-MCP", out).empty());
  CHECK(out == "weather-mcp");
  CHECK_FALSE(check_host("10.0.0.1", out).empty());
  CHECK_FALSE(check_host("7", out).empty());
}

TEST_CASE("every complaint says what to write") {
  using namespace std::string_view_literals;
  for (auto text : {""sv, "A"sv, "-"sv, "a b"sv, "."sv, ".."sv, "a..b"sv, "\xC3\xA9"sv, "*"sv, "_"sv, "a/b/c"sv, "/"sv,
                    "\0"sv, "1"sv}) {
    INFO(text);
    for (auto check : {check_subdomain, check_label_name, check_service_name, check_port_name, check_key,
                       check_label_value, check_cgroup_path}) {
      std::string message = check(text);
      CHECK((message.empty() || has_advice(message)));
    }
  }
  std::string longest(300, 'a');
  for (auto check : {check_subdomain, check_label_name, check_service_name, check_port_name, check_key,
                     check_label_value, check_cgroup_path}) {
    CHECK(has_advice(check(longest)));
  }
}

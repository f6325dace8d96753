// What a request is to a token, by method and path; and what of a path is told.
#include <catch2/catch_test_macros.hpp>

#include "event/token_class.h"

using namespace casa;
using event::EventClass;
using event::EventClasses;
using event::path_class;

TEST_CASE("a path is told without its query and without what may be an id or a secret") {
  CHECK(path_class("/oauth2/token") == "/oauth2/token");
  CHECK(path_class("/oauth2/token?client_secret=abc") == "/oauth2/token");
  CHECK(path_class("/a#b") == "/a");
  CHECK(path_class("/") == "/");
  CHECK(path_class("/a//b/") == "/a//b/");
  CHECK(path_class("") == "");
  CHECK(path_class("*") == "*");
  CHECK(path_class("/users/42/posts") == "/users/{id}/posts");
  CHECK(path_class("/users/123e4567-e89b-12d3-a456-426614174000") == "/users/{id}");
  CHECK(path_class("/blob/deadbeef") == "/blob/{id}");
  CHECK(path_class("/blob/DEADBEEF01") == "/blob/{id}");
  CHECK(path_class("/feed/x") == "/feed/x");  // hexadecimal, and a word
  CHECK(path_class("/blob/*") == "/blob/{id}");
  CHECK(path_class("/blob/" + std::string(25, 'x')) == "/blob/{id}");
  CHECK(path_class("/blob/" + std::string(24, 'x')) == "/blob/" + std::string(24, 'x'));
  CHECK(path_class("/reset/Xk29ab77Qz") == "/reset/{id}");
  CHECK(path_class("/v1beta1/mcp-server") == "/v1beta1/mcp-server");
  CHECK(path_class("/a%20b/\x1b[2J/\xff") == "/{id}/{id}/{id}");
  CHECK(path_class("http://user:secret@host:80/a/1") == "/a/{id}");
  CHECK(path_class("http://host") == "/");
  CHECK(path_class("host:443") == "{id}");
}

TEST_CASE("the built-in classes are CASA's") {
  EventClasses classes;
  auto of = [&](const char* method, const char* path) { return classes.classify(method, path, true); };
  CHECK(of("POST", "/app-1/oauth2/token") == EventClass::kIssuance);
  CHECK(of("POST", "/oauth/token") == EventClass::kIssuance);
  CHECK(of("POST", "/oauth/token/") == EventClass::kIssuance);
  CHECK(of("POST", "/oauth/token?x=y") == EventClass::kIssuance);
  CHECK(of("POST", "http://auth/oauth/token") == EventClass::kIssuance);
  CHECK(of("POST", "/realms/mas/protocol/openid-connect/token") == EventClass::kIssuance);
  CHECK(of("POST", "/app-1/oauth2/token_exchange") == EventClass::kExchange);
  CHECK(of("POST", "/oauth/token/exchange") == EventClass::kExchange);
  CHECK(of("POST", "/oauth2/introspect") == EventClass::kIntrospection);
  CHECK(of("POST", "/oauth/introspect") == EventClass::kIntrospection);
  CHECK(of("GET", "/oauth/token") == EventClass::kUse);
  CHECK(of("post", "/oauth/token") == EventClass::kUse);
  CHECK(of("POST", "/a/b/oauth2/token") == EventClass::kUse);  // {app} is one segment
  CHECK(of("POST", "//oauth2/token") == EventClass::kUse);     // and not an empty one
  CHECK(of("POST", "/mcp") == EventClass::kUse);
  CHECK(of("", "") == EventClass::kUse);
  CHECK(classes.classify("POST", "/oauth/token", false) == EventClass::kIssuance);
  CHECK(classes.classify("POST", "/other/token", false) == EventClass::kNone);
  CHECK(classes.last_segments() == std::vector<std::string>{"token", "token_exchange", "exchange", "introspect"});
}

TEST_CASE("other classes replace them, and only what can be meant is taken") {
  EventClasses classes;
  classes.clear();
  REQUIRE(classes.add(EventClass::kIntrospection, "get", "/who/{x}/me"));
  CHECK(classes.classify("GET", "/who/is/me", false) == EventClass::kIntrospection);
  CHECK(classes.classify("GET", "/who/me", true) == EventClass::kUse);
  CHECK(classes.classify("POST", "/oauth/token", true) == EventClass::kUse);
  for (const char* bad : {"", "token", "/", "/a/{x}", "/a//b", "/a b", "/a/b/", "/{}", "/abcdefghijklmnopqrstuvwxyz"})
    CHECK_FALSE(classes.add(EventClass::kIssuance, "POST", bad));
  for (const char* bad : {"", "GE T", "A234567", "ABCDEFGHIJKLMNOP"})
    CHECK_FALSE(classes.add(EventClass::kIssuance, bad, "/a"));
  for (std::size_t i = 1; i < EventClasses::kMaxPatterns; ++i)
    REQUIRE(classes.add(EventClass::kIssuance, "POST", "/a"));
  CHECK_FALSE(classes.add(EventClass::kIssuance, "POST", "/a"));
  CHECK(classes.last_segments() == std::vector<std::string>{"me", "a"});
}

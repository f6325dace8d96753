// tokens and alerts against a real server: lists, one token's path, following over a restart.
#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>

#include <simdjson.h>

#include "capture.h"
#include "cli/client.h"
#include "server_fixture.h"

using namespace casa;
using namespace casa::cli;
using namespace casa::test;
using Catch::Matchers::ContainsSubstring;
using Catch::Matchers::StartsWith;

namespace {

const std::string kKnown = "abababababababababababababababababababababababababababababababab";

bool is_object(const std::string& line, std::string_view member) {
  simdjson::dom::parser parser;
  simdjson::dom::element document;
  return parser.parse(line).get(document) == simdjson::SUCCESS && document[member].error() == simdjson::SUCCESS;
}

}  // namespace

TEST_CASE("tokens for people and for programs") {
  ServerFixture server;
  Asked<TokensOptions> asked(server);
  CHECK(run_tokens(asked.options) == 0);
  auto lines = asked.out.lines();
  REQUIRE(lines.size() == 3);
  CHECK_THAT(lines[0], StartsWith("LAST SEEN"));
  CHECK_THAT(lines[1], ContainsSubstring("jwt (alg none)") && ContainsSubstring("1 use, 1 duplicate") &&
                           ContainsSubstring("team-a/agent +1") && ContainsSubstring("tools/mcp-server:8080 +1") &&
                           ContainsSubstring(kKnown));
  CHECK_THAT(lines[2], ContainsSubstring("team-a/agent  "));
  CHECK(lines[1].find(kKnown) == lines[2].find("cdcd"));

  Asked<TokensOptions> json(server);
  json.options.json = true;
  json.options.workload = "team-a/rogue";
  CHECK(run_tokens(json.options) == 0);
  REQUIRE(json.out.lines().size() == 1);
  CHECK(is_object(json.out.lines()[0], "presenters"));

  Asked<TokensOptions> none(server);
  none.options.ns = "nobody";
  CHECK(run_tokens(none.options) == 0);
  CHECK(none.out.text().empty());
  CHECK(none.err.text() == "no tokens match\n");
}

TEST_CASE("one token and its path") {
  ServerFixture server;
  Asked<TokensOptions> asked(server);
  asked.options.sha256 = kKnown;
  asked.options.sha256[0] = 'A';
  CHECK(run_tokens(asked.options) == 0);
  std::string text = asked.out.text();
  CHECK_THAT(text, ContainsSubstring("SHA256        " + kKnown + "\n"));
  CHECK_THAT(text, ContainsSubstring("POST /mcp"));
  CHECK_THAT(text, ContainsSubstring("team-a/agent -> tools/mcp-server:8080"));
  CHECK_THAT(text, ContainsSubstring("team-a/rogue -> 203.0.113.7:80"));
  CHECK_THAT(text, ContainsSubstring("(duplicate)"));
  Asked<TokensOptions> json(server);
  json.options.sha256 = kKnown;
  json.options.json = true;
  CHECK(run_tokens(json.options) == 0);
  CHECK(is_object(json.out.lines().at(0), "path"));
  for (const char* bad : {"abc", "x?y z", "../../healthz"}) {
    Asked<TokensOptions> wrong(server);
    wrong.options.sha256 = bad;
    CHECK(run_tokens(wrong.options) == 2);
    CHECK_THAT(wrong.err.text(), ContainsSubstring("64 hexadecimal digits"));
  }
  Asked<TokensOptions> unknown(server);
  unknown.options.sha256 = std::string(64, 'e');
  CHECK(run_tokens(unknown.options) == 1);
  CHECK_THAT(unknown.err.text(), ContainsSubstring("No token with this SHA-256 is remembered"));
}

TEST_CASE("tokens: following shows sightings, and survives a restart") {
  ServerFixture server;
  Asked<TokensOptions> asked(server), one(server);
  std::atomic<bool> stop = false;
  for (auto* a : {&asked, &one}) {
    a->options.follow = true;
    a->options.interval = std::chrono::milliseconds(30);
    a->options.stop = &stop;
  }
  one.options.sha256 = kKnown;
  one.options.json = true;
  int codes[2] = {-1, -1};
  std::thread all([&] { codes[0] = run_tokens(asked.options); });
  std::thread single([&] { codes[1] = run_tokens(one.options); });
  CHECK(wait_for(asked.out, "TIME"));
  std::this_thread::sleep_for(std::chrono::milliseconds(200));  // the other one prints no title
  auto now = std::chrono::system_clock::now();
  server.run([&] {
    server.state.news.publish(*server.state.history.find(1));  // no sighting
    server.state.news.publish(sighting(0xab, now), 1);
    server.state.news.publish(sighting(0xcd, now), 1);
  });
  CHECK(wait_for(asked.out, "cdcdcdcdcdcdcdcd"));
  server.run([&] { server.server->stop(); });
  CHECK(wait_for(asked.err, "trying again"));
  server.run([&] {
    server.state.news.publish(sighting(0xef, now), 1);
    CHECK(server.server->start());
  });
  CHECK(wait_for(asked.out, "efefefefefefefef"));  // it went on where it was
  server.run([&] { server.state.news.publish(sighting(0xab, now), 1); });
  CHECK(wait_for(one.out, "\n{"));
  stop = true;
  all.join();
  single.join();
  CHECK(codes[0] == 0);
  CHECK(codes[1] == 0);
  CHECK(asked.out.lines().size() == 5);
  CHECK(one.out.lines().size() == 2);
  CHECK(is_object(one.out.lines()[0], "sha256"));
  CHECK(asked.err.lines().size() == 1);

  Asked<TokensOptions> wrong(server);
  wrong.options.follow = true;
  wrong.options.since = "1h";
  CHECK(run_tokens(wrong.options) == 2);
  wrong.options.since = "";
  wrong.options.workload = "a b";
  CHECK(run_tokens(wrong.options) == 2);
  CHECK_THAT(wrong.err.text(), ContainsSubstring("Write a workload's name"));
}

TEST_CASE("alerts: the list, its filters, and following") {
  ServerFixture server;
  Asked<TokensOptions> asked(server);
  CHECK(run_alerts(asked.options) == 0);
  auto lines = asked.out.lines();
  REQUIRE(lines.size() == 6);
  CHECK_THAT(lines[1], ContainsSubstring("token_unexpected_destination") && ContainsSubstring("critical") &&
                           ContainsSubstring("team-a/rogue sent the token abababababab to 203.0.113.7:80"));
  Asked<TokensOptions> replay(server);
  replay.options.kind = "token_replay";
  replay.options.json = true;
  CHECK(run_alerts(replay.options) == 0);
  REQUIRE(replay.out.lines().size() == 1);
  CHECK(is_object(replay.out.lines()[0], "evidence"));
  Asked<TokensOptions> wrong(server);
  wrong.options.kind = "replay";
  CHECK(run_alerts(wrong.options) == 2);

  Asked<TokensOptions> following(server);
  std::atomic<bool> stop = false;
  following.options.follow = true;
  following.options.limit = 2;
  following.options.stop = &stop;
  int code = -1;
  std::thread follower([&] { code = run_alerts(following.options); });
  CHECK(wait_for(following.out, "ambiguous_http"));
  server.run([&] {
    // One that the list had already, and one that is new.
    server.state.news.publish(*server.state.tracker.alerts().query({}, 1, 0).rows[0]);
    auto s = sighting(0x11, std::chrono::system_clock::now());
    s.signature = CASA_SIGNATURE_EXPIRED;
    for (auto* alert : server.state.tracker.see(s, 0)) server.state.news.publish(*alert);
  });
  CHECK(wait_for(following.out, "token_invalid_signature"));
  stop = true;
  follower.join();
  CHECK(code == 0);
  CHECK(following.out.lines().size() == 4);
}

TEST_CASE("tokens: nobody answers") {
  for (bool follow : {false, true}) {
    Capture out, err;
    TokensOptions options;
    options.api_socket = "/nonexistent/casad.sock";
    options.out = out.file();
    options.err = err.file();
    options.follow = follow;
    CHECK(run_tokens(options) == 1);
    CHECK(run_alerts(options) == 1);
    CHECK_THAT(err.text(), ContainsSubstring("is casad running?"));
  }
}

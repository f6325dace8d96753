// Request targets, query parameters and cursors: what is read, and what is refused with which words.
#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>
#include <random>

#include "api/cursor.h"
#include "api/query.h"
#include "api/target.h"
#include "base/text.h"

using namespace casa;
using namespace casa::api;
using Catch::Matchers::ContainsSubstring;

namespace {

const Time kNow = *parse_time("2026-06-01T12:00:00Z", {});
constexpr std::array<std::string_view, 9> kAll{"since",  "until",     "namespace", "workload", "verdict",
                                               "reason", "direction", "limit",     "cursor"};

Result<Query> query(const std::string& text) {
  auto target = parse_target("/v1/flows?" + text);
  if (!target) return std::unexpected(target.error());
  return parse_query(*target, kAll, kNow);
}

std::string refusal(const std::string& text) {
  auto result = query(text);
  REQUIRE_FALSE(result);
  CHECK(result.error().code == ErrorCode::kInvalidArgument);
  return result.error().context;
}

}  // namespace

TEST_CASE("a target is decoded once, and '+' is a plus") {
  auto target = parse_target("/v1/%66lows?a=%2Bx+y&b=%2541&c&=d&&");
  REQUIRE(target);
  CHECK(target->path == "/v1/flows");
  REQUIRE(target->query.size() == 4);
  CHECK(target->query[0] == std::pair<std::string, std::string>{"a", "+x+y"});
  CHECK(target->query[1].second == "%41");
  CHECK(target->query[2] == std::pair<std::string, std::string>{"c", ""});
  CHECK(target->query[3] == std::pair<std::string, std::string>{"", "d"});
}

TEST_CASE("an absolute target is its path") {
  CHECK(parse_target("http://localhost/v1/stats")->path == "/v1/stats");
  CHECK(parse_target("http://localhost")->path == "/");
  CHECK(parse_target("https://u@h:1/v1?x=http://y/")->path == "/v1");
  CHECK_FALSE(parse_target("http://h?x=1"));
}

TEST_CASE("targets that two readers could read differently are refused") {
  for (const char* raw : {"", "*", "v1/flows", "/v1%2fflows", "/v1%2Fflows", "/a%", "/a%1", "/a%zz", "/a%00",
                          "/a?b=%0a", "/a?b=%7f", "/a#b", "/a b", "/\x80", "/a?\xff"})
    CHECK_FALSE(parse_target(raw));
  std::string many = "/a?";
  for (int i = 0; i < 33; ++i) many += "a=b&";
  CHECK_FALSE(parse_target(many));
}

TEST_CASE("every parameter is read") {
  auto q = query(
      "since=15m&until=2026-06-01T14:00:00%2B02:30&namespace=team-a&workload=team-a/"
      "agent&verdict=DENIED&reason=no_listener&direction=ingress&limit=1000&cursor=ab");
  REQUIRE_FALSE(q);  // until (11:30) is before since (11:45)
  q = query(
      "since=1h&until=2026-06-01T14:00:00+02:30&namespace=team-a&workload=team-a/"
      "agent&verdict=DENIED&reason=no_listener&direction=ingress&limit=1000&cursor=ab");
  REQUIRE(q);
  CHECK(*q->since == kNow - std::chrono::hours(1));
  CHECK(*q->until == kNow - std::chrono::minutes(30));
  CHECK(q->ns == "team-a");
  CHECK(q->workload == "team-a/agent");
  CHECK(q->verdict == CASA_DENIED);
  CHECK(q->reason == CASA_REASON_NO_LISTENER);
  CHECK(q->direction == CASA_INGRESS);
  CHECK(q->limit == 1000);
  CHECK(q->cursor == "ab");
  CHECK(query("")->limit == kDefaultLimit);
}

TEST_CASE("bad parameters are refused with a suggestion") {
  CHECK_THAT(refusal("verdct=DENIED"), ContainsSubstring("Did you mean 'verdict'?"));
  CHECK_THAT(refusal("verdct=DENIED"), ContainsSubstring("/v1/flows takes: since, until"));
  CHECK_THAT(refusal("verdict=denied"),
             ContainsSubstring("Did you mean 'DENIED'? It is one of: ALLOWED, DENIED, AUDIT."));
  CHECK_THAT(refusal("reason=no_listner"), ContainsSubstring("Did you mean 'no_listener'?"));
  CHECK_THAT(refusal("reason=zzzzzzzzzz"), ContainsSubstring("docs/reasons.md"));
  CHECK_THAT(refusal("direction=in"), ContainsSubstring("egress, ingress"));
  CHECK_THAT(refusal("limit=5&limit=6"), ContainsSubstring("twice"));
  for (const char* bad : {"limit=", "limit=0", "limit=1001", "limit=-1", "limit=+5", "limit=1e3",
                          "limit=99999999999999999999", "limit=5%20"})
    CHECK_THAT(refusal(bad), ContainsSubstring("from 1 to 1000"));
  for (const char* bad : {"since=", "since=yesterday", "since=15", "since=-5m", "since=99999999h",
                          "since=9999-01-01T00:00:00Z", "since=0001-01-01T00:00:00Z", "since=T", "since=2026-01-01"})
    CHECK_THAT(refusal(bad), ContainsSubstring("no time"));
  for (const char* bad : {"namespace=", "namespace=a/b", "namespace=a%20b", "namespace=..%2F..", "workload=/",
                          "workload=a/", "workload=a/b/c", "workload=%F0%9F%92%A9"})
    refusal(bad);
  CHECK(refusal("namespace=" + std::string(5000, '*')).size() < 300);
  CHECK_THAT(refusal("cursor="), ContainsSubstring("empty"));
  CHECK_THAT(refusal("=5"), ContainsSubstring("Unknown query parameter ''"));
}

TEST_CASE("times at the edges of what is meant do not overflow") {
  CHECK(query("since=99999d"));
  CHECK(query("since=1970-01-01T00:00:00Z"));
  CHECK(query("since=2200-12-31T23:59:59.999999999Z"));
}

TEST_CASE("a cursor opens only for its list and run, unchanged") {
  Cursors cursors(42), other(43);
  std::string position("a\0\xff", 3);
  auto sealed = cursors.seal("/v1/flows", position);
  CHECK(cursors.open("/v1/flows", sealed) == position);
  CHECK_FALSE(cursors.open("/v1/policies", sealed));
  CHECK_FALSE(other.open("/v1/flows", sealed));
  for (std::size_t i = 0; i < sealed.size(); ++i) {
    auto changed = sealed;
    changed[i] = changed[i] == '0' ? '1' : '0';
    CHECK_FALSE(cursors.open("/v1/flows", changed));
    CHECK_FALSE(cursors.open("/v1/flows", sealed.substr(0, i)));
  }
  CHECK_FALSE(cursors.open("/v1/flows", sealed + "00"));
}

TEST_CASE("random targets are read or refused, never worse") {
  std::mt19937 random(7);
  const std::string alphabet = "/v1flows?&=%2fF+ab.,-_~\x01\x80\xff\n ";
  for (int i = 0; i < 20'000; ++i) {
    std::string raw = "/v1/flows?";
    for (unsigned n = random() % 60; n > 0; --n) raw += alphabet[random() % alphabet.size()];
    if (auto target = parse_target(raw)) static_cast<void>(parse_query(*target, kAll, kNow));
  }
}

// What is found of sightings, and that it is told once.
#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>

#include "sightings.h"

using namespace casa;
using namespace casa::test;
using Catch::Matchers::ContainsSubstring;
using token::Alert;
using token::AlertBook;
using token::AlertKind;
using token::Tracker;

namespace {

std::vector<const Alert*> alerts(const Tracker& tracker) { return tracker.alerts().query({}, 1000, 0).rows; }

std::vector<AlertKind> kinds(const AlertBook::Told& told) {
  std::vector<AlertKind> out;
  for (auto* alert : told) out.push_back(alert->kind);
  return out;
}
using Kinds = std::vector<AlertKind>;

}  // namespace

TEST_CASE("a token where it belongs is no alert") {
  Tracker tracker;
  CHECK(tracker.see(sighting(1), 1).empty());
  auto s = sighting(1, kNoon + 1h);
  s.flow.destination = workload("tools", "elsewhere");
  CHECK(tracker.see(s, 2).empty());  // an allowed endpoint, also an hour later
  s.flow.reason = CASA_REASON_MAS_DEFAULT;
  CHECK(tracker.see(s, 2).empty());
  // A token that passes on from the callee is seen at the callee, and is the callee's to receive.
  s.flow.direction = CASA_INGRESS;
  s.flow.source = world("203.0.113.9");
  CHECK(tracker.see(s, 3).empty());
  CHECK(alerts(tracker).empty());
}

TEST_CASE("outside is always unexpected") {
  for (auto kind : {PeerName::Kind::kWorld, PeerName::Kind::kFqdn, PeerName::Kind::kCidr}) {
    Tracker tracker;
    auto s = sighting(1);
    s.flow.reason = CASA_REASON_LLM_ALLOWED;
    s.flow.destination = party(kind, "", "", "203.0.113.7", 443);
    auto told = tracker.see(s, 5);
    REQUIRE(kinds(told) == Kinds{AlertKind::kUnexpectedDestination});
    CHECK(told[0]->severity == token::Severity::kCritical);
    CHECK_FALSE(told[0]->blocked);
    CHECK(told[0]->flow_ids == std::vector<std::uint64_t>{5});
    CHECK(told[0]->sha256 == hash_of(1));
    CHECK(to_string(told[0]->workload) == "team-a/agent");
    CHECK_THAT(told[0]->message, ContainsSubstring("team-a/agent sent the token 010000000000 to "));
    CHECK_THAT(told[0]->message, ContainsSubstring("outside"));
  }
}

TEST_CASE("inside, what is not allowed is unexpected from the second minute on") {
  Tracker tracker;
  auto audited = [](token::Time time, const char* name) {
    auto s = sighting(1, time);
    s.flow.verdict = CASA_AUDIT;
    s.flow.reason = CASA_REASON_PEER_NOT_ALLOWED;
    s.flow.destination = workload("tools", name);
    return s;
  };
  CHECK(tracker.see(audited(kNoon, "early"), 1).empty());
  CHECK(tracker.see(audited(kNoon + 60s, "in-time"), 1).empty());
  CHECK(kinds(tracker.see(audited(kNoon + 61s, "late"), 2)) == Kinds{AlertKind::kUnexpectedDestination});
  CHECK(tracker.see(audited(kNoon + 2h, "early"), 3).empty());
  // An observer of TLS does not know where it goes: nothing can be said.
  auto s = audited(kNoon + 3h, "x");
  s.via = CASA_VIA_TLS;
  s.flow.destination = party(PeerName::Kind::kUnknown, "", "", "::", 0);
  CHECK(tracker.see(s, 0).empty());
}

TEST_CASE("what the kernel stopped is told as blocked, hashed or not") {
  Tracker tracker;
  auto s = sighting(1);
  s.flow.verdict = CASA_DENIED;
  s.flow.reason = CASA_REASON_TOKEN_UNEXPECTED_DESTINATION;
  auto told = tracker.see(s, 1);
  REQUIRE(told.size() == 1);
  CHECK(told[0]->blocked);
  CHECK_THAT(told[0]->message, ContainsSubstring("was kept from sending"));
  s.shape = CASA_TOKEN_UNHASHED;
  told = tracker.see(s, 1);
  REQUIRE(told.size() == 1);
  CHECK(told[0]->blocked);
  CHECK_FALSE(told[0]->sha256);
  CHECK_THAT(told[0]->message, ContainsSubstring("a token that was not hashed"));
  s = sighting(2);
  s.flow.verdict = CASA_DENIED;
  s.flow.reason = CASA_REASON_TOKEN_INVALID_SIGNATURE;
  told = tracker.see(s, 1);
  REQUIRE(kinds(told) == Kinds{AlertKind::kInvalidSignature});
  CHECK(told[0]->blocked);
}

TEST_CASE("a second workload with the same token is a replay") {
  Tracker tracker;
  CHECK(tracker.see(sighting(1), 1).empty());
  auto s = sighting(1, kNoon + 5s);
  s.flow.source = workload("team-a", "rogue");
  auto told = tracker.see(s, 2);
  REQUIRE(kinds(told) == Kinds{AlertKind::kReplay});
  CHECK_THAT(told[0]->message, ContainsSubstring("team-a/rogue presented"));
  CHECK_THAT(told[0]->message, ContainsSubstring("which team-a/agent had presented first"));
  REQUIRE(told[0]->first);
  CHECK(told[0]->first->flow_id == 1);
  REQUIRE(told[0]->sighting);
  CHECK(told[0]->sighting->flow_id == 2);
  CHECK(tracker.see(sighting(1, kNoon + 6s), 1).empty());  // the first one may go on
  // The callee's side of a call tells of the same presenter, not of a second one.
  Tracker other;
  auto ingress = sighting(1);
  ingress.flow.direction = CASA_INGRESS;
  ingress.flow.source = workload("team-b", "caller");
  CHECK(other.see(ingress, 1).empty());
  CHECK(other.see(sighting(1), 1).empty());
}

TEST_CASE("signatures: as a sighting has them, and as the verifier finds later") {
  Tracker tracker;
  for (auto state : {CASA_SIGNATURE_INVALID, CASA_SIGNATURE_EXPIRED, CASA_SIGNATURE_UNKNOWN_KEY}) {
    auto s = sighting(state);
    s.signature = state;
    CHECK(kinds(tracker.see(s, 1)) == Kinds{AlertKind::kInvalidSignature});
  }
  auto s = sighting(77);
  s.signature = CASA_SIGNATURE_VALID;
  CHECK(tracker.see(s, 1).empty());
  CHECK(tracker.see(sighting(78), 1).empty());
  CHECK(tracker.set_signature(hash_of(78), CASA_SIGNATURE_VALID).empty());
  CHECK(tracker.set_signature(hash_of(79), CASA_SIGNATURE_INVALID).empty());  // nobody's
  auto told = tracker.set_signature(hash_of(78), CASA_SIGNATURE_INVALID);
  REQUIRE(kinds(told) == Kinds{AlertKind::kInvalidSignature});
  CHECK(to_string(told[0]->workload) == "team-a/agent");
  CHECK(tracker.ledger().find(hash_of(78))->signature == CASA_SIGNATURE_INVALID);
  CHECK(tracker.set_signature(hash_of(78), CASA_SIGNATURE_INVALID).empty());  // told once
}

TEST_CASE("alg none, two Authorization headers, ambiguous HTTP") {
  Tracker tracker;
  auto s = sighting(1);
  s.alg_none = s.duplicate = true;
  CHECK(kinds(tracker.see(s, 1)) == Kinds{AlertKind::kAlgNone, AlertKind::kDuplicateAuthorization});
  event::AppNews news{s.flow, s.instance, CASA_APP_HTTP1, CASA_VIA_WIRE, CASA_UNREAD_TRUNCATED};
  CHECK(tracker.see(news, 1, true, true).empty());
  news.unread = CASA_UNREAD_AMBIGUOUS;
  auto told = tracker.see(news, 1, false, true);
  REQUIRE(kinds(told) == Kinds{AlertKind::kAmbiguousHttp});
  CHECK_FALSE(told[0]->sha256);
  auto none = sighting(0);
  none.shape = CASA_TOKEN_NONE;
  none.flow.destination = world("203.0.113.7");
  CHECK(tracker.see(none, 1).empty());  // there is no token that could be lost
}

TEST_CASE("an object that two sources have: told once for each object, and found by its namespace") {
  Tracker tracker;
  CHECK(kinds(tracker.conflict("team-a", "CASAPolicy team-a/x stands in both", kNoon)) ==
        Kinds{AlertKind::kObjectConflict});
  CHECK(kinds(tracker.conflict("team-a", "CASAPolicy team-a/y stands in both", kNoon)) ==
        Kinds{AlertKind::kObjectConflict});
  CHECK(tracker.conflict("team-a", "CASAPolicy team-a/x stands in both", kNoon + 1s).empty());
  REQUIRE(alerts(tracker).size() == 2);
  CHECK(alerts(tracker)[1]->count == 2);
  CHECK(tracker.alerts().query({.ns = "team-a"}, 10, 0).rows.size() == 2);
  CHECK(tracker.alerts().query({.ns = "team-b"}, 10, 0).rows.empty());
  CHECK(std::string(token::to_string(AlertKind::kObjectConflict)) == "object_conflict");
}

TEST_CASE("a recurring finding stays one alert") {
  Tracker tracker;
  auto at = [](token::Time time, const char* address = "203.0.113.7") {
    auto s = sighting(1, time);
    s.flow.destination = world(address);
    return s;
  };
  CHECK(tracker.see(at(kNoon), 1).size() == 1);
  for (int i = 1; i < 60; ++i)
    CHECK(tracker.see(at(kNoon + std::chrono::seconds(i)), static_cast<std::uint64_t>(i)).empty());
  CHECK(tracker.see(at(kNoon + 60s), 99).size() == 1);  // worth a word again
  REQUIRE(alerts(tracker).size() == 1);
  const Alert& alert = *alerts(tracker)[0];
  CHECK(alert.count == 61);
  CHECK(alert.time == kNoon);
  CHECK(alert.last_seen == kNoon + 60s);
  CHECK(alert.flow_ids.size() == AlertBook::kMaxFlows);
  CHECK(alert.flow_ids.front() == 1);
  CHECK(alert.flow_ids.back() == 99);
  // Another destination, another token, another workload: other alerts.
  CHECK(tracker.see(at(kNoon, "203.0.113.8"), 1).size() == 1);
  auto other = at(kNoon);
  other.sha256 = hash_of(2);
  CHECK(tracker.see(other, 1).size() == 1);
  CHECK(tracker.alerts().counts()[0] == 63);
  auto blocked = at(kNoon + 61s);
  blocked.flow.verdict = CASA_DENIED;
  blocked.flow.reason = CASA_REASON_TOKEN_UNEXPECTED_DESTINATION;
  CHECK(tracker.see(blocked, 1).size() == 1);  // that it is stopped now is news
  CHECK(alerts(tracker).back()->blocked);
}

TEST_CASE("a full book forgets the alert that did not recur for longest, and says so") {
  AlertBook book(3);
  auto raise = [&](std::uint64_t token) {
    auto s = sighting(token);
    s.flow.destination = world("203.0.113.7");
    book.judge(s, token::step_of(s, 0), nullptr);  // no row: the token is no part of the key
    event::AppNews news{s.flow, {}, CASA_APP_HTTP1, CASA_VIA_WIRE, CASA_UNREAD_AMBIGUOUS};
    news.flow.destination.port = static_cast<std::uint16_t>(token);
    book.judge(news, 0);
  };
  for (std::uint64_t i = 1; i <= 10; ++i) raise(i);
  CHECK(book.size() == 3);
  CHECK(book.total_added() == 11);
  CHECK(book.forgotten() == 8);
  auto rows = book.query({}, 100, 0).rows;
  REQUIRE(rows.size() == 3);
  CHECK(rows.back()->kind == AlertKind::kUnexpectedDestination);  // it recurred each time
  CHECK(rows.back()->count == 10);
}

TEST_CASE("pages and filters of alerts") {
  Tracker tracker;
  for (std::uint64_t i = 1; i <= 4; ++i) {
    auto s = sighting(i, kNoon + std::chrono::minutes(i));
    s.flow.destination = world("203.0.113.7");
    s.alg_none = i == 2;
    tracker.see(s, i);
  }
  auto& book = tracker.alerts();
  CHECK(book.query({}, 100, 0).rows.size() == 5);
  CHECK(book.query({.kind = AlertKind::kAlgNone}, 100, 0).rows.size() == 1);
  CHECK(book.query({.since = kNoon + 3min}, 100, 0).rows.size() == 2);
  CHECK(book.query({.until = kNoon + 2min}, 100, 0).rows.size() == 1);
  CHECK(book.query({.ns = "team-a"}, 100, 0).rows.size() == 5);
  CHECK(book.query({.ns = "nobody"}, 100, 0).rows.empty());
  CHECK(book.query({.workload = "team-a/agent"}, 100, 0).rows.size() == 5);
  auto page = book.query({}, 2, 0);
  CHECK(page.rows[0]->id == 5);
  REQUIRE(page.next_before_id);
  CHECK(book.query({}, 2, *page.next_before_id).rows[0]->id == 3);
}

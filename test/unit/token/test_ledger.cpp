// The ledger: rows, visits, the path with its gap, forgetting, pages.
#include <catch2/catch_test_macros.hpp>

#include "sightings.h"

using namespace casa;
using namespace casa::test;
using token::Ledger;
using token::step_of;

namespace {

const token::TokenRow& add(Ledger& ledger, const Sighting& s, std::uint64_t flow_id = 0) {
  return ledger.add(s, step_of(s, flow_id));
}

}  // namespace

TEST_CASE("one row a token, with who presented it and where it went") {
  Ledger ledger;
  add(ledger, sighting(1));
  auto other = sighting(1, kNoon + 10s);
  other.flow.source = workload("team-a", "second");
  other.flow.destination = world("203.0.113.7");
  other.event = EventClass::kExchange;
  other.alg_none = true;
  other.signature = CASA_SIGNATURE_INVALID;
  auto& row = add(ledger, other, 9);
  CHECK(ledger.size() == 1);
  CHECK(row.first_seen == kNoon);
  CHECK(row.last_seen == kNoon + 10s);
  CHECK(row.shape == CASA_TOKEN_JWT);
  CHECK(row.alg_none);
  CHECK(row.signature == CASA_SIGNATURE_INVALID);
  REQUIRE(row.presenters.size() == 2);
  CHECK(to_string(row.presenters[0].place) == "team-a/agent");
  CHECK(to_string(row.presenters[1].place) == "team-a/second");
  REQUIRE(row.destinations.size() == 2);
  CHECK(to_string(row.destinations[0].place) == "tools/mcp:8080");
  CHECK(to_string(row.destinations[1].place) == "203.0.113.7:443");
  CHECK(row.counts[static_cast<std::size_t>(EventClass::kUse)] == 1);
  CHECK(row.counts[static_cast<std::size_t>(EventClass::kExchange)] == 1);
  REQUIRE(row.path().size() == 2);
  CHECK(*row.path()[0].request == "POST /mcp");
  CHECK(row.path()[1].flow_id == 9);
  auto again = add(ledger, sighting(1, kNoon + 5s));  // an older one arrives late
  CHECK(again.last_seen == kNoon + 10s);
  CHECK(again.presenters[0].count == 2);
}

TEST_CASE("duplicates and refused requests are shown and are no use") {
  Ledger ledger;
  auto s = sighting(1);
  s.duplicate = true;
  add(ledger, s);
  s.duplicate = false;
  s.flow.verdict = CASA_DENIED;
  auto& row = add(ledger, s);
  CHECK(row.duplicates == 1);
  CHECK(row.refused == 1);
  CHECK(row.counts[static_cast<std::size_t>(EventClass::kUse)] == 0);
  CHECK(row.sightings == 2);
  CHECK(row.path()[0].duplicate);
}

TEST_CASE("a path keeps its beginning and its end") {
  Ledger ledger;
  for (std::uint64_t i = 1; i <= 1000; ++i) {
    auto& row = add(ledger, sighting(1, kNoon + std::chrono::seconds(i)), i);
    auto path = row.path();
    std::size_t first = std::min<std::size_t>(i, Ledger::kFirstSteps);
    std::size_t last = std::min<std::size_t>(i - first, Ledger::kLastSteps);
    REQUIRE(path.size() == first + last);
    REQUIRE(row.steps_forgotten() == i - path.size());
    for (std::size_t k = 0; k < first; ++k) REQUIRE(path[k].flow_id == k + 1);
    for (std::size_t k = 0; k < last; ++k) REQUIRE(path[first + k].flow_id == i - last + k + 1);
  }
}

TEST_CASE("a full ledger forgets the token that was not seen for longest, and says so") {
  Ledger ledger({.tokens = 3, .steps = 1000});
  for (std::uint64_t i = 1; i <= 3; ++i) add(ledger, sighting(i));
  add(ledger, sighting(1));
  add(ledger, sighting(4));
  CHECK(ledger.size() == 3);
  CHECK(ledger.forgotten() == 1);
  CHECK(ledger.find(hash_of(1)) != nullptr);
  CHECK(ledger.find(hash_of(2)) == nullptr);
  CHECK(ledger.set_signature(hash_of(2), CASA_SIGNATURE_VALID) == nullptr);
  CHECK(ledger.set_signature(hash_of(3), CASA_SIGNATURE_VALID)->signature == CASA_SIGNATURE_VALID);
  CHECK(add(ledger, sighting(2)).id == 5);  // it is new again
}

TEST_CASE("the steps of all tokens together are bounded") {
  Ledger ledger({.tokens = 100'000, .steps = 1000});
  for (std::uint64_t i = 0; i < 5000; ++i) {
    add(ledger, sighting(i));
    add(ledger, sighting(i));
  }
  CHECK(ledger.size() == 500);
  CHECK(ledger.total_added() == 5000);
  CHECK(ledger.find(hash_of(4999)) != nullptr);
  CHECK(ledger.find(hash_of(4499)) == nullptr);
  // One busy token cannot push the others out.
  Ledger other({.tokens = 10, .steps = 300});
  for (std::uint64_t i = 0; i < 5; ++i) add(other, sighting(i));
  for (int i = 0; i < 5000; ++i) add(other, sighting(7));
  CHECK(other.size() == 6);
}

TEST_CASE("places of one token are bounded, and those without room are counted") {
  Ledger ledger;
  for (int i = 0; i < 100; ++i) {
    auto s = sighting(1);
    s.flow.destination = world(("203.0.113." + std::to_string(i)).c_str());
    add(ledger, s);
  }
  auto* row = ledger.find(hash_of(1));
  CHECK(row->destinations.size() == Ledger::kMaxPlaces);
  CHECK(row->more_destinations == 100 - Ledger::kMaxPlaces);
  CHECK(row->presenters.size() == 1);
  CHECK(row->more_presenters == 0);
}

TEST_CASE("pages and filters of tokens") {
  Ledger ledger;
  for (std::uint64_t i = 1; i <= 5; ++i) {
    auto s = sighting(i, kNoon + std::chrono::minutes(i));
    if (i == 3) s.flow.destination = workload("other", "place");
    add(ledger, s);
  }
  auto ids = [&](const token::TokenFilter& filter, std::size_t limit = 100, std::uint64_t before = 0) {
    std::vector<std::uint64_t> out;
    for (auto* row : ledger.query(filter, limit, before).rows) out.push_back(row->id);
    return out;
  };
  using Ids = std::vector<std::uint64_t>;
  CHECK(ids({}) == Ids{5, 4, 3, 2, 1});
  CHECK(ids({}, 2) == Ids{5, 4});
  CHECK(*ledger.query({}, 2, 0).next_before_id == 4);
  CHECK(ids({}, 2, 4) == Ids{3, 2});
  CHECK(ids({}, 2, 2) == Ids{1});
  CHECK_FALSE(ledger.query({}, 1, 2).next_before_id);
  CHECK(ids({}, 0).empty());
  CHECK(ids({.ns = "other"}) == Ids{3});
  CHECK(ids({.workload = "other/place"}) == Ids{3});
  CHECK(ids({.workload = "place"}) == Ids{3});
  CHECK(ids({.workload = "agent"}).size() == 5);
  CHECK(ids({.since = kNoon + 4min}) == Ids{5, 4});
  CHECK(ids({.until = kNoon + 2min}) == Ids{1});
}

// Counts by scope, distinct tokens, the last minute, coverage, and their bounds.
#include <catch2/catch_test_macros.hpp>
#include <cmath>

#include "sightings.h"
#include "token/mix.h"

using namespace casa;
using namespace casa::test;
using token::Activity;
using token::Distinct;
using token::LastMinute;

TEST_CASE("distinct things are exact up to a bound, and near beyond it") {
  Distinct distinct;
  for (std::uint64_t i = 0; i < Distinct::kExact; ++i)
    for (int again = 0; again < 2; ++again) distinct.add(token::mix(1, i));
  CHECK(distinct.count() == Distinct::kExact);
  CHECK_FALSE(distinct.estimated());
  std::uint64_t i = Distinct::kExact;
  for (std::uint64_t goal : {1025u, 2000u, 10'000u, 100'000u, 1'000'000u}) {
    for (; i < goal; ++i) distinct.add(token::mix(1, i));
    CHECK(distinct.estimated());
    double error = std::abs(static_cast<double>(distinct.count()) / static_cast<double>(goal) - 1);
    CAPTURE(goal, distinct.count());
    CHECK(error < 0.06);
  }
}

TEST_CASE("the last minute") {
  LastMinute minute;
  CHECK(minute.count(kNoon) == 0);
  for (int i = 0; i < 120; ++i) minute.add(kNoon + std::chrono::seconds(i));
  CHECK(minute.count(kNoon + 119s) == 60);
  CHECK(minute.count(kNoon + 149s) == 30);
  CHECK(minute.count(kNoon + 1h) == 0);
  minute.add(kNoon + 100s);  // late, and still of this minute
  CHECK(minute.count(kNoon + 119s) == 61);
  minute.add(kNoon);  // too late
  CHECK(minute.count(kNoon + 119s) == 61);
  minute.add(kNoon + 24h);
  CHECK(minute.count(kNoon + 24h) == 1);
}

TEST_CASE("events are counted by class for the node, the namespace, the workload and the instance") {
  Activity activity;
  activity.count(sighting(1));
  auto s = sighting(2);
  s.event = EventClass::kExchange;
  s.instance.cgroup_id = 4712;
  activity.count(s);
  s.shape = CASA_TOKEN_NONE;
  s.event = EventClass::kIssuance;
  activity.count(s);
  s = sighting(1);
  s.duplicate = true;
  activity.count(s);
  s.duplicate = false;
  s.flow.verdict = CASA_DENIED;
  activity.count(s);
  auto ingress = sighting(9);
  ingress.flow.direction = CASA_INGRESS;
  ingress.instance = {};
  activity.count(ingress);

  auto count = [](const token::Counts& counts, EventClass event) {
    return counts.events[static_cast<std::size_t>(event)];
  };
  CHECK(count(activity.node(), EventClass::kUse) == 2);
  CHECK(activity.node().tokens.count() == 3);
  CHECK(activity.node().refused == 1);
  auto& agent = activity.find_workload("team-a", "agent")->counts;
  CHECK(count(agent, EventClass::kUse) == 1);
  CHECK(count(agent, EventClass::kExchange) == 1);
  CHECK(count(agent, EventClass::kIssuance) == 1);
  CHECK(agent.tokens.count() == 2);
  CHECK(agent.refused == 1);
  CHECK(agent.minute.count(kNoon) == 3);
  CHECK(count(activity.find_workload("tools", "mcp")->counts, EventClass::kUse) == 1);
  CHECK(activity.namespaces().size() == 2);
  CHECK(count(activity.namespaces().at("team-a"), EventClass::kExchange) == 1);
  CHECK(activity.instances().size() == 2);
  CHECK(count(activity.find_instance(4712)->counts, EventClass::kIssuance) == 1);
  CHECK(activity.find_instance(1) == nullptr);
  CHECK(activity.find_workload("team-a", "nobody") == nullptr);
}

TEST_CASE("workloads and instances are bounded, and what had no room is counted") {
  Activity activity({.workloads = 2, .instances = 3});
  for (std::uint64_t i = 1; i <= 5; ++i) {
    auto s = sighting(i);
    s.instance.cgroup_id = i;
    activity.count(s);
  }
  CHECK(activity.instances().size() == 3);
  CHECK(activity.instances_forgotten() == 2);
  CHECK(activity.find_instance(2) == nullptr);
  CHECK(activity.find_instance(5) != nullptr);
  for (const char* name : {"a", "b", "c"}) {
    auto s = sighting(1);
    s.flow.source = workload("team-a", name);
    activity.count(s);
  }
  CHECK(activity.workloads().size() == 2);
  CHECK(activity.without_room() == 2);
  CHECK(activity.node().events[static_cast<std::size_t>(EventClass::kUse)] == 8);
}

TEST_CASE("coverage says what could be read and what could not") {
  Activity activity;
  auto s = sighting(1);
  event::AppNews news{s.flow, s.instance, CASA_APP_HTTP1, CASA_VIA_WIRE, CASA_UNREAD_NOTHING};
  auto kinds = [&] { return activity.find_workload("team-a", "agent")->coverage.kinds(); };
  using Words = std::vector<std::string>;
  activity.cover(news, true, false);
  CHECK(kinds() == Words{"wire"});
  news.unread = CASA_UNREAD_TRUNCATED;
  activity.cover(news, false, true);
  CHECK(kinds() == Words{"wire", "opaque"});
  news.app = CASA_APP_TLS;
  news.unread = CASA_UNREAD_OPAQUE;
  activity.cover(news, true, true);
  news.app = CASA_APP_HTTP2;
  activity.cover(news, true, false);
  CHECK(kinds() == Words{"wire", "wire-h2", "opaque"});
  news.app = CASA_APP_OTHER;
  news.via = CASA_VIA_TLS;
  activity.cover(news, true, true);
  CHECK(kinds() == Words{"wire", "wire-h2", "opaque"});  // an observer looked, and could not read
  s.via = CASA_VIA_TLS;
  s.app = CASA_APP_HTTP2;
  activity.count(s);
  CHECK(kinds() == Words{"wire", "wire-h2", "tls-uprobe", "opaque"});
  auto& coverage = activity.find_instance(4711)->coverage;
  CHECK(coverage.connections[CASA_APP_HTTP1] == 1);
  CHECK(coverage.connections[CASA_APP_TLS] == 1);
  CHECK(coverage.connections[CASA_APP_HTTP2] == 1);
  CHECK(coverage.unread[CASA_UNREAD_TRUNCATED] == 1);
  CHECK(coverage.unread[CASA_UNREAD_OPAQUE] == 2);
}

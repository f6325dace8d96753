// The flow history: rows that are news again, denials that add up, forgetting, cursors, filters, and its cost.
#include <fmt/format.h>
#include <unistd.h>

#include <catch2/catch_test_macros.hpp>
#include <fstream>

#include "store/flow_history.h"

namespace casa::store {
namespace {

using event::Flow;
using event::News;
using event::PeerName;
using Time = std::chrono::system_clock::time_point;
using namespace std::chrono_literals;

const Time kNoon = Time(std::chrono::hours(24 * 365 * 50));

std::shared_ptr<const PeerName> workload(const std::string& ns, const std::string& name) {
  return std::make_shared<const PeerName>(PeerName{PeerName::Kind::kWorkload, ns, name, "Deployment", "", ""});
}

std::shared_ptr<const PeerName> world() {
  PeerName who;
  who.kind = PeerName::Kind::kWorld;
  return std::make_shared<const PeerName>(who);
}

Flow flow_of(News news, std::uint64_t socket, Time time = kNoon, casa_verdict verdict = CASA_ALLOWED) {
  Flow flow;
  flow.news = news;
  flow.socket = socket;
  flow.time = flow.last_seen = time;
  flow.verdict = verdict;
  flow.reason = CASA_REASON_ENDPOINT_ALLOWED;
  flow.protocol = 6;
  flow.source.who = workload("team-a", "agent");
  flow.source.address = *parse_ip("10.0.0.1");
  flow.source.port = 40000;
  flow.source.pid = 77;
  flow.destination.who = workload("tools", "mcp");
  flow.destination.address = *parse_ip("10.0.0.2");
  flow.destination.port = 8080;
  return flow;
}

Flow denied(Time time, std::uint16_t port = 8080) {
  Flow flow = flow_of(News::kDenied, 0, time, CASA_DENIED);
  flow.reason = CASA_REASON_PORT_NOT_ALLOWED;
  flow.destination.port = port;
  return flow;
}

std::vector<std::uint64_t> ids(const FlowHistory::Page& page) {
  std::vector<std::uint64_t> out;
  for (const auto& row : page.rows) out.push_back(row.id);
  return out;
}
using Ids = std::vector<std::uint64_t>;

#if defined(__SANITIZE_ADDRESS__)
constexpr bool kSanitized = true;
#elif defined(__has_feature)
constexpr bool kSanitized = __has_feature(address_sanitizer);
#else
constexpr bool kSanitized = false;
#endif

std::size_t resident_kib() {
  std::ifstream statm("/proc/self/statm");
  std::size_t total = 0, resident = 0;
  statm >> total >> resident;
  return resident * static_cast<std::size_t>(sysconf(_SC_PAGESIZE)) / 1024;
}

}  // namespace

TEST_CASE("a flow's news change its row") {
  FlowHistory history(10);
  CHECK(history.add(flow_of(News::kStart, 1)).open);
  Flow update = flow_of(News::kUpdate, 1, kNoon);
  update.last_seen = kNoon + 10s;
  update.bytes_sent = 100;
  update.bytes_received = 1000;
  CHECK(history.add(update).id == 1);
  // A sweep's older numbers arrive after newer ones: nothing goes back.
  update.bytes_sent = 50;
  update.last_seen = kNoon + 9s;
  const FlowRow& row = history.add(update);
  CHECK(row.flow.bytes_sent == 100);
  CHECK(row.flow.last_seen == kNoon + 10s);
  Flow end = flow_of(News::kEnd, 1, kNoon);
  end.last_seen = kNoon + 20s;
  end.bytes_sent = 200;
  const FlowRow& closed = history.add(end);
  CHECK(closed.id == 1);
  CHECK_FALSE(closed.open);
  CHECK(closed.flow.bytes_sent == 200);
  CHECK(closed.flow.bytes_received == 1000);
  CHECK(closed.flow.time == kNoon);
  CHECK(closed.flow.last_seen == kNoon + 20s);
  CHECK(closed.flow.source.pid == 77);
  CHECK(history.size() == 1);
  // The same socket to the same end again is another flow.
  CHECK(history.add(flow_of(News::kStart, 1, kNoon + 30s)).id == 2);
}

TEST_CASE("what names a flow") {
  FlowHistory history(20);
  Flow base = flow_of(News::kStart, 1);
  history.add(base);
  auto other_row = [&](const Flow& flow) {
    auto before = history.total_added();
    history.add(flow);
    return history.total_added() == before + 1;
  };
  Flow flow = base;
  flow.source.port = 1;  // the near end is no part of the name
  CHECK_FALSE(other_row(flow));
  flow = base, flow.socket = 2;
  CHECK(other_row(flow));
  flow = base, flow.destination.port = 81;  // one UDP socket, another peer
  CHECK(other_row(flow));
  flow = base, flow.destination.address = *parse_ip("fd00::2");
  CHECK(other_row(flow));
  flow = base, flow.protocol = 17;
  CHECK(other_row(flow));
  flow = base, flow.netns = 5;
  CHECK(other_row(flow));
  flow = base, flow.direction = CASA_INGRESS;
  CHECK(other_row(flow));
  flow.destination.port = 9;  // of an ingress flow the destination is the near end
  CHECK_FALSE(other_row(flow));
}

TEST_CASE("a start again: the same verdict goes on, another one is another row") {
  FlowHistory history(10);
  history.add(flow_of(News::kStart, 1));
  Flow again = flow_of(News::kStart, 1, kNoon + 5s);
  again.reason = CASA_REASON_MAS_DEFAULT;
  again.policy = std::make_shared<const std::string>("team-a/other");
  again.source.pid = 0;
  const FlowRow& same = history.add(again);
  CHECK(same.id == 1);
  CHECK(same.open);
  CHECK(same.flow.time == kNoon);
  CHECK(same.flow.last_seen == kNoon + 5s);
  CHECK(same.flow.reason == CASA_REASON_MAS_DEFAULT);
  CHECK(*same.flow.policy == "team-a/other");
  CHECK(same.flow.source.pid == 77);
  const FlowRow& audited = history.add(flow_of(News::kStart, 1, kNoon + 6s, CASA_AUDIT));
  CHECK(audited.id == 2);
  CHECK(audited.open);
  auto page = history.query({}, 10, 0);
  CHECK(ids(page) == Ids{2, 1});
  CHECK_FALSE(page.rows[1].open);
  CHECK(page.rows[1].flow.verdict == CASA_ALLOWED);
  CHECK(page.rows[1].flow.last_seen == kNoon + 6s);
  CHECK(history.add(flow_of(News::kEnd, 1, kNoon + 7s, CASA_AUDIT)).id == 2);
}

TEST_CASE("news of a flow whose start was not heard make a row") {
  FlowHistory history(10);
  CHECK(history.add(flow_of(News::kUpdate, 1)).open);
  CHECK_FALSE(history.add(flow_of(News::kEnd, 2)).open);
  CHECK(history.add(flow_of(News::kEnd, 1)).id == 1);
  CHECK(history.size() == 2);
}

TEST_CASE("denials of one key add up within a minute of the row") {
  FlowHistory history(10);
  Flow first = denied(kNoon);
  first.count = 3;
  CHECK(history.add(first).id == 1);
  Flow second = denied(kNoon + 59s);
  second.count = 4;
  second.source.pid = 99;
  const FlowRow& row = history.add(second);
  CHECK(row.id == 1);
  CHECK_FALSE(row.open);
  CHECK(row.flow.count == 7);
  CHECK(row.flow.time == kNoon);
  CHECK(row.flow.last_seen == kNoon + 59s);
  CHECK(row.flow.source.pid == 77);
  CHECK(history.add(denied(kNoon + 60s)).id == 2);
  CHECK(history.add(denied(kNoon + 61s)).flow.count == 2);
  CHECK(history.add(denied(kNoon + 61s, 81)).id == 3);
  Flow other = denied(kNoon + 61s);
  other.reason = CASA_REASON_NO_POLICY;
  CHECK(history.add(other).id == 4);
  other.destination.who = world();
  CHECK(history.add(other).id == 5);
  other.direction = CASA_INGRESS;
  CHECK(history.add(other).id == 6);
  other.protocol = 17;
  CHECK(history.add(other).id == 7);
  // Names are compared, not the objects that hold them: a new generation makes new ones.
  Flow renamed = denied(kNoon + 62s);
  renamed.source.who = workload("team-a", "agent");
  CHECK(history.add(renamed).id == 2);
}

TEST_CASE("denials about different names are different rows, a name's own add up") {
  FlowHistory history(10);
  auto about = [](const char* name, std::chrono::seconds after) {
    Flow flow = denied(kNoon + after, 53);
    if (name != nullptr) flow.asked_name = std::make_shared<const std::string>(name);
    return flow;
  };
  CHECK(history.add(about("evil.example", 0s)).id == 1);
  CHECK(history.add(about("other.example", 1s)).id == 2);
  CHECK(history.add(about(nullptr, 2s)).id == 3);
  CHECK(history.add(about("evil.example", 3s)).id == 1);
  CHECK(history.add(about("evil.example", 4s)).flow.count == 3);
  CHECK(history.add(about(nullptr, 5s)).flow.count == 2);
  CHECK(*history.add(about("other.example", 6s)).flow.asked_name == "other.example");
  CHECK(history.size() == 3);
}

TEST_CASE("the oldest rows are forgotten, also open ones and denials being added up") {
  FlowHistory history(3);
  history.add(flow_of(News::kStart, 1));
  history.add(denied(kNoon));
  history.add(flow_of(News::kStart, 2));
  history.add(flow_of(News::kStart, 3));  // in place of row 1
  CHECK(history.size() == 3);
  CHECK(history.total_added() == 4);
  CHECK(history.forgotten() == 1);
  CHECK(ids(history.query({}, 10, 0)) == Ids{4, 3, 2});
  // Flow 1 lives on and is news again: a new row, in place of the denial's.
  const FlowRow& back = history.add(flow_of(News::kUpdate, 1, kNoon + 1s));
  CHECK(back.id == 5);
  CHECK(back.open);
  CHECK(history.add(denied(kNoon + 2s)).id == 6);  // in place of flow 2's
  CHECK(history.add(flow_of(News::kEnd, 3)).id == 4);
  CHECK(history.add(flow_of(News::kEnd, 1)).id == 5);
  CHECK(history.add(flow_of(News::kEnd, 2)).id == 7);
  CHECK(ids(history.query({}, 10, 0)) == Ids{7, 6, 5});
}

TEST_CASE("a changed verdict in a ring of one") {
  FlowHistory history(1);
  history.add(flow_of(News::kStart, 1));
  CHECK(history.add(flow_of(News::kStart, 1, kNoon, CASA_AUDIT)).id == 2);
  CHECK(history.add(flow_of(News::kEnd, 1, kNoon, CASA_AUDIT)).id == 2);
  CHECK(history.size() == 1);
}

TEST_CASE("pages, and cursors that stay right while rows are added and forgotten") {
  FlowHistory history(100);
  for (std::uint64_t i = 1; i <= 10; ++i) history.add(flow_of(News::kStart, i));
  auto page = history.query({}, 4, 0);
  CHECK(ids(page) == Ids{10, 9, 8, 7});
  REQUIRE(page.next_before_id);
  for (std::uint64_t i = 11; i <= 60; ++i) history.add(flow_of(News::kStart, i));
  history.add(flow_of(News::kUpdate, 3));
  page = history.query({}, 4, *page.next_before_id);
  CHECK(ids(page) == Ids{6, 5, 4, 3});
  page = history.query({}, 4, *page.next_before_id);
  CHECK(ids(page) == Ids{2, 1});
  CHECK_FALSE(page.next_before_id);
  // Exactly a page: no further one.
  CHECK_FALSE(history.query({}, 60, 0).next_before_id);
  CHECK(history.query({}, 60, 0).rows.size() == 60);
  // The cursor's rows are forgotten meanwhile.
  for (std::uint64_t i = 61; i <= 150; ++i) history.add(flow_of(News::kStart, i));
  CHECK(ids(history.query({}, 2, 52)) == Ids{51});
  CHECK(history.query({}, 4, 30).rows.empty());
  CHECK_FALSE(history.query({}, 4, 30).next_before_id);
  CHECK(history.query({}, 4, 1).rows.empty());
  CHECK(ids(history.query({}, 1, 1'000'000)) == Ids{150});
  CHECK(history.query({}, 0, 0).rows.empty());
  CHECK(FlowHistory(5).query({}, 5, 0).rows.empty());
}

TEST_CASE("filters, alone and together") {
  FlowHistory history(100);
  history.add(flow_of(News::kStart, 1, kNoon));  // 1: team-a/agent to tools/mcp
  Flow out = flow_of(News::kStart, 2, kNoon + 10s, CASA_AUDIT);
  out.destination.who = world();
  out.reason = CASA_REASON_EXTERNAL_NOT_ALLOWED;
  history.add(out);                  // 2: team-a/agent to the world
  history.add(denied(kNoon + 20s));  // 3
  Flow in = denied(kNoon + 30s);
  in.direction = CASA_INGRESS;
  in.reason = CASA_REASON_SOURCE_NOT_ALLOWED;
  in.source.who = workload("team-b", "agent");
  history.add(in);  // 4: team-b/agent to tools/mcp
  Flow service = flow_of(News::kStart, 5, kNoon + 40s);
  service.source.who = workload("team-c", "x");
  auto named = std::make_shared<PeerName>();
  named->kind = PeerName::Kind::kService;
  named->ns = "tools";
  named->name = "agent";
  service.destination.who = named;
  history.add(service);  // 5: team-c/x to the Service tools/agent, which is no workload
  auto found = [&](const FlowFilter& filter) { return ids(history.query(filter, 100, 0)); };
  FlowFilter f;
  CHECK(found(f) == Ids{5, 4, 3, 2, 1});
  f.ns = "tools";
  CHECK(found(f) == Ids{5, 4, 3, 1});
  f.verdict = CASA_DENIED;
  CHECK(found(f) == Ids{4, 3});
  f.direction = CASA_INGRESS;
  CHECK(found(f) == Ids{4});
  f.reason = CASA_REASON_PORT_NOT_ALLOWED;
  CHECK(found(f).empty());
  f = {};
  f.workload = "agent";
  CHECK(found(f) == Ids{4, 3, 2, 1});
  f.workload = "team-a/agent";
  CHECK(found(f) == Ids{3, 2, 1});
  f.since = kNoon + 10s;
  CHECK(found(f) == Ids{3, 2});
  f.until = kNoon + 20s;
  CHECK(found(f) == Ids{2});
  f.workload = "tools/agent";
  CHECK(found(f).empty());
  f = {};
  f.reason = CASA_REASON_EXTERNAL_NOT_ALLOWED;
  CHECK(found(f) == Ids{2});
  // A filtered page says rightly whether there is more.
  f = {};
  f.verdict = CASA_ALLOWED;
  auto page = history.query(f, 1, 0);
  CHECK(ids(page) == Ids{5});
  page = history.query(f, 1, *page.next_before_id);
  CHECK(ids(page) == Ids{1});
  CHECK_FALSE(page.next_before_id);
}

TEST_CASE("100,000 open rows: memory, and the time of a whole scan") {
  auto before = resident_kib();
  FlowHistory history;
  std::vector<std::shared_ptr<const PeerName>> who;
  for (int i = 0; i < 500; ++i)
    who.push_back(workload(fmt::format("team-{}", i % 20), fmt::format("workload-of-some-length-{}", i)));
  auto policy = std::make_shared<const std::string>("team-a/a-policy-with-a-name");
  auto began = std::chrono::steady_clock::now();
  for (std::uint64_t i = 0; i < 150'000; ++i) {
    Flow flow = flow_of(News::kStart, 1000 + i);
    flow.source.who = who[i % 500];
    flow.destination.who = who[(i * 7 + 3) % 500];
    flow.policy = policy;
    history.add(flow);
  }
  auto added = std::chrono::steady_clock::now() - began;
  auto used = resident_kib() - before;
  CHECK(history.size() == 100'000);
  CHECK(history.forgotten() == 50'000);
  if (!kSanitized) CHECK(used < 60 * 1024);
  FlowFilter none;
  none.workload = "team-a/nobody";
  none.ns = "team-1";
  none.since = kNoon;
  began = std::chrono::steady_clock::now();
  CHECK(history.query(none, 100, 0).rows.empty());
  auto scan = std::chrono::steady_clock::now() - began;
  using ms = std::chrono::duration<double, std::milli>;
  CHECK(scan < 50ms);
  fmt::print("100,000 open rows: {} KiB; 150,000 adds in {:.1f} ms; a whole scan in {:.2f} ms\n", used,
             ms(added).count(), ms(scan).count());
}

TEST_CASE("a flow's row carries its tokens and what it speaks") {
  FlowHistory history(3);
  history.add(flow_of(News::kStart, 1));
  event::Sighting sighting;
  sighting.flow = flow_of(News::kUpdate, 1, kNoon + 5s);
  sighting.shape = CASA_TOKEN_JWT;
  sighting.sha256.fill(0xab);
  sighting.event = event::EventClass::kExchange;
  CHECK(history.carry(sighting) == 1);
  const FlowRow* row = history.find(1);
  REQUIRE(row != nullptr);
  CHECK(row->tokens == 1);
  CHECK(row->token == sighting.sha256);
  CHECK(row->token_event == event::EventClass::kExchange);
  CHECK(row->flow.last_seen == kNoon + 5s);
  sighting.shape = CASA_TOKEN_UNHASHED;
  sighting.event = event::EventClass::kUse;
  CHECK(history.carry(sighting) == 1);
  sighting.shape = CASA_TOKEN_NONE;
  CHECK(history.carry(sighting) == 1);
  CHECK(history.find(1)->tokens == 2);
  CHECK(history.find(1)->token_event == event::EventClass::kExchange);  // of the last one with a hash
  sighting.flow.socket = 2;
  CHECK(history.carry(sighting) == 0);
  sighting.flow.socket = 0;  // an observer of TLS has no socket
  CHECK(history.carry(sighting) == 0);

  event::AppNews news{flow_of(News::kUpdate, 1), {}, CASA_APP_HTTP1, CASA_VIA_WIRE, CASA_UNREAD_NOTHING};
  auto spoken = history.speak(news);
  CHECK(spoken.row_id == 1);
  CHECK(spoken.app);
  CHECK_FALSE(spoken.unread);
  news.unread = CASA_UNREAD_AMBIGUOUS;
  spoken = history.speak(news);
  CHECK_FALSE(spoken.app);
  CHECK(spoken.unread);
  spoken = history.speak(news);
  CHECK_FALSE((spoken.app || spoken.unread));
  // Another verdict makes another row of the same connection: it speaks what it spoke.
  history.add(flow_of(News::kUpdate, 1, kNoon, CASA_AUDIT));
  CHECK(history.find(2)->app == CASA_APP_HTTP1);
  CHECK(history.find(2)->unread == CASA_UNREAD_AMBIGUOUS);
  CHECK(history.find(2)->tokens == 0);
  CHECK(history.made_by_verdict()[CASA_ALLOWED] == 1);
  CHECK(history.made_by_verdict()[CASA_AUDIT] == 1);
  history.add(flow_of(News::kStart, 3));
  history.add(flow_of(News::kStart, 4));
  CHECK(history.find(1) == nullptr);
  CHECK(history.find(0) == nullptr);
  CHECK(history.find(5) == nullptr);
  news.flow.socket = 99;
  spoken = history.speak(news);  // nothing is known of it, so it counts
  CHECK((spoken.row_id == 0 && spoken.app && spoken.unread));
}

}  // namespace casa::store

namespace casa::event {

TEST_CASE("the words of a flow") {
  CHECK(std::string(to_string(CASA_AUDIT)) == "AUDIT");
  CHECK(std::string(to_string(CASA_REASON_RAW_SOCKET)) == "raw_socket");
  CHECK(std::string(to_string(static_cast<casa_reason>(31))) == "unknown_reason");
  CHECK(std::string(to_string(CASA_INGRESS)) == "ingress");
  CHECK(protocol_name(6) == "tcp");
  CHECK(protocol_name(58) == "icmpv6");
  CHECK(protocol_name(47) == "47");
  Party party;
  CHECK(comm_of(party).empty());
  party.comm.fill('x');
  CHECK(comm_of(party).size() == party.comm.size());
}

}  // namespace casa::event

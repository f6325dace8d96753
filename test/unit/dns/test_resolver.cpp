// The resolver against a server that answers: what it learns, when it asks again, and what its caller may change meanwhile.
#include "dns_harness.h"

namespace casa::dns::test {
namespace {

const std::string kName = "llm.example.com";

}  // namespace

TEST_CASE("A and AAAA of a name") {
  Fixture f;
  Server server(f.io, serve({{kName,
                              {{kName, kA, 300, "192.0.2.1"},
                               {kName, kA, 200, "192.0.2.2"},
                               {kName, kAaaa, 100, "2001:db8::1"},
                               {kName, kA, 100, "192.0.2.2"}}}}));
  std::vector<Addresses> heard;
  f.at_answer = [&](const std::string&, const std::vector<Record>& records) { heard.push_back(addresses(records)); };
  f.start({server.nameserver()}, {kName});
  CHECK(heard.empty());  // never from within a call
  auto before = f.state(kName);
  CHECK(!before.ever_resolved);
  CHECK(before.last_error.empty());
  REQUIRE(f.until([&] { return heard.size() == 2; }));
  auto state = f.state(kName);
  CHECK(addresses(state.good) == Addresses{"192.0.2.1/300", "192.0.2.2/100", "2001:db8::1/100"});
  CHECK(state.ever_resolved);
  CHECK(state.last_error.empty());
  CHECK(state.next_query > std::chrono::steady_clock::now());
  CHECK(f.changes == std::vector{kName});
}

TEST_CASE("aliases are followed, and the shortest life on the way counts") {
  Fixture f;
  Server server(f.io, serve({{kName,
                              {{kName, kCname, 30, "edge.example.net"},
                               {"edge.example.net", kCname, 600, "a.example.net"},
                               {"other.example.net", kA, 600, "192.0.2.66"},
                               {"a.example.net", kA, 600, "192.0.2.1"}}}}));
  f.start({server.nameserver()}, {kName});
  REQUIRE(f.until([&] { return f.answers[kName] == 1; }));
  f.run_for(50ms);
  auto state = f.state(kName);
  CHECK(addresses(state.good) == Addresses{"192.0.2.1/30"});
  CHECK(state.last_error.empty());  // the aliases lead to no AAAA: no failure
}

TEST_CASE("it asks again before the answer is out of date, also when nothing changes") {
  Fixture f;
  f.options.shortest_renewal = 10ms;
  f.options.longest_renewal = 1h;
  Server server(f.io, serve({{kName, {{kName, kA, 1, "192.0.2.1"}}}}));
  f.start({server.nameserver()}, {kName});
  REQUIRE(f.until([&] { return f.answers[kName] == 1; }));
  f.run_for(50ms);
  auto state = f.state(kName);
  CHECK(state.next_query - state.good_at >= 720ms);
  CHECK(state.next_query - state.good_at < 900ms);
  REQUIRE(f.until([&] { return f.answers[kName] == 2; }));
  f.run_for(50ms);
  // The family that the name does not have is asked with the other, not more often.
  CHECK(server.asked(kName, kA) == 2);
  CHECK(server.asked(kName, kAaaa) <= 3);
  CHECK(f.changes == std::vector{kName});
}

TEST_CASE("the wait for the next question has bounds") {
  Fixture f;
  std::uint32_t ttl = 0;
  SECTION("a life of nothing") { ttl = 0; }
  SECTION("a life that is no number (RFC 2181)") { ttl = 0xffffffff; }
  SECTION("a life of years") { ttl = 0x7fffffff; }
  Server server(f.io, serve({{kName, {{kName, kA, ttl, "192.0.2.1"}}}}));
  f.start({server.nameserver()}, {kName});
  REQUIRE(f.until([&] { return f.answers[kName] == 1; }));
  f.run_for(50ms);
  auto state = f.state(kName);
  auto wait = state.next_query - state.good_at;
  if (ttl == 0x7fffffff) {
    CHECK(wait >= 360ms);
    CHECK(wait <= 420ms);
  } else {
    CHECK(wait >= 200ms);
    CHECK(wait <= 240ms);
    CHECK(f.state(kName).good.front().ttl == 0s);
  }
}

TEST_CASE("an address that changes") {
  Fixture f;
  Server server(f.io, serve({{kName, {{kName, kA, 1, "192.0.2.1"}, {kName, kAaaa, 1, "2001:db8::1"}}}}));
  f.start({server.nameserver()}, {kName});
  REQUIRE(f.until([&] { return f.answers[kName] == 2; }));
  server.answer = serve({{kName, {{kName, kA, 1, "192.0.2.2"}}}});
  // AAAA is gone by a good answer: it is not kept.
  REQUIRE(f.until([&] { return addresses(f.state(kName).good) == Addresses{"192.0.2.2/1"}; }));
  CHECK(f.state(kName).last_error.empty());
  CHECK(f.changes == std::vector{kName});
}

TEST_CASE("names that come and go") {
  Fixture f;
  Server server(f.io, serve({{"a.example", {{"a.example", kA, 1, "192.0.2.1"}}},
                             {"b.example", {{"b.example", kA, 1, "192.0.2.2"}}}}));
  f.start({server.nameserver()}, {"a.example"});
  REQUIRE(f.until([&] { return f.answers["a.example"] == 1; }));
  f.resolver->set_names({"b.example"});
  CHECK(f.resolver->states().size() == 1);
  REQUIRE(f.until([&] { return f.answers["b.example"] == 2; }));
  CHECK(f.answers["a.example"] == 1);
  CHECK(server.asked("a.example", kA) == 1);
  f.resolver->set_names({});
  auto asked = server.queries.size();
  f.run_for(500ms);
  CHECK(server.queries.size() == asked);
  CHECK(f.resolver->states().empty());
}

TEST_CASE("a name that is taken away while it is asked for is not heard of again") {
  Fixture f;
  std::vector<std::string> late;
  Server server(f.io, be_silent());
  f.start({server.nameserver()}, {kName});
  REQUIRE(f.until([&] { return server.queries.size() == 2; }));
  f.resolver->set_names({});
  f.run_for(300ms);
  CHECK(server.queries.size() == 2);
  CHECK(f.changes.empty());
  // And it starts afresh when it returns.
  server.answer = serve({{kName, {{kName, kA, 60, "192.0.2.1"}}}});
  f.resolver->set_names({kName});
  CHECK(f.until([&] { return f.answers[kName] == 1; }));
}

TEST_CASE("other servers: every name is asked for again, there") {
  Fixture f;
  f.options.shortest_renewal = f.options.longest_renewal = 1h;
  Server old_server(f.io, serve({{kName, {{kName, kA, 60, "192.0.2.1"}}}}));
  Server new_server(f.io, serve({{kName, {{kName, kA, 60, "192.0.2.2"}}}}));
  f.start({old_server.nameserver()}, {kName});
  REQUIRE(f.until([&] { return f.answers[kName] == 1; }));
  f.resolver->set_servers({old_server.nameserver()});  // the same: nothing to do
  f.run_for(100ms);
  CHECK(old_server.asked(kName, kA) == 1);
  f.resolver->set_servers({new_server.nameserver()});
  REQUIRE(f.until([&] { return f.answers[kName] == 2; }));
  CHECK(addresses(f.state(kName).good) == Addresses{"192.0.2.2/60"});
  CHECK(old_server.asked(kName, kA) == 1);
}

TEST_CASE("other servers while the old ones are being asked") {
  Fixture f;
  f.options.timeout = 10s;
  Server silent(f.io, be_silent());
  Server server(f.io, serve({{kName, {{kName, kA, 60, "192.0.2.1"}}}}));
  f.start({silent.nameserver()}, {kName});
  REQUIRE(f.until([&] { return silent.queries.size() == 2; }));
  f.resolver->set_servers({server.nameserver()});
  REQUIRE(f.until([&] { return f.answers[kName] == 1; }, 2s));
}

TEST_CASE("without a server every name says so, and the addresses stay") {
  Fixture f;
  Server server(f.io, serve({{kName, {{kName, kA, 60, "192.0.2.1"}}}}));
  f.start({}, {kName});
  CHECK(f.state(kName).last_error == "llm.example.com cannot be resolved: no name server is configured");
  CHECK(f.state(kName).next_query == std::chrono::steady_clock::time_point::max());
  CHECK(f.changes.empty());  // never from within a call
  f.run_for(50ms);
  CHECK(f.changes.size() == 1);
  f.resolver->set_servers({server.nameserver()});
  REQUIRE(f.until([&] { return f.answers[kName] == 1; }));
  CHECK(f.state(kName).last_error.empty());
  f.resolver->set_servers({});
  CHECK(!f.state(kName).last_error.empty());
  CHECK(addresses(f.state(kName).good) == Addresses{"192.0.2.1/60"});
  auto asked = server.queries.size();
  f.run_for(500ms);
  CHECK(server.queries.size() == asked);
}

TEST_CASE("thousands of names: few at once, every one answered") {
  Fixture f;
  f.options.shortest_renewal = f.options.longest_renewal = 1h;
  f.options.timeout = 2s;
  f.options.max_under_way = 8;
  std::set<std::string> names;
  for (int i = 0; i < 2000; ++i) names.insert(fmt::format("n{}.example", i));
  std::size_t at_most = 0;
  std::vector<Query> held;
  Server server(f.io, be_silent());
  server.answer = [&](const Query& query) -> std::vector<std::string> {
    return {make_reply(query, 0, {{query.name, query.type, 60, query.type == kA ? "192.0.2.1" : "2001:db8::1"}})};
  };
  // Every place taken by a question that nobody answers: no other is asked.
  Server silent(f.io, be_silent());
  f.start({silent.nameserver()}, names);
  f.run_for(300ms);
  at_most = silent.queries.size();
  CHECK(at_most == 8);
  auto began = std::chrono::steady_clock::now();
  f.resolver->set_servers({server.nameserver()});
  std::size_t answered = 0;
  f.at_answer = [&](const std::string&, const std::vector<Record>&) { ++answered; };
  REQUIRE(f.until([&] { return answered == 4000; }, 20s));
  auto took = std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::steady_clock::now() - began);
  fmt::print("2,000 names, A and AAAA, from a server on loopback: {} ms\n", took.count());
  CHECK(server.queries.size() == 4000);
}

TEST_CASE("names that come together are spread") {
  Fixture f;
  f.options.spacing = 100ms;
  std::set<std::string> names;
  for (int i = 0; i < 10; ++i) names.insert(fmt::format("n{}.example", i));
  Server server(f.io, be_silent());
  f.options.timeout = 2s;
  f.start({server.nameserver()}, names);
  f.run_for(150ms);
  CHECK(server.queries.size() <= 8);
  CHECK(f.until([&] { return server.queries.size() == 20; }));
}

TEST_CASE("each question has a source port and an id of its own") {
  Fixture f;
  f.options.timeout = 2s;
  std::set<std::string> names;
  for (int i = 0; i < 16; ++i) names.insert(fmt::format("n{}.example", i));
  Server server(f.io, be_silent());
  f.start({server.nameserver()}, names);
  REQUIRE(f.until([&] { return server.queries.size() == 32; }));
  std::set<std::uint16_t> ports;
  std::set<std::string> ids;
  for (const auto& query : server.queries) {
    ports.insert(query.from_port);
    ids.insert(query.packet.substr(0, 2));
  }
  CHECK(ports.size() == 32);
  CHECK(ids.size() >= 30);
}

TEST_CASE("a callback may change or end everything") {
  Fixture f;
  Server server(f.io, serve({{kName, {{kName, kA, 1, "192.0.2.1"}, {kName, kAaaa, 1, "2001:db8::1"}}}}));
  SECTION("its own name") {
    f.at_answer = [&](const std::string&, const std::vector<Record>&) { f.resolver->set_names({}); };
  }
  SECTION("the servers") {
    f.at_answer = [&](const std::string&, const std::vector<Record>&) { f.resolver->set_servers({}); };
  }
  SECTION("stop") {
    f.at_answer = [&](const std::string&, const std::vector<Record>&) { f.resolver->stop(); };
  }
  SECTION("destruction") {
    f.at_answer = [&](const std::string&, const std::vector<Record>&) { f.resolver.reset(); };
  }
  f.start({server.nameserver()}, {kName});
  REQUIRE(f.until([&] { return f.answers[kName] == 1; }));
  f.run_for(300ms);
  CHECK(f.answers[kName] == 1);
}

TEST_CASE("stop with questions under way") {
  Fixture f;
  std::set<std::string> names;
  for (int i = 0; i < 100; ++i) names.insert(fmt::format("n{}.example", i));
  Server server(f.io, be_silent());
  f.start({server.nameserver()}, names);
  REQUIRE(f.until([&] { return server.queries.size() >= 20; }));
  SECTION("stop") {
    f.resolver->stop();
    f.resolver->set_names({"late.example"});
    f.resolver->set_servers({});
    f.run_for(300ms);
    CHECK(f.resolver->states().size() == 100);
  }
  SECTION("destruction") { f.resolver.reset(); }
  SECTION("destruction, and nobody runs the executor again") {
    f.resolver.reset();
    return;
  }
  f.run_for(300ms);
  CHECK(server.queries.size() <= 32);
  CHECK(f.changes.empty());
}

}  // namespace casa::dns::test

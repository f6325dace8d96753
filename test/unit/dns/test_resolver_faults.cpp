// The resolver against servers that fail, lie, cut or do not answer: the last good addresses stay, and a sentence says why.
#include <fcntl.h>

#include "dns_harness.h"

namespace casa::dns::test {
namespace {

const std::string kName = "llm.example.com";
const Zone kZone = {{kName, {{kName, kA, 1, "192.0.2.1"}, {kName, kAaaa, 1, "2001:db8::1"}}}};
const Addresses kBoth = {"192.0.2.1/1", "2001:db8::1/1"};

}  // namespace

TEST_CASE("a failure keeps the last good addresses, says why, and ends") {
  Fixture f;
  Server server(f.io, serve(kZone));
  auto at = to_string(server.nameserver());
  f.start({server.nameserver()}, {kName});
  REQUIRE(f.until([&] { return f.answers[kName] == 2; }));
  CHECK(f.changes.size() == 1);
  std::string wanted;
  SECTION("SERVFAIL") {
    server.answer = refuse_with(kServfail);
    wanted = fmt::format("llm.example.com cannot be resolved ({} answers SERVFAIL)", at);
  }
  SECTION("REFUSED") {
    server.answer = refuse_with(kRefused);
    wanted = fmt::format("llm.example.com cannot be resolved ({} answers REFUSED)", at);
  }
  SECTION("a code that c-ares has no name for") {
    server.answer = refuse_with(9);
    wanted = fmt::format("llm.example.com cannot be resolved ({} answers with code 9)", at);
  }
  SECTION("silence") {
    server.answer = be_silent();
    wanted = fmt::format("llm.example.com cannot be resolved ({} does not answer within 100 ms)", at);
  }
  SECTION("NXDOMAIN") {
    server.answer = refuse_with(kNxdomain);
    wanted = fmt::format("llm.example.com does not exist ({} answers NXDOMAIN)", at);
  }
  SECTION("no address any more") {
    server.answer = serve({{kName, {}}});
    wanted = fmt::format("llm.example.com has no address ({} answers with neither A nor AAAA records)", at);
  }
  SECTION("an answer that cannot be read") {
    server.answer = [](const Query& query) -> std::vector<std::string> {
      auto reply = make_reply(query, 0, {{query.name, query.type, 60, "192.0.2.9"}});
      return {reply.substr(0, reply.size() - 3)};
    };
    wanted = fmt::format("llm.example.com cannot be resolved ({} sends an answer that cannot be read)", at);
  }
  SECTION("the question, sent back") {
    server.answer = [](const Query& query) -> std::vector<std::string> { return {query.packet}; };
    wanted = fmt::format("llm.example.com cannot be resolved ({} sends an answer that cannot be read)", at);
  }
  wanted += "; the last good addresses are kept";
  REQUIRE(f.until([&] { return f.state(kName).last_error == wanted; }));
  CHECK(addresses(f.state(kName).good) == kBoth);
  f.run_for(500ms);
  CHECK(f.state(kName).last_error == wanted);  // it does not flap
  CHECK(f.answers[kName] == 2);
  CHECK(f.changes.size() <= 3);
  server.answer = serve(kZone);
  REQUIRE(f.until([&] { return f.state(kName).last_error.empty() && addresses(f.state(kName).good) == kBoth; }));
}

TEST_CASE("a name that was never known") {
  Fixture f;
  Server server(f.io, serve({}));
  f.start({server.nameserver()}, {kName});
  REQUIRE(f.until([&] { return !f.changes.empty(); }));
  CHECK(f.state(kName).last_error ==
        fmt::format("llm.example.com does not exist ({} answers NXDOMAIN)", to_string(server.nameserver())));
  CHECK(!f.state(kName).ever_resolved);
  CHECK(f.state(kName).good.empty());
}

TEST_CASE("what no DNS name is") {
  Fixture f;
  Server server(f.io, serve({}));
  auto name = std::string(64, 'a') + ".example";
  f.start({server.nameserver()}, {name});
  REQUIRE(f.until([&] { return !f.changes.empty(); }));
  CHECK(f.state(name).last_error ==
        fmt::format("{} cannot be resolved ({} cannot be asked: this is no name that DNS can carry)", name,
                    to_string(server.nameserver())));
  CHECK(server.queries.empty());
}

TEST_CASE("retries come at growing distances") {
  Fixture f;
  f.options.first_retry = 100ms;
  f.options.longest_retry = 300ms;
  f.options.tries = 1;
  std::vector<std::chrono::steady_clock::time_point> times;
  Server server(f.io, be_silent());
  server.answer = [&](const Query& query) -> std::vector<std::string> {
    if (query.type == kA) times.push_back(std::chrono::steady_clock::now());
    return {make_reply(query, kServfail, {})};
  };
  f.start({server.nameserver()}, {kName});
  REQUIRE(f.until([&] { return times.size() == 5; }));
  auto wait = [&](std::size_t i) { return times[i + 1] - times[i]; };
  CHECK(wait(0) >= 90ms);
  CHECK(wait(1) >= 180ms);
  CHECK(wait(2) >= 270ms);
  CHECK(wait(3) >= 270ms);
  CHECK(wait(3) < 2s);
}

TEST_CASE("the second server answers for the first, and is asked first from then on") {
  Fixture f;
  Server server(f.io, serve(kZone));
  Server other(f.io, be_silent());
  Nameserver first = other.nameserver();
  std::size_t most = 2;
  SECTION("which is silent") {}
  SECTION("which fails") { other.answer = refuse_with(kServfail); }
  SECTION("which does not listen") {
    boost::asio::io_context another;
    first = Server(another, be_silent()).nameserver();
    most = 0;
  }
  f.start({first, server.nameserver()}, {kName});
  REQUIRE(f.until([&] { return f.answers[kName] == 2; }));
  CHECK(f.state(kName).last_error.empty());
  REQUIRE(f.until([&] { return f.answers[kName] == 6; }));
  CHECK(other.queries.size() == most);
}

TEST_CASE("all servers are named when all fail") {
  Fixture f;
  Server silent(f.io, be_silent()), failing(f.io, refuse_with(kServfail));
  f.start({silent.nameserver(), failing.nameserver()}, {kName});
  REQUIRE(f.until([&] { return !f.changes.empty(); }));
  CHECK(f.state(kName).last_error ==
        fmt::format("llm.example.com cannot be resolved ({} does not answer within 100 ms, {} answers SERVFAIL)",
                    to_string(silent.nameserver()), to_string(failing.nameserver())));
  // Two tries of each, in turns.
  CHECK(silent.asked(kName, kA) == 2);
  CHECK(failing.asked(kName, kA) == 2);
}

TEST_CASE("one family fails while the other is good") {
  Fixture f;
  auto a_only = [](int rcode) -> Server::Answer {
    return [rcode](const Query& query) -> std::vector<std::string> {
      if (query.type == kAaaa) return {make_reply(query, rcode, {})};
      return {make_reply(query, 0, {{kName, kA, 1, "192.0.2.1"}})};
    };
  };
  Server server(f.io, serve(kZone));
  SECTION("which it never had: it is well") {
    server.answer = a_only(kServfail);
    f.start({server.nameserver()}, {kName});
    REQUIRE(f.until([&] { return f.answers[kName] == 2; }));
    CHECK(f.state(kName).last_error.empty());
    CHECK(f.changes == std::vector{kName});
  }
  SECTION("which it had: it says so") {
    f.start({server.nameserver()}, {kName});
    REQUIRE(f.until([&] { return f.answers[kName] == 2; }));
    server.answer = a_only(kServfail);
    REQUIRE(f.until([&] { return !f.state(kName).last_error.empty(); }));
    CHECK(
        f.state(kName).last_error ==
        fmt::format(
            "the AAAA records of llm.example.com cannot be renewed ({} answers SERVFAIL); the last good ones are kept",
            to_string(server.nameserver())));
    CHECK(addresses(f.state(kName).good) == kBoth);
    auto before = f.answers[kName];
    REQUIRE(f.until([&] { return f.answers[kName] >= before + 2; }));  // A goes on
  }
}

TEST_CASE("a cut answer is fetched over TCP") {
  Fixture f;
  std::vector<Rr> records;
  for (int i = 0; i < 200; ++i) records.push_back({kName, kA, 60, fmt::format("192.0.2.{}", i)});
  Server server(f.io, be_silent());
  server.answer = [&](const Query& query) -> std::vector<std::string> {
    if (query.type != kA) return {make_reply(query, 0, {})};
    if (!query.tcp) return {make_reply(query, 0, {records[0]}, true)};
    return {make_reply(query, 0, records)};
  };
  f.start({server.nameserver()}, {kName});
  REQUIRE(f.until([&] { return f.answers[kName] == 1; }));
  CHECK(f.state(kName).good.size() == 200);
  CHECK(f.state(kName).last_error.empty());
}

TEST_CASE("a cut answer whose TCP side fails is a failure like another") {
  Fixture f;
  Server server(f.io, be_silent());
  const char* wanted = "";
  SECTION("by silence") { wanted = "does not answer within 100 ms"; }
  SECTION("by hanging up") {
    server.hangs_up = true;
    wanted = "cannot be reached";
  }
  server.answer = [&](const Query& query) -> std::vector<std::string> {
    if (query.tcp) return {};
    return {make_reply(query, 0, {}, true)};
  };
  f.start({server.nameserver()}, {kName});
  REQUIRE(f.until([&] { return !f.state(kName).last_error.empty(); }));
  CHECK(f.state(kName).last_error.find(wanted) != std::string::npos);
}

TEST_CASE("more addresses than are kept of one answer") {
  Fixture f;
  std::vector<Rr> records;
  for (int i = 0; i < 600; ++i) records.push_back({kName, kA, 60, fmt::format("10.0.{}.{}", i / 256, i % 256)});
  Server server(f.io, be_silent());
  server.answer = [&](const Query& query) -> std::vector<std::string> {
    return {make_reply(query, 0, query.tcp && query.type == kA ? records : std::vector<Rr>{}, !query.tcp)};
  };
  f.start({server.nameserver()}, {kName});
  REQUIRE(f.until([&] { return f.answers[kName] == 1; }));
  CHECK(f.state(kName).good.size() == kMaxRecords);
}

TEST_CASE("what is no answer to the question is passed over") {
  Fixture f;
  Server server(f.io, be_silent());
  server.answer = [&](const Query& query) -> std::vector<std::string> {
    std::vector<std::string> packets = {"", "x", std::string(11, '\xff'), std::string(512, '\xff')};
    auto forged = [&](const std::string& name) {
      return make_reply(query, 0, {{name, query.type, 60, query.type == kA ? "192.0.2.66" : "2001:db8::66"}});
    };
    auto wrong_id = forged(kName);
    wrong_id[0] = static_cast<char>(wrong_id[0] ^ 0x55);
    packets.push_back(wrong_id);
    auto wrong_name = forged(kName);
    wrong_name[13] = 'x';
    packets.push_back(wrong_name);
    packets.push_back(serve(kZone)(query).front());
    packets.push_back(forged(kName));  // too late
    return packets;
  };
  f.start({server.nameserver()}, {kName});
  REQUIRE(f.until([&] { return f.answers[kName] == 2; }));
  CHECK(addresses(f.state(kName).good) == kBoth);
  CHECK(f.state(kName).last_error.empty());
}

TEST_CASE("an answer about another name than the one asked for has no address") {
  Fixture f;
  Server server(f.io, be_silent());
  server.answer = [](const Query& query) -> std::vector<std::string> {
    return {
        make_reply(query, 0, {{"other.example", query.type, 60, query.type == kA ? "192.0.2.66" : "2001:db8::66"}})};
  };
  f.start({server.nameserver()}, {kName});
  REQUIRE(f.until([&] { return !f.changes.empty(); }));
  CHECK(f.state(kName).good.empty());
  CHECK(f.state(kName).last_error.find("has no address") != std::string::npos);
}

TEST_CASE("answers of noise, at length") {
  Fixture f;
  f.options.timeout = 20ms;
  f.options.first_retry = f.options.longest_retry = 1ms;
  std::uint32_t seed = 1;
  auto noise = [&] { return static_cast<char>((seed = seed * 1664525 + 1013904223) >> 24); };
  Server server(f.io, be_silent());
  server.answer = [&](const Query& query) -> std::vector<std::string> {
    auto reply = make_reply(query, 0, {{kName, kCname, 60, "a.example"}, {"a.example", query.type, 60, "::"}});
    for (int i = 0; i < 4; ++i) reply[12 + (static_cast<std::uint8_t>(noise()) % (reply.size() - 12))] = noise();
    return {reply.substr(0, reply.size() - static_cast<std::uint8_t>(noise()) % 8)};
  };
  f.start({server.nameserver()}, {kName});
  REQUIRE(f.until([&] { return server.queries.size() > 100; }, 30s));
  server.answer = serve(kZone);
  REQUIRE(f.until([&] { return addresses(f.state(kName).good) == kBoth; }));
}

}  // namespace casa::dns::test

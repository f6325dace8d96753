// status, flows and explain against a real server: what people see, what programs get, what happens when nobody answers.
#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>
#include <sstream>

#include <simdjson.h>

#include "capture.h"
#include "cli/client.h"
#include "cli/http_client.h"
#include "server_fixture.h"

using namespace casa;
using namespace casa::cli;
using namespace casa::test;
using Catch::Matchers::ContainsSubstring;

TEST_CASE("flows for people: oldest first, lined up, one line a flow") {
  ServerFixture server;
  Asked<FlowsOptions> asked(server);
  CHECK(run_flows(asked.options) == 0);
  auto lines = asked.out.lines();
  REQUIRE(lines.size() == 5);
  CHECK_THAT(lines[0], ContainsSubstring("TIME") && ContainsSubstring("VERDICT"));
  CHECK_THAT(lines[1], ContainsSubstring("ALLOWED  egress     team-a/agent -> tools/mcp-server:8080/tcp") &&
                           ContainsSubstring("team-a/agent") && ContainsSubstring("python3[4242]"));
  CHECK_THAT(lines[2],
             ContainsSubstring("DENIED") && ContainsSubstring("evil.example:443/tcp") && ContainsSubstring("x3"));
  CHECK_THAT(lines[3],
             ContainsSubstring("AUDIT") && ContainsSubstring("ingress    10.9.9.9 -> tools/mcp-server:8080/tcp"));
  CHECK_THAT(lines[4], ContainsSubstring("-> nobody/tcp"));
  CHECK(lines[1].find("endpoint_allowed") == lines[2].find("external_not_allowed"));
  CHECK(asked.out.text().find('\x1b') == std::string::npos);
}

TEST_CASE("flows: a denial about a name tells the name, safe for a terminal") {
  ServerFixture server;
  server.run([&] {
    auto add = [&](std::uint64_t id, casa_reason reason, const char* name, event::PeerName who) {
      auto f = flow(id, CASA_DENIED, reason, std::chrono::system_clock::now());
      f.destination = party(std::move(who), "192.0.2.53", 53);
      f.asked_name = std::make_shared<const std::string>(name);
      server.state.history.add(f);
    };
    add(20, CASA_REASON_DNS_NAME_NOT_ALLOWED, "evil.example", {event::PeerName::Kind::kDns, "", "", "", "", ""});
    add(21, CASA_REASON_SNI_MISMATCH, "\x1b[2J.example",
        {event::PeerName::Kind::kFqdn, "", "", "", "", "api.llm.example"});
  });
  Asked<FlowsOptions> asked(server);
  asked.options.limit = 2;
  CHECK(run_flows(asked.options) == 0);
  auto lines = asked.out.lines();
  REQUIRE(lines.size() == 3);
  CHECK_THAT(lines[1], ContainsSubstring("team-a/agent -> 192.0.2.53:53/tcp") &&
                           ContainsSubstring("dns_name_not_allowed (evil.example)"));
  CHECK_THAT(lines[2], ContainsSubstring("-> api.llm.example:53/tcp") && ContainsSubstring("sni_mismatch ("));
  CHECK(asked.out.text().find('\x1b') == std::string::npos);
}

TEST_CASE("flows: filters, limit, JSON lines, nothing found") {
  ServerFixture server;
  Asked<FlowsOptions> asked(server);
  asked.options.json = true;
  asked.options.verdict = "DENIED";
  asked.options.workload = "team-a/agent";
  asked.options.since = "1h";
  asked.options.limit = 1;
  CHECK(run_flows(asked.options) == 0);
  REQUIRE(asked.out.lines().size() == 1);
  simdjson::dom::parser parser;
  auto row = parser.parse(asked.out.lines()[0]);
  CHECK(std::string_view(row["id"]) == "4");

  Asked<FlowsOptions> none(server);
  none.options.ns = "no-such";
  CHECK(run_flows(none.options) == 0);
  CHECK(none.out.text().empty());
  CHECK_THAT(none.err.text(), ContainsSubstring("no flows match"));
}

TEST_CASE("flows: more than a page") {
  ServerFixture server;
  server.run([&] {
    for (std::uint64_t i = 10; i < 2510; ++i)
      server.state.history.add(flow(i, CASA_ALLOWED, CASA_REASON_ENDPOINT_ALLOWED, std::chrono::system_clock::now()));
  });
  Asked<FlowsOptions> asked(server);
  asked.options.json = true;
  asked.options.limit = 2300;
  CHECK(run_flows(asked.options) == 0);
  CHECK(asked.out.lines().size() == 2300);
  Asked<FlowsOptions> hundred(server);
  hundred.options.json = true;
  CHECK(run_flows(hundred.options) == 0);
  CHECK(hundred.out.lines().size() == 100);
}

TEST_CASE("a wrong filter is the daemon's sentence and exit 2") {
  ServerFixture server;
  Asked<FlowsOptions> asked(server);
  asked.options.verdict = "denied \x1b[2J";
  CHECK(run_flows(asked.options) == 2);
  CHECK(asked.out.text().empty());
  CHECK_THAT(asked.err.text(),
             ContainsSubstring("casad: Parameter 'verdict' cannot be") || ContainsSubstring("control character"));
  CHECK(asked.err.text().find('\x1b') == std::string::npos);
}

TEST_CASE("a process that names itself in escapes and newlines does neither") {
  ServerFixture server;
  server.run([&] {
    for (std::string_view comm : {"\x1b]0;owned\x07", "a\nALLOWED",
                                  "\xc2\x9b"
                                  "2J",
                                  "\xff\xfe",
                                  "\xe2\x80\xae"
                                  "txt"}) {
      auto f = flow(50 + comm.size() * 7 + static_cast<unsigned char>(comm[0]), CASA_ALLOWED,
                    CASA_REASON_ENDPOINT_ALLOWED, std::chrono::system_clock::now());
      f.source.comm = party({}, nullptr, 0, 0, comm).comm;
      server.state.history.add(f);
    }
  });
  for (bool json : {false, true}) {
    Asked<FlowsOptions> asked(server);
    asked.options.json = json;
    CHECK(run_flows(asked.options) == 0);
    auto text = asked.out.text();
    CHECK(asked.out.lines().size() == (json ? 9u : 10u));
    for (unsigned char c : text) REQUIRE((c == '\n' || (c >= 0x20 && c < 0x7f) || c >= 0xa0));
    CHECK(text.find("\xc2\x9b") == std::string::npos);
    CHECK(text.find("\xe2\x80\xae") == std::string::npos);
    if (!json) CHECK_THAT(text, ContainsSubstring("\\x1b]0;owned\\x07[4242]"));
  }
}

TEST_CASE("follow shows each new and changed row once, and survives a restart") {
  ServerFixture server;
  Asked<FlowsOptions> asked(server);
  std::atomic<bool> stop = false;
  asked.options.follow = true;
  asked.options.limit = 2;
  asked.options.interval = std::chrono::milliseconds(30);
  asked.options.stop = &stop;
  int code = -1;
  std::thread follower([&] { code = run_flows(asked.options); });
  CHECK(wait_for(asked.out, "no_listener"));
  auto now = std::chrono::system_clock::now();
  auto fresh = flow(77, CASA_ALLOWED, CASA_REASON_MAS_DEFAULT, now);
  server.run([&] { server.state.history.add(fresh); });
  CHECK(wait_for(asked.out, "mas_default"));
  fresh.news = event::News::kUpdate;  // counters only: no news for people
  fresh.bytes_sent = 10;
  fresh.last_seen = now + std::chrono::milliseconds(5);
  server.run([&] { server.state.history.add(fresh); });
  auto denied = flow(78, CASA_DENIED, CASA_REASON_RAW_SOCKET, now);
  server.run([&] { server.state.history.add(denied); });
  CHECK(wait_for(asked.out, "raw_socket"));
  denied.count = 4;
  server.run([&] { server.state.history.add(denied); });
  CHECK(wait_for(asked.out, "x5"));

  server.run([&] { server.server->stop(); });
  CHECK(wait_for(asked.err, "no answer at"));
  server.run([&] {
    CHECK(server.server->start());
    auto after = flow(79, CASA_DENIED, CASA_REASON_IP_OPTIONS, std::chrono::system_clock::now());
    server.state.history.add(after);
  });
  CHECK(wait_for(asked.out, "ip_options"));
  std::this_thread::sleep_for(std::chrono::milliseconds(200));
  stop = true;
  follower.join();
  CHECK(code == 0);
  // title, 2 first rows, mas_default, raw_socket, raw_socket x5, ip_options
  INFO(asked.out.text());
  CHECK(asked.out.lines().size() == 7);
  CHECK(asked.err.lines().size() == 1);
}

TEST_CASE("status") {
  ServerFixture server;
  Asked<StatusOptions> asked(server);
  CHECK(run_status(asked.options) == 0);
  CHECK_THAT(asked.out.text(), ContainsSubstring("state        enforcing") &&
                                   ContainsSubstring("generation   7 since 2026-11-24T01:51:34.000Z") &&
                                   ContainsSubstring("5 objects from 3 documents, 1 bad") &&
                                   ContainsSubstring("watched      2 CASAPolicies, 5 Services (forbidden)\n") &&
                                   ContainsSubstring("it is gone") && ContainsSubstring("2 policies, 2 workloads") &&
                                   ContainsSubstring("casa_policy: 10 of 1000") &&
                                   ContainsSubstring("tcx: off: kernel 6.1"));
  server.run([&] { server.state.ready = false; });
  Asked<StatusOptions> starting(server);
  CHECK(run_status(starting.options) == 1);
  CHECK_THAT(starting.out.text(), ContainsSubstring("problem      the policy directory"));
  Asked<StatusOptions> alive(server);
  alive.options.alive = true;
  CHECK(run_status(alive.options) == 0);
  CHECK(alive.out.text().empty());
  Asked<StatusOptions> json(server);
  json.options.json = true;
  CHECK(run_status(json.options) == 1);
  CHECK_THAT(json.out.text(), ContainsSubstring(R"("phase":"starting")"));
}

TEST_CASE("explain") {
  ServerFixture server;
  auto ask = [&](const char* from, const char* to, int expected, bool json = false) {
    Asked<ExplainOptions> asked(server);
    asked.options.from = from;
    asked.options.to = to;
    asked.options.json = json;
    CHECK(run_explain(asked.options) == expected);
    return asked.out.text() + asked.err.text();
  };
  CHECK_THAT(
      ask("team-a/agent", "tools/mcp-server:8080", 0),
      ContainsSubstring("ALLOWED\n") &&
          ContainsSubstring("egress of team-a/agent  endpoint_allowed  by team-a/agent spec.allowedEndpoints[0]") &&
          ContainsSubstring("It is named."));
  auto denied = ask("team-a/agent", "[2001:db8::1]:443", 1);
  CHECK_THAT(denied, ContainsSubstring("DENIED\n") &&
                         ContainsSubstring("to allow it:\n  spec:\n    allowedEndpoints: \\x1b[2J"));
  CHECK_THAT(ask("team-a/agent", "[2001:db8::1]:443", 1, true), ContainsSubstring(R"("verdict":"DENIED")"));
  CHECK_THAT(ask("team-a/nobody", "x:1", 1), ContainsSubstring("casad: there is no workload team-a/nobody"));
  CHECK_THAT(ask("team-a/agent", "x", 2), ContainsSubstring("'x' has no port"));
  CHECK_THAT(ask("", "", 2), ContainsSubstring("--from and --to"));
  Asked<ExplainOptions> baseline(server);
  baseline.options.baseline = true;
  CHECK(run_explain(baseline.options) == 0);
  CHECK(baseline.out.text() == "Loopback inside a workload is always allowed.\n");
}

TEST_CASE("nobody answers: what to do about it") {
  TempDir dir;
  Capture out, err;
  StatusOptions options{.api_socket = dir.file("none.sock"), .out = out.file(), .err = err.file()};
  CHECK(run_status(options) == 1);
  CHECK(err.text() == "casad: no answer at " + dir.file("none.sock") +
                          ": No such file or directory; is casad running? try `systemctl status casad`\n");
  options.alive = true;
  CHECK(run_status(options) == 1);
  options.alive = false;
  options.api_socket = std::string(200, 'x');
  CHECK(run_status(options) == 2);
}

TEST_CASE("a daemon that says nothing, or nonsense, is given up on") {
  TempDir dir;
  auto path = dir.file("s");
  Fd listener(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  path.copy(address.sun_path, sizeof(address.sun_path) - 1);
  REQUIRE(::bind(listener.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)) == 0);
  REQUIRE(::listen(listener.get(), 8) == 0);
  HttpClient patient(path, std::chrono::milliseconds(200));
  auto silent = patient.get("/healthz");
  REQUIRE_FALSE(silent);
  CHECK_THAT(silent.error().context, ContainsSubstring("no answer at"));
  {
    Fd first(::accept(listener.get(), nullptr, nullptr));
  }

  for (std::string_view nonsense :
       {"garbage\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n[[[[",
        "HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n"}) {
    std::thread server([&] {
      Fd client(::accept(listener.get(), nullptr, nullptr));
      char buffer[4096];
      static_cast<void>(::recv(client.get(), buffer, sizeof(buffer), 0));
      send_text(client, nonsense);
    });
    Capture out, err;
    CHECK(run_flows({.api_socket = path, .out = out.file(), .err = err.file()}) == 1);
    server.join();
    CHECK(out.text().empty());
    CHECK_FALSE(err.text().empty());
  }
}

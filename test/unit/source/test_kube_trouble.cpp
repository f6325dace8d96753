// The API server as a source while it is ill: gone, silent, forgetful, forbidding. What is known stays known.
#include <openssl/ssl.h>

#include "kube_fixture.h"

using namespace casa::source;
using namespace casa::source::test;

TEST_CASE("410 for a watch leads to a new list, which announces differences only") {
  KubeFixture f;
  f.api.error_events = GENERATE(true, false);
  f.api.put(kServices, "team-a", "kept");
  f.api.put(kServices, "team-a", "changed");
  f.api.put(kServices, "team-a", "vanished");
  f.start_quietly();
  f.api.away();
  f.api.put(kServices, "team-a", "changed", R"(,"spec":{})");
  f.api.remove(kServices, "team-a", "vanished");
  f.api.put(kServices, "team-a", "new");
  f.api.compact();
  f.api.back();
  REQUIRE(f.until_heard("-kubernetes:Service/team-a/vanished"));
  REQUIRE(f.until([&] { return f.watching() && f.recorder.health.empty(); }));
  f.run_for(100ms);
  CHECK(f.heard("+kubernetes:Service/team-a/changed") == 1);
  CHECK(f.heard("+kubernetes:Service/team-a/new") == 1);
  CHECK(f.heard("+kubernetes:Service/team-a/kept") == 0);
  CHECK(f.heard("+kubernetes:Namespace/team-a") == 0);
  CHECK(f.recorder.log.back() == "synced");
}

TEST_CASE("410 in the middle of a list leads to a list in one piece") {
  KubeFixture f;
  f.options.page = 2;
  for (int i = 0; i < 5; ++i) f.api.put(kServices, "team-a", "svc-" + std::to_string(i));
  f.api.expire_pages = true;
  f.start();
  REQUIRE(f.until([&] { return f.recorder.synced == 1; }));
  CHECK(f.resource("Services").objects == 5);
  CHECK(f.recorder.health.empty());
  REQUIRE(f.until([&] { return f.watching(); }));
  std::vector<std::string> limits;
  for (const auto& request : f.api.requests)
    if (request.path == kServices && request.query.contains("limit")) limits.push_back(request.query.at("limit"));
  CHECK(limits == Log{"2", "2", "0"});
}

TEST_CASE("while the server is away the last state stays in force, and it is told since when") {
  KubeFixture f;
  f.api.put(kServices, "team-a", "svc");
  f.options.longest = 300ms;  // until each watch has noticed, also on a machine that is busy
  f.start_quietly();
  f.api.away();
  REQUIRE(f.until([&] { return !f.recorder.health.empty(); }));
  CHECK(f.recorder.health.find("the API server https://127.0.0.1:") == 0);
  CHECK(f.recorder.health.find("cannot be reached: connecting to 127.0.0.1:") != std::string::npos);
  CHECK(f.recorder.health.find("the last state stays in force since 20") != std::string::npos);
  f.run_for(300ms);
  CHECK(f.recorder.log == Log{"ill"});
  f.api.put(kServices, "team-a", "svc-2");
  f.api.back();
  REQUIRE(f.until_heard("+kubernetes:Service/team-a/svc-2"));
  REQUIRE(f.until([&] { return f.recorder.health.empty() && f.watching(); }));
  CHECK(f.heard("+kubernetes:Service/team-a/svc") == 0);
}

TEST_CASE("a connection that breaks and can be made again is no problem") {
  KubeFixture f;
  f.start_quietly();
  f.api.drop();
  REQUIRE(f.until([&] { return !f.watching(); }));
  REQUIRE(f.until([&] { return f.watching(); }));
  CHECK(f.recorder.log.empty());
}

TEST_CASE("a server that was set back to an older state is listed anew") {
  KubeFixture f;
  f.api.put(kServices, "team-a", "svc");
  f.start_quietly();
  f.api.away();
  f.api.remove(kServices, "team-a", "svc");
  f.api.revision = 50;  // a watch from the version that is known would wait for ever
  f.api.back();
  CHECK(f.until_heard("-kubernetes:Service/team-a/svc"));
}

TEST_CASE("a server that is away at the start is waited for") {
  KubeFixture f;
  f.api.away();
  f.start();
  REQUIRE(f.until([&] { return !f.recorder.health.empty(); }));
  CHECK(f.recorder.health.find("nothing of it is in force yet") != std::string::npos);
  f.run_for(300ms);
  CHECK(f.recorder.synced == 0);
  f.api.back();
  CHECK(f.until([&] { return f.recorder.synced == 1 && f.recorder.health.empty(); }));
}

TEST_CASE("the pauses grow, have an end, and keep to what the server asks for") {
  KubeFixture f;
  f.options.longest = 300ms;  // one sentence, also where the watches notice it at different times
  f.start_quietly();
  f.api.failing = 503;
  f.api.drop();
  auto began = std::chrono::steady_clock::now();
  SECTION("by themselves") {
    REQUIRE(f.until([&] { return f.api.asked(kServices) >= 12; }, 20s));
    // 20, 40, 80, then 100 ms, each less up to a half.
    CHECK(std::chrono::steady_clock::now() - began >= 10ms + 20ms + 40ms + 8 * 50ms);
    CHECK(f.recorder.health.find("refuses to") != std::string::npos);
    CHECK(f.recorder.health.find("etcd is away (HTTP 503)") != std::string::npos);
  }
  SECTION("as the server says") {
    f.api.retry_after = "1";
    f.run_for(900ms);
    CHECK(f.api.asked(kServices) <= 2);
  }
  f.api.failing = 0;
  REQUIRE(f.until([&] { return f.recorder.health.empty() && f.watching(); }));
  CHECK(f.heard("ill") <= 2);
}

TEST_CASE("a server that has fallen silent is noticed, though TCP says that all is well") {
  KubeFixture f;
  f.start_quietly();
  f.api.frozen = true;
  auto begin = std::chrono::steady_clock::now();
  REQUIRE(f.until([&] { return !f.recorder.health.empty(); }));
  auto took = std::chrono::steady_clock::now() - begin;
  CHECK(took < 2 * f.options.silence + f.options.check_timeout);
  CHECK(f.recorder.health.find("has fallen silent") != std::string::npos);
  f.run_for(300ms);
  CHECK(f.heard("-kubernetes:Namespace/team-a") == 0);
  f.api.frozen = false;
  f.api.put(kServices, "team-a", "svc");
  REQUIRE(f.until_heard("+kubernetes:Service/team-a/svc"));
  CHECK(f.until([&] { return f.recorder.health.empty() && f.watching(); }));
}

TEST_CASE("a quiet server that answers is left alone") {
  KubeFixture f;
  f.start_quietly();
  f.run_for(700ms);
  CHECK(f.recorder.log.empty());
  CHECK(f.api.asked("/version") >= 2);
  CHECK(f.api.asked("/version") <= 5);
  CHECK(f.api.requests.size() == f.api.asked("/version"));
  CHECK(f.api.connections == 9);
}

TEST_CASE("what the server forbids is told, and the rest goes on") {
  KubeFixture f;
  f.api.forbidden = {kSlices};
  f.start();
  REQUIRE(f.until([&] { return !f.recorder.health.empty() && f.recorder.documents.contains("kubernetes:Node/here"); }));
  CHECK(
      f.recorder.health.find(R"(does not allow to list EndpointSlices: pods is forbidden: User "x" cannot list it)") !=
      std::string::npos);
  CHECK(f.resource("EndpointSlices").state == KubernetesResource::State::kForbidden);
  f.run_for(200ms);
  CHECK(f.recorder.synced == 0);
  f.api.put(kServices, "team-a", "svc");
  REQUIRE(f.until_heard("+kubernetes:Service/team-a/svc"));
  f.api.forbidden.clear();
  CHECK(f.until([&] { return f.recorder.synced == 1 && f.recorder.health.empty(); }));
}

TEST_CASE("a resource that the server suddenly does not know keeps its objects") {
  KubeFixture f;
  f.api.put(kPolicies, "team-a", "p");
  f.start_quietly();
  f.api.absent = {kPolicies};
  f.api.drop();
  REQUIRE(f.until([&] { return f.recorder.health.find("does not know CASAPolicies any more") != std::string::npos; }));
  f.run_for(200ms);
  CHECK(f.heard("-kubernetes:CASAPolicy/team-a/p") == 0);
  f.api.absent.clear();
  CHECK(f.until([&] { return f.recorder.health.empty() && f.watching(); }));
}

TEST_CASE("events that make no sense end the watch, and are told") {
  KubeFixture f;
  f.api.put(kServices, "team-a", "svc");
  f.start_quietly();
  std::string line = GENERATE(as<std::string>(), R"({"type":"ADDED","object":{"metadata":{}}})", R"({"type":"WHAT"})",
                              "[1]", R"({"type":"ADDED"}})", R"({"object":{}})");
  f.api.send_line(kServices, line);
  REQUIRE(f.until([&] { return !f.recorder.health.empty(); }));
  INFO(f.recorder.health);
  CHECK(f.recorder.health.find(" sent ") != std::string::npos);
  REQUIRE(f.until([&] { return f.recorder.health.empty() && f.watching(); }));
  CHECK(f.heard("-kubernetes:Service/team-a/svc") == 0);
}

TEST_CASE("what the handler could not take is told again") {
  KubeFixture f;
  const std::string svc = "kubernetes:Service/team-a/svc";
  f.api.put(kServices, "team-a", "svc");
  f.recorder.fails_once = svc;
  f.start();
  REQUIRE(f.until_heard("+" + svc));
  REQUIRE(f.until([&] { return f.recorder.synced >= 1 && f.watching(); }));
  // By the watch.
  f.recorder.log.clear();
  f.recorder.fails_once = svc;
  f.api.put(kServices, "team-a", "svc", R"(,"spec":{})");
  REQUIRE(f.until_heard("+" + svc));
  CHECK(f.resource("Services").objects == 1);
  REQUIRE(f.until([&] { return f.watching(); }));
  f.recorder.fails_once = svc;
  f.api.remove(kServices, "team-a", "svc");
  REQUIRE(f.until_heard("-" + svc));
  CHECK(f.heard("-" + svc) == 1);
  CHECK(f.resource("Services").objects == 0);
  // By a list that has it no more.
  f.api.put(kServices, "team-a", "svc");
  REQUIRE(f.until([&] { return f.heard("+" + svc) == 2 && f.watching(); }));
  f.api.away();
  f.api.remove(kServices, "team-a", "svc");
  f.api.compact();
  f.recorder.fails_once = svc;
  f.api.back();
  REQUIRE(f.until([&] { return f.heard("-" + svc) == 2; }));
  CHECK(f.resource("Services").objects == 0);
  CHECK(f.recorder.fails_once.empty());
}

TEST_CASE("a token's file is read again when it is due, and at once after a 401") {
  KubeFixture f;
  TempDir dir;
  write_file(dir / "token", "first\n");
  f.api.tokens = {"first"};
  KubeAccess access = f.access();
  access.token.clear();
  access.token_file = (dir / "token").string();
  SECTION("refused") {
    f.start(access);
    REQUIRE(f.until([&] { return f.recorder.synced == 1 && f.watching(); }));
    f.api.tokens = {"second"};
    replace_file(dir / "token", "second\n");
    f.api.drop();
    REQUIRE(f.until([&] { return !f.watching(); }));
    REQUIRE(f.until([&] { return f.watching(); }));
    CHECK(f.heard("ill") == 0);
  }
  SECTION("due") {
    f.options.token_period = 50ms;
    f.start(access);
    REQUIRE(f.until([&] { return f.recorder.synced == 1 && f.watching(); }));
    replace_file(dir / "token", "second\n");
    REQUIRE(f.until([&] { return f.api.requests.back().token == "second"; }));
  }
  SECTION("not there") {
    std::filesystem::remove(dir / "token");
    f.start(access);
    REQUIRE(f.until([&] { return f.recorder.health.find("/token") != std::string::npos; }));
    write_file(dir / "token", "first\n");
    CHECK(f.until([&] { return f.recorder.synced == 1 && f.recorder.health.empty(); }));
  }
  SECTION("wrong for good") {
    f.api.tokens = {"third"};
    f.start(access);
    REQUIRE(f.until([&] { return f.recorder.health.find("Unauthorized (HTTP 401)") != std::string::npos; }));
    CHECK(f.recorder.health.find("first") == std::string::npos);
  }
}

TEST_CASE("a server whose certificate is another's gets no token") {
  KubeFixture f("DNS:another.example");
  KubeAccess access = f.access();
  SECTION("another name") {
    f.start(access);
    REQUIRE(f.until([&] { return f.recorder.health.find("its certificate is not trusted") != std::string::npos; }));
    CHECK(f.api.requests.empty());
  }
  SECTION("another authority") {
    access.tls_server_name = "another.example";
    access.authorities.text = Certificate("", nullptr).pem();
    f.start(access);
    REQUIRE(f.until([&] { return f.recorder.health.find("its certificate is not trusted") != std::string::npos; }));
    CHECK(f.api.requests.empty());
  }
  SECTION("the name that was said to be right") {
    access.tls_server_name = "another.example";
    f.start(access);
    CHECK(f.until([&] { return f.recorder.synced == 1; }));
  }
}

TEST_CASE("a client's certificate, and authorities in a file that is read for each connection") {
  asio::io_context io;
  Certificate authority("", nullptr), server("IP:127.0.0.1", &authority), client("DNS:node", &authority);
  KubeApi api(io, server, &authority);
  KubeFixture f;
  TempDir dir;
  write_file(dir / "ca.crt", Certificate("", nullptr).pem());
  write_file(dir / "client.crt", client.pem());
  write_file(dir / "client.key", client.key_pem());
  KubeAccess access;
  access.server = *casa::parse_location("https://127.0.0.1:" + std::to_string(api.port()));
  access.server.path.clear();
  access.authorities.file = (dir / "ca.crt").string();
  access.certificate.file = (dir / "client.crt").string();
  access.key.file = (dir / "client.key").string();
  f.options.node_name.clear();
  KubernetesSource source(io, access, f.recorder, f.options);
  source.start();
  REQUIRE(casa::test::run_until(
      io, [&] { return f.recorder.health.find("its certificate is not trusted") != std::string::npos; }));
  replace_file(dir / "ca.crt", authority.pem());
  CHECK(casa::test::run_until(io, [&] { return f.recorder.synced == 1; }));
  source.stop();
}

TEST_CASE("a server by name waits for its addresses") {
  KubeFixture f("DNS:api.example");
  KubeAccess access = f.access();
  access.server = *casa::parse_location("https://api.example:" + std::to_string(f.api.port()));
  access.server.path.clear();
  CHECK(access.server.needs_name());
  f.start(access);
  REQUIRE(f.until([&] { return f.recorder.health.find("its host has no address") != std::string::npos; }));
  f.source->set_addresses({*casa::parse_ip("127.0.0.1")});
  CHECK(f.until([&] { return f.recorder.synced == 1 && f.recorder.health.empty(); }));
}

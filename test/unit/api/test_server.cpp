// The server over real sockets: curl, keep-alive, pipelining, HEAD, HTTP/1.0, the end of it.
#include <sys/stat.h>

#include <array>
#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>
#include <cstdio>

#include "server_fixture.h"

using namespace casa;
using namespace casa::api;
using namespace casa::test;
using Catch::Matchers::ContainsSubstring;
using Catch::Matchers::StartsWith;

namespace {

std::string shell(const std::string& command) {
  std::string out;
  std::FILE* pipe = ::popen((command + " 2>&1").c_str(), "r");
  REQUIRE(pipe != nullptr);
  std::array<char, 4096> buffer{};
  while (std::size_t n = std::fread(buffer.data(), 1, buffer.size(), pipe)) out.append(buffer.data(), n);
  out += "exit " + std::to_string(::pclose(pipe) >> 8);
  return out;
}

std::string curl(const ServerFixture& server, const std::string& rest) {
  return shell("curl -sS -m 20 --unix-socket " + server.path() + " " + rest);
}

std::size_t count(std::string_view text, std::string_view part) {
  std::size_t n = 0;
  for (auto at = text.find(part); at != std::string_view::npos; at = text.find(part, at + part.size())) ++n;
  return n;
}

}  // namespace

TEST_CASE("curl reads it") {
  ServerFixture server;
  CHECK(curl(server, "http://localhost/healthz") == "ok\nexit 0");
  auto out = curl(server, "-i 'http://localhost/v1/flows?verdict=DENIED&limit=1'");
  CHECK_THAT(out, StartsWith("HTTP/1.1 200 OK\r\n") && ContainsSubstring("Content-Type: application/json\r\n") &&
                      ContainsSubstring("Cache-Control: no-store\r\n"));
  CHECK_THAT(out, ContainsSubstring(R"("verdict":"DENIED")") && ContainsSubstring("nextCursor"));
  out = curl(server, "-I http://localhost/v1/status");
  CHECK_THAT(out,
             ContainsSubstring("Content-Length: ") && ContainsSubstring("Date: ") && !ContainsSubstring("version"));
  CHECK_THAT(curl(server, "-i -X DELETE http://localhost/v1/policies"),
             StartsWith("HTTP/1.1 405 ") && ContainsSubstring("Allow: GET, HEAD\r\n") &&
                 ContainsSubstring("application/problem+json"));
  CHECK_THAT(curl(server, "-i -d body http://localhost/v1/policies"),
             StartsWith("HTTP/1.1 405 ") && ContainsSubstring("Connection: close"));
  CHECK_THAT(curl(server, "-i -X GET -d body http://localhost/v1/policies"), StartsWith("HTTP/1.1 413 "));
  CHECK_THAT(curl(server, "-i -X GET -H 'Expect: 100-continue' -d body http://localhost/v1/policies"),
             StartsWith("HTTP/1.1 413 "));
  CHECK_THAT(curl(server,
                  "-i -G --data-urlencode 'workload=team-a/agent' --data-urlencode 'since=2020-01-01T00:00:00+01:00' "
                  "http://localhost/v1/flows"),
             StartsWith("HTTP/1.1 200 "));
  CHECK_THAT(curl(server, "-i --path-as-is http://localhost/../../etc/passwd"), StartsWith("HTTP/1.1 404 "));
  CHECK_THAT(curl(server, "-i -H 'X: " + std::string(17'000, 'y') + "' http://localhost/healthz"),
             StartsWith("HTTP/1.1 431 "));
  CHECK_THAT(curl(server, "-i --http2 http://localhost/healthz"), StartsWith("HTTP/1.1 200 OK"));
  CHECK_THAT(curl(server, "-v http://localhost/healthz http://localhost/v1/stats http://localhost/v1/none"),
             ContainsSubstring("Re-using existing connection"));
}

TEST_CASE("a body of 8 MB that is not wanted does not hide the answer") {
  ServerFixture server;
  auto sent = shell("head -c 8000000 /dev/zero | curl -sS -i -m 20 --unix-socket " + server.path() +
                    " -X POST -H 'Expect:' -T - http://localhost/v1/flows");
  CHECK_THAT(sent, StartsWith("HTTP/1.1 405 "));
  std::string big(8 << 20, 'x');
  Fd fd = connect_to(server.path());
  send_text(fd, "POST /v1/flows HTTP/1.1\r\nHost: x\r\nContent-Length: 8388608\r\n\r\n");
  send_text(fd, big);
  CHECK_THAT(read_all(fd), StartsWith("HTTP/1.1 405 "));
}

TEST_CASE("keep-alive, pipelining and HEAD") {
  ServerFixture server;
  std::string request = "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n", all;
  for (int i = 0; i < 500; ++i) all += request;
  all += "HEAD /v1/flows HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
  auto out = server.exchange(all);
  CHECK(count(out, "HTTP/1.1 200 OK") == 501);
  CHECK(count(out, "ok\n") == 500);
  CHECK(out.ends_with("\r\n\r\n"));
}

TEST_CASE("a request in single bytes, and one after an answer") {
  ServerFixture server;
  Fd fd = connect_to(server.path());
  for (char c : std::string("GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")) send_text(fd, std::string_view(&c, 1));
  std::array<char, 4096> buffer{};
  REQUIRE(::recv(fd.get(), buffer.data(), buffer.size(), 0) > 0);
  send_text(fd, "GET /v1/stats HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
  CHECK_THAT(read_all(fd), ContainsSubstring("deniedByReason"));
}

TEST_CASE("HTTP/1.0 is answered and closed") {
  ServerFixture server;
  auto out = server.exchange("GET /healthz HTTP/1.0\r\n\r\n");
  CHECK_THAT(out, StartsWith("HTTP/1.0 200 OK\r\n"));
  CHECK(out.ends_with("ok\n"));
}

TEST_CASE("a half-closed client gets its answer") {
  ServerFixture server;
  Fd fd = connect_to(server.path());
  send_text(fd, "GET /v1/flows HTTP/1.1\r\nHost: x\r\n\r\n");
  ::shutdown(fd.get(), SHUT_WR);
  CHECK_THAT(read_all(fd), ContainsSubstring("items"));
}

TEST_CASE("an answer of 1000 rows comes whole") {
  ServerFixture server;
  server.run([&] {
    for (std::uint64_t i = 10; i < 2000; ++i)
      server.state.history.add(flow(i, CASA_ALLOWED, CASA_REASON_ENDPOINT_ALLOWED, std::chrono::system_clock::now()));
  });
  auto out = server.exchange("GET /v1/flows?limit=1000 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
  CHECK(count(out, R"("id":)") == 1000);
}

TEST_CASE("a defect in an answer is a 500 of that client") {
  ServerFixture server;
  server.run([&] { server.state.explain_throws = true; });
  auto out = server.exchange(
      "GET /v1/explain?from=a/b&to=c:1 HTTP/1.1\r\nHost: x\r\n\r\n"
      "GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
  CHECK_THAT(out, StartsWith("HTTP/1.1 500 ") && ContainsSubstring("200 OK") && !ContainsSubstring("a defect"));
}

TEST_CASE("stop ends every session at once, removes the socket, and start works again") {
  ServerFixture server;
  std::vector<Fd> idle;
  for (int i = 0; i < 20; ++i) idle.push_back(connect_to(server.path()));
  send_text(idle[0], "GET /heal");
  CHECK(curl(server, "http://localhost/healthz") == "ok\nexit 0");
  auto start = std::chrono::steady_clock::now();
  server.run([&] { server.server->stop(); });
  for (const auto& fd : idle) CHECK(read_all(fd).empty());
  CHECK(std::chrono::steady_clock::now() - start < std::chrono::seconds(1));
  CHECK_FALSE(std::filesystem::exists(server.path()));
  server.run([&] { CHECK(server.server->start()); });
  CHECK(curl(server, "http://localhost/healthz") == "ok\nexit 0");
  server.run([&] {
    Server second(server.io, server.state, server.options);
    auto refused = second.start();
    REQUIRE_FALSE(refused);
    CHECK(refused.error().code == ErrorCode::kBusy);
  });
  CHECK(curl(server, "http://localhost/healthz") == "ok\nexit 0");
}

TEST_CASE("an io_context that goes first, with sessions half-way, leaks and breaks nothing") {
  TempDir dir;
  FakeState state;
  auto io = std::make_unique<boost::asio::io_context>();
  ServerOptions options{.socket_path = dir.file("s")};
  auto server = std::make_unique<Server>(*io, state, options);
  REQUIRE(server->start());
  Fd fd = connect_to(options.socket_path);
  send_text(fd, "GET /healthz HTT");
  io->run_for(std::chrono::milliseconds(50));
  server->stop();
  server.reset();
  io.reset();
  CHECK(read_all(fd).empty());
}

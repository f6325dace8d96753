// Clients that mean harm or are broken: each costs at most what server.h says, and the next one is served.
#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>
#include <random>

#include "server_fixture.h"

using namespace casa;
using namespace casa::api;
using namespace casa::test;
using Catch::Matchers::ContainsSubstring;
using Catch::Matchers::StartsWith;
using std::chrono::milliseconds;
using std::chrono::steady_clock;

namespace {

constexpr const char* kGood = "GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";

void check_serves(const ServerFixture& server) { CHECK_THAT(server.exchange(kGood), StartsWith("HTTP/1.1 200 OK")); }

milliseconds time_to_close(const Fd& fd) {
  auto start = steady_clock::now();
  read_all(fd);
  return std::chrono::duration_cast<milliseconds>(steady_clock::now() - start);
}

}  // namespace

TEST_CASE("the limits are those that are documented") {
  CHECK(kMaxConnections == 64);
  CHECK(kMaxHeaderBytes == 16 * 1024);
  CHECK(kIdleTimeout == std::chrono::seconds(10));
  CHECK(kHeaderTimeout == std::chrono::seconds(5));
  CHECK(kWriteTimeout == std::chrono::seconds(10));
}

TEST_CASE("what is not HTTP gets 400 and is closed") {
  ServerFixture server;
  for (std::string_view bad :
       {"\r\n\r\n", "GET\r\n\r\n", "GET /healthz\r\n\r\n", "GET /healthz HTTP/1.1\r\nHost : x\r\n\r\n",
        "GET /healthz HTTP/1.1\r\nHost x\r\n\r\n", "GET  /healthz HTTP/1.1\r\nHost: x\r\n\r\n",
        "GET /healthz HTTP/1.1\nHost: x\n\n", "GET /a b HTTP/1.1\r\nHost: x\r\n\r\n", "hello\r\n\r\n",
        "GET /healthz HTTP/1.1\r\n\r\n", "GET /healthz HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        "GET /\x01 HTTP/1.1\r\nHost: x\r\n\r\n",
        "GET /v1/flows?limit=%00 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        "GET * HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"}) {
    CAPTURE(bad);
    auto out = server.exchange(bad);
    CHECK_THAT(out, StartsWith("HTTP/1.1 400 "));
    CHECK_THAT(out, ContainsSubstring("application/problem+json") && ContainsSubstring("Connection: close"));
  }
  CHECK_THAT(server.exchange("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), StartsWith("HTTP/1.1 400 "));
  CHECK_THAT(server.exchange(std::string_view("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 15)),
             StartsWith("HTTP/1.1 400 "));
  check_serves(server);
}

TEST_CASE("request smuggling: a body, however announced, ends the connection; what follows it is never a request") {
  ServerFixture server;
  std::string hidden = "GET /v1/stats HTTP/1.1\r\nHost: x\r\n\r\n";
  for (std::string headers : {"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
                              "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
                              "Content-Length: 0\r\nTransfer-Encoding: chunked\r\n",
                              "Content-Length: 5\r\nContent-Length: 6\r\n",
                              "Content-Length: 5, 6\r\n",
                              "Content-Length: -1\r\n",
                              "Content-Length: +5\r\n",
                              "Content-Length: 0x5\r\n",
                              "Content-Length: 99999999999999999999999\r\n",
                              "Content-Length:\r\n",
                              "Transfer-Encoding: identity\r\n",
                              "Transfer-Encoding: xchunked\r\n",
                              "Transfer-Encoding: chunked, identity\r\n",
                              "Transfer-Encoding:\r\n",
                              "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n",
                              "Content-Length : 5\r\n",
                              "Transfer-Encoding : chunked\r\n",
                              "Transfer-Encoding\t: chunked\r\n",
                              "X: y\r\n\tTransfer-Encoding: chunked\r\nContent-Length: 3\r\n",
                              "Content-Length: 36\r\n"}) {
    for (const char* method : {"GET", "HEAD", "POST"}) {
      CAPTURE(headers, method);
      auto out = server.exchange(std::string(method) + " /healthz HTTP/1.1\r\nHost: x\r\n" + headers + "\r\n0\r\n\r\n" +
                                 hidden);
      bool refused =
          out.starts_with("HTTP/1.1 400 ") || out.starts_with("HTTP/1.1 413 ") || out.starts_with("HTTP/1.1 405 ");
      CHECK(refused);
      CHECK_THAT(out, ContainsSubstring("Connection: close") && !ContainsSubstring("deniedByReason"));
      CHECK(out.find("Date: ") == out.rfind("Date: "));  // one answer
    }
  }
  check_serves(server);
}

TEST_CASE("headers are bounded") {
  ServerFixture server;
  std::string just = "GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\nX: ";
  just += std::string(kMaxHeaderBytes - just.size() - 4, 'y') + "\r\n\r\n";
  REQUIRE(just.size() == kMaxHeaderBytes);
  CHECK_THAT(server.exchange(just), StartsWith("HTTP/1.1 200 "));
  just.insert(just.size() - 4, "y");
  CHECK_THAT(server.exchange(just), StartsWith("HTTP/1.1 431 "));
  CHECK_THAT(server.exchange("GET /" + std::string(1 << 20, 'a') + " HTTP/1.1\r\n\r\n"), StartsWith("HTTP/1.1 431 "));
  Fd patient = connect_to(server.path());  // never much at once
  send_text(patient, "GET /healthz HTTP/1.1\r\n");
  for (int i = 0; i < 170; ++i) {
    send_text(patient, "A: " + std::string(100, 'b') + "\r\n");
    std::this_thread::sleep_for(milliseconds(1));
  }
  CHECK_THAT(read_all(patient), StartsWith("HTTP/1.1 431 "));
  std::string many = "GET /healthz HTTP/1.1\r\n";
  for (int i = 0; i < 100'000; ++i) many += "A: b\r\n";
  CHECK_THAT(server.exchange(many), StartsWith("HTTP/1.1 431 "));
  check_serves(server);
}

TEST_CASE("a client that sends its headers slowly is cut off at the header timeout", "[slow]") {
  ServerFixture server;  // the real five seconds
  Fd fd = connect_to(server.path());
  std::thread drip([&] {
    for (char c : std::string("GET /healthz HTTP/1.1\r\nA: bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb")) {
      if (::send(fd.get(), &c, 1, MSG_NOSIGNAL) != 1) return;
      std::this_thread::sleep_for(milliseconds(200));
    }
  });
  auto took = time_to_close(fd);
  drip.join();
  CHECK(took > milliseconds(4500));
  CHECK(took < milliseconds(6500));
  check_serves(server);
}

TEST_CASE("idle clients and clients that do not read are cut off") {
  Limits limits;
  limits.idle = milliseconds(200);
  limits.write = milliseconds(300);
  ServerFixture server(limits);
  Fd silent = connect_to(server.path());
  auto took = time_to_close(silent);
  CHECK(took > milliseconds(150));
  CHECK(took < milliseconds(2000));

  server.run([&] {
    for (std::uint64_t i = 10; i < 2000; ++i)
      server.state.history.add(flow(i, CASA_ALLOWED, CASA_REASON_ENDPOINT_ALLOWED, std::chrono::system_clock::now()));
  });
  Fd greedy = connect_to(server.path());
  std::string request = "GET /v1/flows?limit=1000 HTTP/1.1\r\nHost: x\r\n\r\n", all;
  for (int i = 0; i < 50; ++i) all += request;
  send_text(greedy, all);
  std::this_thread::sleep_for(milliseconds(800));
  check_serves(server);
  CHECK(read_all(greedy).size() < 2 << 20);  // what was in the socket, not 50 answers
}

TEST_CASE("200 connections at once: 64 are served, the others are told or closed, then all is well") {
  ServerFixture server;
  std::vector<Fd> clients;
  for (int i = 0; i < 200; ++i) {
    clients.push_back(connect_to(server.path()));
    REQUIRE(clients.back());
  }
  std::size_t held = 0, told = 0, closed = 0;
  std::this_thread::sleep_for(milliseconds(300));
  for (auto& fd : clients) {
    pollfd ready{fd.get(), POLLIN, 0};
    if (::poll(&ready, 1, 0) == 0) {
      ++held;
      continue;
    }
    auto out = read_all(fd);
    if (out.empty()) ++closed;
    else if (out.starts_with("HTTP/1.1 503 ") && out.find("Retry-After: 1") != std::string::npos) ++told;
  }
  CHECK(held == kMaxConnections);
  CHECK(told >= kMaxTurnedAway);
  CHECK(held + told + closed == 200);
  for (auto& fd : clients) send_text(fd, kGood);
  std::size_t served = 0;
  for (auto& fd : clients) served += read_all(fd).starts_with("HTTP/1.1 200 ") ? 1 : 0;
  CHECK(served == kMaxConnections);
  clients.clear();
  std::this_thread::sleep_for(milliseconds(50));
  check_serves(server);
}

TEST_CASE("connections that come and go, whole and half, 3000 times") {
  ServerFixture server;
  std::mt19937 random(3);
  for (int i = 0; i < 3000; ++i) {
    Fd fd = connect_to(server.path());
    std::string_view request = kGood;
    send_text(fd, request.substr(0, random() % request.size()));
    if (i % 3 == 0) ::shutdown(fd.get(), SHUT_RDWR);
  }
  std::this_thread::sleep_for(milliseconds(200));
  check_serves(server);
}

TEST_CASE("random bytes and mutated requests") {
  Limits limits;
  limits.header = milliseconds(100);
  limits.linger = milliseconds(20);
  ServerFixture server(limits);
  std::mt19937 random(11);
  const std::string good =
      "GET /v1/flows?verdict=DENIED&limit=5&since=15m HTTP/1.1\r\nHost: localhost\r\nAccept: */*\r\nConnection: "
      "close\r\n\r\n";
  for (int i = 0; i < 1500; ++i) {
    std::string request = good;
    if (i % 3 == 0) {
      request.resize(random() % 300);
      for (char& c : request) c = static_cast<char>(random());
    } else {
      for (unsigned n = 1 + random() % 6; n > 0; --n) request[random() % request.size()] = static_cast<char>(random());
    }
    Fd fd = connect_to(server.path());
    send_text(fd, request);
    ::shutdown(fd.get(), SHUT_WR);
    auto out = read_all(fd);
    CHECK((out.empty() || out.starts_with("HTTP/1.")));
  }
  check_serves(server);
}

// /v1/events over a real socket: what comes, going on after a gap, filters, slow and dead clients, limits, the end.
#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>
#include <map>

#include "server_fixture.h"

using namespace casa;
using namespace casa::test;
using namespace std::chrono_literals;
using Catch::Matchers::ContainsSubstring;
using Catch::Matchers::StartsWith;

namespace {

struct Event {
  std::string id, kind, data;
  bool comment = false;
};

// A client that reads event by event.
class Stream {
 public:
  Stream(const std::string& path, const std::string& target, const std::string& last_id = "") : fd_(connect_to(path)) {
    send_text(fd_, "GET " + target + " HTTP/1.1\r\nHost: x\r\n" +
                       (last_id.empty() ? "" : "Last-Event-ID: " + last_id + "\r\n") + "\r\n");
  }
  std::string head() { return take("\r\n\r\n"); }
  // The head, and the first block, which only says how soon to come back.
  void begin() {
    REQUIRE_THAT(head(), StartsWith("HTTP/1.1 200 OK"));
    REQUIRE(take("\n\n") == "retry: 2000");
  }
  Event next() {
    Event event;
    std::string block = take("\n\n");
    for (std::size_t at = 0; at < block.size();) {
      auto end = std::min(block.find('\n', at), block.size());
      std::string line = block.substr(at, end - at);
      at = end + 1;
      if (line.starts_with("id: ")) event.id = line.substr(4);
      else if (line.starts_with("event: ")) event.kind = line.substr(7);
      else if (line.starts_with("data: ")) event.data = line.substr(6);
      else if (line.starts_with(":")) event.comment = true;
      else FAIL("no line of an event: " << line);
    }
    return event;
  }
  std::string rest() { return buffer_ + read_all(fd_); }
  void close() { fd_ = Fd(); }
  const Fd& fd() const { return fd_; }

 private:
  std::string take(std::string_view end) {
    for (;;) {
      if (auto at = buffer_.find(end); at != std::string::npos) {
        std::string out = buffer_.substr(0, at);
        buffer_.erase(0, at + end.size());
        return out;
      }
      pollfd ready{fd_.get(), POLLIN, 0};
      if (::poll(&ready, 1, 20'000) <= 0) throw std::runtime_error("nothing more comes; so far: " + buffer_);
      char more[65536];
      ssize_t n = ::recv(fd_.get(), more, sizeof more, 0);
      if (n <= 0) throw std::runtime_error("the stream ended; so far: " + buffer_);
      buffer_.append(more, static_cast<std::size_t>(n));
    }
  }
  Fd fd_;
  std::string buffer_;
};

void publish(ServerFixture& server, int count, std::uint8_t token = 0xab) {
  server.run([&] {
    for (int i = 0; i < count; ++i) server.state.news.publish(sighting(token, std::chrono::system_clock::now()), 7);
  });
}

// A slot is free again as soon as the server has noticed.
bool becomes_200(const ServerFixture& server) {
  for (int i = 0; i < 200; ++i) {
    Stream stream(server.path(), "/v1/events");
    if (stream.head().starts_with("HTTP/1.1 200")) return true;
    std::this_thread::sleep_for(10ms);
  }
  return false;
}

}  // namespace

TEST_CASE("events: news come as they happen") {
  ServerFixture server;
  Stream stream(server.path(), "/v1/events");
  stream.begin();
  server.run([&] {
    server.state.news.publish(*server.state.history.find(1));
    server.state.news.publish(sighting(0xab, at("2026-11-24T02:00:00Z")), 7);
    server.state.news.publish(*server.state.tracker.alerts().query({}, 1, 0).rows[0]);
  });
  Event flow = stream.next(), seen = stream.next(), alert = stream.next();
  CHECK(flow.kind == "flow");
  CHECK(flow.id == "100-1");
  CHECK_THAT(flow.data, StartsWith(R"({"id":"1",)"));
  CHECK(seen.kind == "sighting");
  CHECK(seen.id == "100-2");
  CHECK_THAT(seen.data, ContainsSubstring(R"("event":"use","request":"POST /mcp","sha256":"abab)"));
  CHECK_THAT(seen.data, ContainsSubstring(R"("flow":"7")"));
  CHECK(alert.kind == "alert");
  CHECK(alert.id == "100-3");
  CHECK_THAT(alert.data, ContainsSubstring(R"("kind":"ambiguous_http")"));
  publish(server, 1);
  CHECK(stream.next().id == "100-4");
}

TEST_CASE("events: the head says what it is") {
  ServerFixture server;
  Stream stream(server.path(), "/v1/events");
  std::string head = stream.head();
  CHECK_THAT(head, ContainsSubstring("Content-Type: text/event-stream"));
  CHECK_THAT(head, ContainsSubstring("Cache-Control: no-store"));
  CHECK_THAT(head, ContainsSubstring("Connection: close"));
  CHECK_THAT(head, !ContainsSubstring("Content-Length"));
  std::string only_head = server.exchange("HEAD /v1/events HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
  CHECK_THAT(only_head, ContainsSubstring("text/event-stream"));
  CHECK_THAT(server.exchange("GET /v1/events?kind=flow,tokens HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"),
             ContainsSubstring("It is one of: flow, sighting, alert."));
  CHECK_THAT(server.exchange("GET /v1/events?since=1h HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"),
             StartsWith("HTTP/1.1 400"));
}

TEST_CASE("events: a client goes on where it was, and is told what it missed") {
  ServerFixture server;
  publish(server, 3);
  Stream known(server.path(), "/v1/events", "100-1");
  known.begin();
  CHECK(known.next().id == "100-2");
  CHECK(known.next().id == "100-3");
  publish(server, 1500);  // the ring holds 1000
  Stream late(server.path(), "/v1/events", "100-3");
  late.begin();
  Event lost = late.next();
  CHECK(lost.kind == "lost");
  CHECK(lost.data == R"({"count":500})");
  CHECK(lost.id == "100-503");
  CHECK(late.next().id == "100-504");
  for (const char* other : {"99-3", "100-9999", "nonsense", "100-", "100-18446744073709551615"}) {
    Stream stranger(server.path(), "/v1/events", other);
    stranger.begin();
    lost = stranger.next();
    CHECK(lost.kind == "lost");
    CHECK(lost.data == "{}");  // how much is not known
    CHECK(stranger.next().id == "100-504");
  }
  Stream fresh(server.path(), "/v1/events");
  fresh.begin();
  publish(server, 1);
  CHECK(fresh.next().id == "100-1504");
}

TEST_CASE("events: filters hold together") {
  ServerFixture server;
  auto first = [&](const std::string& query) {
    Stream stream(server.path(), "/v1/events" + query, "100-0");
    stream.begin();
    return stream.next().id;
  };
  server.run([&] {
    auto& news = server.state.news;
    news.publish(sighting(1, {}), 0);
    auto other = sighting(2, {});
    other.flow.source = party(workload("team-b", "agent"));
    news.publish(other, 0);
    auto row = *server.state.history.find(1);
    row.flow.source = party(workload("team-b", "third"));
    news.publish(row);
    auto alert = *server.state.tracker.alerts().query({.kind = token::AlertKind::kReplay}, 1, 0).rows[0];
    news.publish(alert);
  });
  CHECK(first("") == "100-1");
  CHECK(first("?kind=sighting") == "100-1");
  CHECK(first("?kind=flow") == "100-3");
  CHECK(first("?kind=alert,flow") == "100-3");
  CHECK(first("?kind=alert") == "100-4");
  CHECK(first("?namespace=team-b") == "100-2");
  CHECK(first("?namespace=team-b&kind=flow") == "100-3");
  CHECK(first("?workload=team-b/third") == "100-3");
  CHECK(first("?workload=mcp-server") == "100-1");
  CHECK(first("?workload=rogue") == "100-4");
}

TEST_CASE("events: a slow client costs nothing, and is told what it missed") {
  ServerFixture server;
  Stream slow(server.path(), "/v1/events");
  slow.begin();
  constexpr std::uint64_t kPublished = 20'000;
  for (std::uint64_t i = 0; i < kPublished; i += 100) publish(server, 100);
  std::uint64_t got = 0, lost = 0;
  while (got + lost < kPublished) {
    Event event = slow.next();
    if (event.kind == "lost") lost += std::stoul(event.data.substr(event.data.find(':') + 1));
    else ++got;
    REQUIRE(event.id == "100-" + std::to_string(got + lost));
  }
  CHECK(lost > 0);
  CHECK(got >= 1000);
}

TEST_CASE("events: a client that reads nothing at all is let go") {
  api::Limits limits;
  limits.write = 200ms;
  limits.streams = 1;
  ServerFixture server(limits);
  Stream dead(server.path(), "/v1/events");
  dead.begin();
  for (int i = 0; i < 10; ++i) publish(server, 1000);  // more than a socket's buffer holds
  CHECK(becomes_200(server));
}

TEST_CASE("events: a comment now and then, also while others have news") {
  api::Limits limits;
  limits.heartbeat = 50ms;
  ServerFixture server(limits);
  Stream quiet(server.path(), "/v1/events?kind=alert");
  quiet.begin();
  Event beat = quiet.next();
  CHECK(beat.comment);
  CHECK(beat.kind.empty());
  CHECK(beat.id == "100-0");
  for (int i = 0; i < 30; ++i) {
    publish(server, 1);
    std::this_thread::sleep_for(5ms);
  }
  beat = quiet.next();
  CHECK(beat.comment);
  for (int i = 0; i < 5; ++i) beat = quiet.next();
  CHECK(beat.id == "100-30");  // what it did not ask for, it did not miss
}

TEST_CASE("events: streams are bounded, and leave room for questions") {
  api::Limits limits;
  limits.streams = 2;
  ServerFixture server(limits);
  Stream one(server.path(), "/v1/events"), two(server.path(), "/v1/events");
  one.begin();
  two.begin();
  std::string refused = server.exchange("GET /v1/events HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
  CHECK_THAT(refused, StartsWith("HTTP/1.1 503"));
  CHECK_THAT(refused, ContainsSubstring("streams events to 2 clients"));
  CHECK_THAT(server.exchange("GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"),
             StartsWith("HTTP/1.1 200"));
  one.close();  // noticed at once, not at the next event
  CHECK(becomes_200(server));
}

TEST_CASE("events: a client that goes on sending ends its stream") {
  ServerFixture server;
  Stream stream(server.path(), "/v1/events");
  stream.begin();
  send_text(stream.fd(), "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n");
  CHECK(stream.rest().empty());
}

TEST_CASE("events: the server's end is the streams' end, at once") {
  ServerFixture server;
  std::vector<std::unique_ptr<Stream>> streams;
  for (int i = 0; i < 10; ++i) {
    streams.push_back(std::make_unique<Stream>(server.path(), "/v1/events"));
    streams.back()->begin();
  }
  auto start = std::chrono::steady_clock::now();
  server.run([&] { server.server->stop(); });
  for (auto& stream : streams) CHECK(stream->rest().empty());
  CHECK(std::chrono::steady_clock::now() - start < 1s);
  publish(server, 10);  // and nobody is woken who is not there any more
}

// Writes to an API server over TLS: what becomes of each is told once, later, in its order.
#include <boost/asio/post.hpp>

#include "kube_fixture.h"
#include "source/kube_writer.h"

using namespace casa;
using namespace casa::source;
using namespace casa::source::test;

namespace {

KubeRequest patch(const std::string& body) {
  KubeRequest request;
  request.method = boost::beast::http::verb::patch;
  request.target = "/apis/casa.io/v1alpha1/namespaces/a/casapolicies/p/status";
  request.content_type = "application/apply-patch+yaml";
  request.body = body;
  return request;
}

struct Writes : KubeFixture {
  void start(KubeAccess with) {
    KubeTimeouts timeouts;
    timeouts.connect = timeouts.request = 500ms;
    writer = std::make_unique<KubeWriter>(io, std::move(with), timeouts);
  }
  bool send(const std::string& body) {
    return writer->send(patch(body), [this](const Status& outcome) { outcomes.push_back(outcome); });
  }
  bool until_told(std::size_t count) {
    return until([&] { return outcomes.size() >= count; });
  }
  std::unique_ptr<KubeWriter> writer;
  std::vector<Status> outcomes;
};

}  // namespace

TEST_CASE("writes go out one after the other, and an error has the server's words") {
  Writes f;
  f.start(f.access());
  REQUIRE(f.send("one"));
  REQUIRE(f.send("two"));
  CHECK(f.writer->waiting() == 2);
  REQUIRE(f.until_told(2));
  CHECK((f.outcomes[0] && f.outcomes[1]));
  REQUIRE(f.api.requests.size() == 2);
  CHECK(f.api.requests[0].body == "one");
  CHECK(f.api.requests[1].body == "two");
  CHECK(f.api.requests[1].method == "PATCH");
  CHECK(f.api.connections == 1);
  for (auto [status, code] :
       {std::pair(404u, ErrorCode::kNotFound), {429u, ErrorCode::kLimit}, {409u, ErrorCode::kSystem}}) {
    f.api.write_status = status;
    f.outcomes.clear();
    REQUIRE(f.send("again"));
    REQUIRE(f.until_told(1));
    REQUIRE_FALSE(f.outcomes[0]);
    CHECK(f.outcomes[0].error().code == code);
    CHECK(f.outcomes[0].error().context == "the API server answered " + std::to_string(status) + ": not this time");
  }
}

TEST_CASE("nothing is told from within send, also when nothing had to be waited for") {
  Writes f;
  KubeAccess access = f.access();
  access.authorities.text.clear();
  access.authorities.file = "/nowhere/ca.crt";
  f.start(access);
  bool sent = false, told_within = true;
  boost::asio::post(f.io, [&] {
    sent = f.send("x");
    told_within = !f.outcomes.empty();
  });
  REQUIRE(f.until_told(1));
  CHECK(sent);
  CHECK_FALSE(told_within);
  REQUIRE_FALSE(f.outcomes[0]);
  CHECK(f.outcomes[0].error().context.find("/nowhere/ca.crt") != std::string::npos);
  // And the next one is tried by itself.
  REQUIRE(f.send("y"));
  CHECK(f.until_told(2));
}

TEST_CASE("a connection that the server closed while it was at rest fails no write") {
  Writes f;
  f.start(f.access());
  REQUIRE(f.send("one"));
  REQUIRE(f.until_told(1));
  f.api.drop();
  f.run_for(20ms);
  REQUIRE(f.send("two"));
  REQUIRE(f.until_told(2));
  CHECK((f.outcomes[0] && f.outcomes[1]));
  CHECK(f.api.connections == 2);
  CHECK(f.api.requests.size() == 2);
}

TEST_CASE("so many wait and no more; none is told of after stop") {
  Writes f;
  f.start(f.access());
  f.api.holds_writes = true;
  REQUIRE(f.send("under way"));
  REQUIRE(f.until([&] { return f.api.requests.size() == 1; }));
  for (std::size_t i = 0; i < KubeWriter::kMaxWaiting; ++i) REQUIRE(f.send("waits"));
  CHECK_FALSE(f.send("one too many"));
  f.writer->stop();
  f.api.holds_writes = false;
  f.run_for(50ms);
  CHECK(f.outcomes.empty());
  CHECK(f.api.requests.size() == 1);
  CHECK_FALSE(f.send("late"));
}

TEST_CASE("whoever is told may end the writer") {
  Writes f;
  f.start(f.access());
  unsigned told = 0;
  for (int i = 0; i < 2; ++i)
    REQUIRE(f.writer->send(patch("x"), [&](const Status&) {
      ++told;
      f.writer.reset();
    }));
  REQUIRE(f.until([&] { return told != 0; }));
  f.run_for(20ms);
  CHECK(told == 1);
}

// What the status writer sends to an API server, and when: over TLS, to one that a test holds back.
#include <boost/asio/post.hpp>

#include "../source/kube_fixture.h"
#include "app/status_writer.h"

using namespace std::chrono_literals;
using casa::app::StatusTimes;
using casa::app::StatusWriter;
using casa::source::KubeAccess;
using casa::source::test::KubeApi;
using casa::source::test::KubeFixture;

namespace {

struct Statuses : KubeFixture {
  explicit Statuses(std::optional<KubeAccess> with = {})
      : writer(io, with ? *with : access(), "n1", [this](std::string text) { problem = std::move(text); }) {
    compiled.policies.emplace_back();
    auto& report = compiled.policies.back();
    report.kind = "CASAPolicy";
    report.name = {"a", "p"};
    report.target = "StatefulSet/agent";
    report.phase = casa::compile::Phase::kFailed;
    report.notes = {"one"};
    learn();
  }
  void learn(const std::string& uid = "u1", const std::string& phase = "", const std::string& message = "") {
    (void)writer.learn({.ns = "a", .name = "p", .uid = uid, .generation = 1, .phase = phase, .message = message});
  }
  void say(const std::string& note) { compiled.policies.back().notes = {note}; }
  // As the daemon does, `later` than the last time.
  void follow(std::chrono::milliseconds later = 0ms) { writer.follow(compiled, snapshot, now += later); }
  [[nodiscard]] std::vector<KubeApi::Request> writes() const {
    std::vector<KubeApi::Request> found;
    for (const auto& request : api.requests)
      if (request.method == "PATCH") found.push_back(request);
    return found;
  }
  // Planned, and due.
  bool write() {
    std::size_t before = writes().size();
    follow();
    follow(StatusTimes{}.settle);
    return until([&] { return writes().size() > before; }, 5s);
  }
  bool until_written(std::uint64_t count) {
    return until([&] { return writer.written() == count; });
  }

  casa::compile::Compiled compiled;
  casa::identity::Snapshot snapshot;
  StatusWriter::Clock::time_point now = StatusWriter::Clock::now();
  std::string problem;
  StatusWriter writer;
};

bool says(const KubeApi::Request& request, const std::string& text) {
  return request.body.find(text) != std::string::npos;
}

}  // namespace

TEST_CASE("a status is written once, for the policy that it is of, and a failure is told as an Event") {
  Statuses f;
  f.follow();
  f.run_for(20ms);
  CHECK(f.writes().empty());  // changes that come together are one
  REQUIRE(f.write());
  REQUIRE(f.until_written(1));
  auto sent = f.writes().at(0);
  CHECK(sent.path == "/apis/casa.io/v1alpha1/namespaces/a/casapolicies/p/status");
  CHECK(sent.query.at("fieldManager") == "casad");
  CHECK(says(sent, R"("uid":"u1")"));
  CHECK(says(sent, R"("phase":"Failed")"));
  CHECK(says(sent, R"("message":"one")"));
  REQUIRE(f.until([&] { return f.api.asked("/api/v1/namespaces/a/events") == 1; }));
  CHECK(says(f.api.requests.back(), R"("reason":"PolicyFailed")"));
  f.follow(60s);
  f.follow(60s);
  f.run_for(20ms);
  CHECK(f.writes().size() == 1);
  CHECK(f.problem.empty());
}

TEST_CASE("what changes while a write is under way is written too") {
  bool told_early = GENERATE(false, true);
  Statuses f;
  f.api.holds_writes = true;
  REQUIRE(f.write());
  if (told_early) f.learn("u1", "Failed", "one");
  f.say("two");
  f.follow();
  f.api.holds_writes = false;
  REQUIRE(f.until_written(1));
  f.follow(1s);
  f.follow(10s);
  REQUIRE(f.until_written(2));
  CHECK(says(f.writes().at(1), R"("message":"two")"));
}

TEST_CASE("a policy that was made anew while the old one was written has a status of its own") {
  unsigned status = GENERATE(200u, 409u);
  Statuses f;
  f.api.holds_writes = true;
  f.api.write_status = status;
  REQUIRE(f.write());
  f.writer.forget({"a", "p"});
  f.learn("u2");
  f.follow();
  f.api.holds_writes = false;
  if (status == 200) REQUIRE(f.until_written(1));
  else f.run_for(200ms);
  CHECK(f.problem.empty());
  f.api.write_status = 200;
  f.follow(10s);
  REQUIRE(f.until([&] { return f.writes().size() == 2; }));
  CHECK(says(f.writes().at(1), R"("uid":"u2")"));
}

TEST_CASE("a write that failed is repeated after a while, whatever it failed with") {
  unsigned status = GENERATE(403u, 404u);
  Statuses f;
  f.api.write_status = status;
  REQUIRE(f.write());
  if (status == 404) f.run_for(200ms);  // deleted meanwhile, most likely: no failure
  else REQUIRE(f.until([&] { return f.writer.failed() == 1; }));
  CHECK(f.problem.empty() == (status == 404));
  f.follow(1s);
  f.follow(1s);
  f.run_for(50ms);
  CHECK(f.writes().size() == 1);
  f.api.write_status = 200;
  f.follow(10s);
  CHECK(f.until_written(1));
  CHECK(f.problem.empty());
}

TEST_CASE("a write that fails at once is a failure like others") {
  KubeAccess access;
  access.server = *casa::parse_location("https://127.0.0.1:1");
  access.authorities.file = "/nowhere/ca.crt";
  Statuses f(access);
  f.follow();
  // From the executor, as the daemon does.
  boost::asio::post(f.io, [&] { f.follow(1s); });
  REQUIRE(f.until([&] { return f.writer.failed() == 1; }));
  CHECK(f.problem.find("/nowhere/ca.crt") != std::string::npos);
  boost::asio::post(f.io, [&] { f.follow(12s); });
  CHECK(f.until([&] { return f.writer.failed() == 2; }));
}

// The API server as a source while all is well: lists, pages, packed answers, watches, filters, resources that come later.
#include "kube_fixture.h"

using namespace casa::source;
using namespace casa::source::test;

TEST_CASE("everything is listed, then synced once, and each object comes whole") {
  KubeFixture f;
  f.api.put(kPods, "team-a", "agent-0", R"(,"spec":{"nodeName":"here","x":"a \"quoted\" } text"},"status":{})", "here");
  f.api.put(kPods, "team-a", "agent-1", R"(,"spec":{"nodeName":"there"})", "there");
  f.api.put(kPods, "team-a", "waits", "", "");
  f.api.put(kPods, "team-a", "done-there", "", "there", true);
  f.api.put(kPods, "team-a", "done-here", "", "here", true);
  f.api.put(kPolicies, "team-a", "p");
  f.api.put(kSystems, "team-a", "s");
  f.api.put(kServices, "team-a", "svc");
  f.api.put(kSlices, "team-a", "svc-1");
  f.start();
  REQUIRE(f.until([&] { return f.recorder.synced == 1; }));
  CHECK(f.recorder.log.back() == "synced");
  std::vector<std::string> origins;
  for (const auto& [origin, bytes] : f.recorder.documents) origins.push_back(origin);
  CHECK(origins == Log{"kubernetes:CASAPolicy/team-a/p", "kubernetes:EndpointSlice/team-a/svc-1",
                       "kubernetes:MultiAgentSystem/team-a/s", "kubernetes:Namespace/team-a", "kubernetes:Node/here",
                       "kubernetes:Pod/team-a/agent-0", "kubernetes:Pod/team-a/agent-1",
                       "kubernetes:Pod/team-a/done-here", "kubernetes:Service/team-a/svc"});
  CHECK(f.recorder.documents["kubernetes:Pod/team-a/agent-0"].ends_with(
      R"("},"spec":{"nodeName":"here","x":"a \"quoted\" } text"},"status":{}})"));
  CHECK(f.recorder.documents["kubernetes:Pod/team-a/agent-0"].starts_with(R"({"metadata":{"name":"agent-0",)"));
  CHECK(f.recorder.formats["kubernetes:Node/here"] == Format::kApiObject);
  CHECK(f.recorder.kinds["kubernetes:Node/here"] == "Node");
  CHECK(f.recorder.paths["kubernetes:Node/here"] == "kubernetes:Node/here");
  CHECK(f.recorder.health.empty());
  REQUIRE(f.until([&] { return f.watching(); }));
  CHECK(f.source->last_contact().has_value());
  CHECK(f.resource("Pods of this node").objects == 2);
  CHECK(f.resource("Pods of other nodes").objects == 1);
  CHECK(f.api.connections == 8);
  for (const auto& request : f.api.requests) CHECK(request.token == "t0ken");
}

TEST_CASE("without a node name there is one list of pods, and no Node") {
  KubeFixture f;
  f.options.node_name.clear();
  f.api.put(kPods, "team-a", "agent-0", "", "here");
  f.api.put(kPods, "team-a", "done", "", "here", true);
  f.start_quietly();
  CHECK(f.recorder.documents.contains("kubernetes:Pod/team-a/agent-0"));
  CHECK_FALSE(f.recorder.documents.contains("kubernetes:Pod/team-a/done"));
  CHECK_FALSE(f.recorder.documents.contains("kubernetes:Node/here"));
}

TEST_CASE("lists come in pages, packed or not, cut anywhere") {
  KubeFixture f;
  f.options.page = 3;
  f.api.packed = GENERATE(true, false);
  f.api.chunk = static_cast<std::size_t>(GENERATE(0, 1, 7));
  for (int i = 0; i < 20; ++i)
    f.api.put(kServices, "team-a", "svc-" + std::to_string(i), R"(,"spec":{"t":")" + std::string(300, 'x') + "\"}");
  f.start();
  REQUIRE(f.until([&] { return f.recorder.synced == 1; }));
  CHECK(f.api.asked(kServices, "limit") == 7);
  CHECK(f.resource("Services").objects == 20);
  CHECK(f.recorder.documents["kubernetes:Service/team-a/svc-7"].size() > 300);
}

TEST_CASE("changes come through the watch, gathered, cut anywhere") {
  KubeFixture f;
  f.api.chunk = static_cast<std::size_t>(GENERATE(0, 1, 13));
  f.start_quietly();
  f.api.put(kPods, "team-a", "agent-0", R"(,"spec":{"t":"é\\"})", "here");
  f.api.put(kServices, "team-a", "svc");
  f.api.put(kServices, "team-a", "svc", R"(,"spec":{})");
  // Two watches: which one brings its news first is open.
  REQUIRE(f.until([&] {
    return f.heard("+kubernetes:Service/team-a/svc") == 2 && f.heard("+kubernetes:Pod/team-a/agent-0") == 1 &&
           f.recorder.log.back() == "synced";
  }));
  CHECK(f.recorder.synced <= 3);
  CHECK(f.recorder.documents["kubernetes:Pod/team-a/agent-0"].ends_with(R"(,"spec":{"t":"é\\"}})"));
  f.api.remove(kServices, "team-a", "svc");
  REQUIRE(f.until_heard("-kubernetes:Service/team-a/svc"));
  REQUIRE(f.until([&] { return f.recorder.log.back() == "synced"; }));
  CHECK(f.recorder.log.at(f.recorder.log.size() - 2) == "-kubernetes:Service/team-a/svc");
  CHECK(f.recorder.health.empty());
}

TEST_CASE("a watch that the server ends is taken up where it was, on the same connection") {
  KubeFixture f;
  f.start_quietly();
  f.api.put(kServices, "team-a", "svc");
  REQUIRE(f.until([&] { return f.recorder.synced == 2; }));
  unsigned connections = f.api.connections;
  std::string version = std::to_string(f.api.revision);
  f.run_for(1100ms);  // a shorter life of the other watches would be answered with a pause
  f.api.end_watches = true;
  REQUIRE(f.until([&] { return f.api.asked(kServices, "watch") >= 1; }));
  f.api.end_watches = false;
  f.api.put(kServices, "team-a", "svc-2");
  REQUIRE(f.until_heard("+kubernetes:Service/team-a/svc-2"));
  CHECK(f.api.asked(kServices, "limit") == 0);
  CHECK(f.api.connections <= connections + 1);  // the check's
  for (const auto& request : f.api.requests)
    if (request.path == kServices) {
      CHECK(request.query.at("resourceVersion") == version);
      CHECK(request.query.at("allowWatchBookmarks") == "true");
      int seconds = std::stoi(request.query.at("timeoutSeconds"));
      CHECK((seconds >= 240 && seconds <= 480));
      break;
    }
}

TEST_CASE("a bookmark moves the version, and is no news") {
  KubeFixture f;
  f.start_quietly();
  f.api.bookmark(kServices);
  std::uint64_t marked = f.api.revision;
  f.run_for(100ms);
  CHECK(f.recorder.log.empty());
  f.api.compact();  // only the bookmark can still be watched from
  f.api.drop();
  REQUIRE(f.until([&] { return f.api.asked(kServices, "watch") >= 1 && f.watching(); }));
  CHECK(f.api.asked(kServices, "limit") == 1);  // the look whether it is the same server: no list
  for (const auto& request : f.api.requests)
    if (request.path == kServices && request.query.contains("watch"))
      CHECK(request.query.at("resourceVersion") == std::to_string(marked));
}

TEST_CASE("a name that wanders between nodes is announced consistently, in whatever order its events come") {
  KubeFixture f;
  f.api.put(kPods, "team-a", "agent-0", "", "there");
  f.start_quietly();
  f.api.remove(kPods, "team-a", "agent-0");
  f.api.put(kPods, "team-a", "agent-0", R"(,"spec":{"nodeName":"here"})", "here");
  REQUIRE(f.until_heard("+kubernetes:Pod/team-a/agent-0"));
  f.run_for(100ms);
  CHECK(f.recorder.documents["kubernetes:Pod/team-a/agent-0"].find("here") != std::string::npos);
  CHECK(f.resource("Pods of this node").objects == 1);
  CHECK(f.resource("Pods of other nodes").objects == 0);
  f.api.remove(kPods, "team-a", "agent-0");
  f.api.put(kPods, "team-a", "agent-0", R"(,"spec":{"nodeName":"there"})", "there");
  REQUIRE(f.until([&] { return f.resource("Pods of other nodes").objects == 1; }));
  f.run_for(100ms);
  CHECK(f.recorder.documents["kubernetes:Pod/team-a/agent-0"].find("there") != std::string::npos);
}

TEST_CASE("kinds that the server does not have yet are noted once, and found when they come") {
  KubeFixture f;
  f.api.absent = {kPolicies, kSystems};
  f.start();
  REQUIRE(f.until([&] { return f.recorder.synced == 1; }));
  CHECK(f.recorder.health.empty());
  f.run_for(200ms);
  REQUIRE(f.notes.size() == 2);
  std::ranges::sort(f.notes);
  CHECK(f.notes[0].find("has no CASAPolicies yet") != std::string::npos);
  CHECK(f.notes[1].find("has no MultiAgentSystems yet") != std::string::npos);
  CHECK(f.resource("CASAPolicies").state == KubernetesResource::State::kAbsent);
  f.api.absent.clear();
  f.api.put(kPolicies, "team-a", "p");
  REQUIRE(f.until_heard("+kubernetes:CASAPolicy/team-a/p"));
  REQUIRE(f.until([&] { return f.recorder.synced == 2; }));
  CHECK(f.notes.size() >= 3);
}

TEST_CASE("EndpointSlices of a server that has only v1beta1") {
  KubeFixture f;
  f.api.absent = {kSlices};
  f.api.put(kOldSlices, "team-a", "svc-1");
  f.start_quietly();
  CHECK(f.recorder.documents.contains("kubernetes:EndpointSlice/team-a/svc-1"));
  CHECK(f.notes.empty());
  f.api.remove(kOldSlices, "team-a", "svc-1");
  CHECK(f.until_heard("-kubernetes:EndpointSlice/team-a/svc-1"));
}

TEST_CASE("after stop() nothing is heard, also when the handler calls it") {
  KubeFixture f;
  for (int i = 0; i < 50; ++i) f.api.put(kServices, "team-a", "svc-" + std::to_string(i));
  SECTION("in the middle of the lists") {
    f.start();
    REQUIRE(f.until([&] { return f.recorder.log.size() > 5; }));
    f.source->stop();
  }
  SECTION("from the handler") {
    f.recorder.at_sync = [&] { f.source->stop(); };
    f.start();
    REQUIRE(f.until([&] { return f.recorder.synced == 1; }));
  }
  auto heard = f.recorder.log.size();
  f.api.put(kServices, "team-a", "late");
  f.run_for(200ms);
  CHECK(f.recorder.log.size() == heard);
  f.source.reset();
  f.run_for(20ms);
}

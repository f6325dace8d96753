// Routes, filters, pages and errors, without sockets.
#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>
#include <chrono>
#include <set>

#include <simdjson.h>

#include "api/router.h"
#include "fake_state.h"

using namespace casa;
using namespace casa::api;
using casa::test::FakeState;
using Catch::Matchers::ContainsSubstring;

namespace {

struct Fixture {
  Reply get(const std::string& target) const { return router.handle("GET", target, std::chrono::system_clock::now()); }
  // The values of `field` of all items.
  std::vector<std::string> items(const std::string& target, const char* field) {
    auto reply = get(target);
    CAPTURE(target, reply.body);
    REQUIRE(reply.status == 200);
    std::vector<std::string> out;
    simdjson::dom::element document;
    REQUIRE(parser.parse(reply.body).get(document) == simdjson::SUCCESS);
    for (auto item : document["items"].get_array()) out.emplace_back(std::string_view(item[field]));
    next = document["nextCursor"].error() == simdjson::SUCCESS ? std::string(std::string_view(document["nextCursor"]))
                                                               : "";
    return out;
  }
  FakeState state;
  Router router{state};
  simdjson::dom::parser parser;
  std::string next;
};
using Strings = std::vector<std::string>;

}  // namespace

TEST_CASE_METHOD(Fixture, "every route answers") {
  for (const auto& route : route_table()) {
    std::string target(route.path);
    if (target == "/v1/tokens/{sha256}")
      target = "/v1/tokens/abababababababababababababababababababababababababababababababab";
    if (target == "/v1/explain") target += "?from=team-a/agent&to=tools/mcp-server:8080";
    CHECK(get(target).status == 200);
    CHECK(router.handle("HEAD", target, {}).status == 200);
    CHECK(router.handle("POST", target, {}).status == 405);
    CHECK(get(std::string(route.path) + "?nonsense=1").status == 400);
  }
}

TEST_CASE_METHOD(Fixture, "flows are filtered") {
  CHECK(items("/v1/flows", "id") == Strings{"4", "3", "2", "1"});
  CHECK(items("/v1/flows?verdict=DENIED", "id") == Strings{"4", "2"});
  CHECK(items("/v1/flows?verdict=DENIED&reason=no_listener", "id") == Strings{"4"});
  CHECK(items("/v1/flows?direction=ingress", "id") == Strings{"3"});
  CHECK(items("/v1/flows?since=1h", "id") == Strings{"4", "3", "2"});
  CHECK(items("/v1/flows?until=1h", "id") == Strings{"1"});
  CHECK(items("/v1/flows?namespace=team-a", "id") == Strings{"4", "2", "1"});
  CHECK(items("/v1/flows?workload=tools/mcp-server", "id") == Strings{"3", "1"});
  CHECK(items("/v1/flows?workload=other/mcp-server", "id").empty());
}

TEST_CASE_METHOD(Fixture, "what is not known about a flow is absent") {
  auto body = get("/v1/flows?reason=no_listener").body;
  CHECK_THAT(body, ContainsSubstring(R"("destination":{"kind":"nobody"})"));
  CHECK_THAT(body, !ContainsSubstring("policy") && !ContainsSubstring("bytes"));
  body = get("/v1/flows?verdict=ALLOWED").body;
  CHECK_THAT(
      body,
      ContainsSubstring(
          R"("source":{"namespace":"team-a","workload":"agent","kind":"Deployment","process":{"pid":4242,"comm":"python3"},"address":"10.1.0.1","port":40000})"));
  CHECK_THAT(body, ContainsSubstring(R"("service":"tools/mcp-server")") &&
                       ContainsSubstring(R"("bytes":{"sent":100,"received":0})"));
  CHECK_THAT(get("/v1/flows?verdict=AUDIT").body, ContainsSubstring(R"("source":{"cidr":"10.0.0.0/8","kind":"cidr")"));
}

TEST_CASE_METHOD(Fixture, "flow pages neither repeat nor miss a row while rows are added") {
  for (std::uint64_t i = 10; i < 2510; ++i)
    state.history.add(test::flow(i, CASA_ALLOWED, CASA_REASON_ENDPOINT_ALLOWED, std::chrono::system_clock::now()));
  auto newest = state.history.total_added();
  std::set<std::string> seen;
  std::size_t rows = 0, pages = 0;
  std::string target = "/v1/flows?limit=250&workload=agent";
  for (next = "-"; !next.empty(); ++pages) {
    auto page = items(next == "-" ? target : target + "&cursor=" + next, "id");
    rows += page.size();
    seen.insert(page.begin(), page.end());
    state.history.add(
        test::flow(100'000 + pages, CASA_ALLOWED, CASA_REASON_ENDPOINT_ALLOWED, std::chrono::system_clock::now()));
  }
  CHECK(rows == newest - 1);  // row 3 is not the agent's
  CHECK(seen.size() == rows);
  CHECK(pages == 11);
}

TEST_CASE_METHOD(Fixture, "keyed pages stay right while items come and go") {
  state.many_workloads = 25;
  auto first = items("/v1/workloads?limit=10", "name");
  CHECK(first.size() == 10);
  CHECK(first[0] == "agent");
  CHECK(first[9] == "w1008");
  auto cursor = next;
  state.many_workloads = 24;
  auto second = items("/v1/workloads?limit=10&cursor=" + cursor, "name");
  CHECK(second.front() == "w1009");
  auto third = items("/v1/workloads?limit=10&cursor=" + next, "name");
  CHECK(third.back() == "w1023");
  CHECK(next.empty());
}

TEST_CASE_METHOD(Fixture, "cursors of another list, another run, or made up are refused") {
  state.many_workloads = 5;
  items("/v1/workloads?limit=1", "name");
  CHECK(get("/v1/flows?cursor=" + next).status == 400);
  CHECK(Router(state).handle("GET", "/v1/workloads?cursor=" + next, {}).status == 400);
  for (const char* made_up : {"1", "zz", "00000000000000000001", "../../etc/passwd", "%F0%9F%92%A9"}) {
    CHECK(get(std::string("/v1/flows?cursor=") + made_up).status == 400);
    CHECK(get(std::string("/v1/policies?cursor=") + made_up).status == 400);
  }
}

TEST_CASE_METHOD(Fixture, "lists are filtered") {
  CHECK(items("/v1/policies", "name") == Strings{"agent", "mas"});
  CHECK(items("/v1/policies?workload=team-a/agent", "name") == Strings{"agent"});
  CHECK(items("/v1/policies?namespace=tools", "name").empty());
  CHECK(items("/v1/endpoints?workload=mcp-server", "protocol") == Strings{"tcp"});
  CHECK(items("/v1/endpoints", "protocol") == Strings{"tcp", "tcp", "tcp", "udp"});
  CHECK(items("/v1/workloads?workload=agent", "name") == Strings{"agent"});
}

TEST_CASE_METHOD(Fixture, "an FQDN's endpoint: its own fields, and it is where its callers are") {
  CHECK_THAT(
      get("/v1/endpoints?limit=1").body,
      ContainsSubstring(
          R"({"fqdn":"api.llm.example","port":443,"protocol":"tcp","state":"resolved","workloads":[],"addresses":[],)"
          R"("usedBy":["team-a/agent"],"callers":["team-a/agent"],"resolved":[)"
          R"({"address":"2001:db8::7","sources":["answer","resolver"],"secondsLeft":28,"workload":"team-a/agent"},)"
          R"({"address":"203.0.113.7","sources":["resolver"],"secondsLeft":0}],"lastError":"192.0.2.53 did not answer"})"));
  for (const char* filter :
       {"namespace=team-a", "workload=agent", "workload=team-a/agent", "namespace=team-a&workload=agent"})
    CHECK(items(std::string("/v1/endpoints?") + filter, "fqdn") == Strings{"api.llm.example"});
  for (const char* filter : {"namespace=team-b", "workload=team-b/agent", "namespace=team-b&workload=agent"})
    CHECK(items(std::string("/v1/endpoints?") + filter, "fqdn").empty());
  CHECK(items("/v1/endpoints?namespace=tools", "name") == Strings{"mcp-server", "mcp-server"});
  // Without a filter also one that nobody may call at present.
  CHECK_THAT(get("/v1/endpoints").body, ContainsSubstring(R"("fqdn":"nobody.llm.example")"));
  CHECK(items("/v1/endpoints?limit=1", "fqdn") == Strings{"api.llm.example"});
  CHECK(items("/v1/endpoints?limit=1&cursor=" + next, "fqdn") == Strings{"nobody.llm.example"});
}

TEST_CASE_METHOD(Fixture, "what an API server is asked for") {
  auto body = get("/v1/status").body;
  CHECK_THAT(body, ContainsSubstring(R"("lastContact":"2026-11-24T01:51:34.000Z","resources":[)"
                                     R"({"name":"CASAPolicies","state":"watching","objects":2},)"
                                     R"({"name":"Services","state":"forbidden","objects":5,)"
                                     R"("problem":"does not allow to list Services"}]})"));
  CHECK(body.find("resources") == body.rfind("resources"));
}

TEST_CASE_METHOD(Fixture, "the name that a denial is about") {
  auto asked = test::flow(9, CASA_DENIED, CASA_REASON_DNS_NAME_NOT_ALLOWED, std::chrono::system_clock::now());
  asked.asked_name = std::make_shared<const std::string>("(52).evil.example");
  state.history.add(asked);
  CHECK(items("/v1/flows?reason=dns_name_not_allowed", "askedName") == Strings{"(52).evil.example"});
  CHECK_THAT(get("/v1/flows?reason=no_listener").body, !ContainsSubstring("askedName"));
}

TEST_CASE_METHOD(Fixture, "explain") {
  CHECK_THAT(get("/v1/explain?baseline=true").body, ContainsSubstring(R"({"baseline":["Loopback)"));
  CHECK_THAT(get("/v1/explain?baseline").body, ContainsSubstring("Loopback"));
  CHECK(get("/v1/explain").status == 400);
  CHECK(get("/v1/explain?from=a/b").status == 400);
  CHECK(get("/v1/explain?baseline=true&from=a/b").status == 400);
  CHECK(get("/v1/explain?from=a/b&to=c:1&protocol=icmp").status == 400);
  CHECK(get("/v1/explain?from=a/b&to=c").status == 400);
  CHECK(get("/v1/explain?from=team-a/nobody&to=c:1").status == 404);
  CHECK_THAT(get("/v1/explain?from=team-a/agent&to=[2001:db8::1]:443").body,
             ContainsSubstring(R"("verdict":"DENIED")"));
}

TEST_CASE_METHOD(Fixture, "tokens and alerts") {
  std::string ab, cd;
  for (int i = 0; i < 32; ++i) {
    ab += "ab";
    cd += "cd";
  }
  CHECK(items("/v1/tokens", "sha256") == Strings{cd, ab});
  CHECK(items("/v1/tokens?workload=team-a/rogue", "sha256") == Strings{ab});
  CHECK(items("/v1/tokens?since=8m", "sha256") == Strings{ab});
  CHECK(items("/v1/tokens?until=8m", "sha256") == Strings{cd});
  CHECK(items("/v1/tokens?limit=1", "sha256") == Strings{cd});
  CHECK(get("/v1/tokens?kind=jwt").status == 400);
  auto token = get("/v1/tokens/" + ab);
  CHECK(token.status == 200);
  CHECK_THAT(token.body, ContainsSubstring(R"("request":"POST /mcp")"));
  CHECK_THAT(token.body, ContainsSubstring(R"("firstPresenter":{"namespace":"team-a","workload":"agent")"));
  CHECK(get("/v1/tokens/" + std::string(64, 'A')).status == 404);
  CHECK(get("/v1/tokens/abc").status == 400);
  CHECK(get("/v1/tokens/" + ab + "/x").status == 404);
  CHECK(get("/v1/tokens/").status == 404);
  CHECK(items("/v1/alerts", "kind") == Strings{"ambiguous_http", "duplicate_authorization", "token_alg_none",
                                               "token_replay", "token_unexpected_destination"});
  CHECK(items("/v1/alerts?kind=token_replay", "kind") == Strings{"token_replay"});
  CHECK(items("/v1/alerts?kind=token_replay&workload=agent", "kind").empty());
  CHECK(items("/v1/alerts?namespace=nobody", "kind").empty());
  CHECK_THAT(get("/v1/alerts?kind=token_reply").body, ContainsSubstring("Did you mean 'token_replay'?"));
  CHECK(get("/v1/alerts?kind=").status == 400);
  CHECK_THAT(get("/v1/flows").body,
             ContainsSubstring(R"("token":{"sha256":")" + ab + R"(","event":"use"},"tokens":1)"));
}

TEST_CASE_METHOD(Fixture, "unknown paths name the nearest route") {
  auto detail = [&](const std::string& target) {
    auto reply = get(target);
    CHECK(reply.status == 404);
    CHECK(reply.content_type == kProblemJson);
    return reply.body;
  };
  CHECK_THAT(detail("/v1/flow"), ContainsSubstring("Did you mean /v1/flows?"));
  CHECK_THAT(detail("/flows"), ContainsSubstring("Did you mean /v1/flows?"));
  CHECK_THAT(detail("/v1/flows/"), ContainsSubstring("Did you mean /v1/flows?"));
  CHECK_THAT(detail("/v1/flows/12"), ContainsSubstring("Did you mean /v1/flows?"));
  CHECK_THAT(detail("/v1/../../etc/passwd"), ContainsSubstring("There is no"));
  CHECK_THAT(detail("/%2e%2e/etc/passwd"), ContainsSubstring("There is no"));
  CHECK_THAT(detail("//v1/flows"), ContainsSubstring("There is no"));
  CHECK_THAT(detail("/"), ContainsSubstring("openapi.json"));
  CHECK(detail("/" + std::string(15'000, 'x')).size() < 500);
}

TEST_CASE_METHOD(Fixture, "ready when the first generation is in the kernel") {
  CHECK(get("/healthz").body == "ok\n");
  CHECK(get("/readyz").status == 200);
  CHECK_THAT(get("/readyz").body, ContainsSubstring(R"({"ready":true,"phase":")"));
  state.ready = false;
  auto reply = get("/readyz");
  CHECK(reply.status == 503);
  CHECK_THAT(reply.body, ContainsSubstring(R"("phase":"starting","problems":["the policy directory)"));
  CHECK(get("/healthz").status == 200);
}

TEST_CASE_METHOD(Fixture, "the largest page and the longest search do not block the loop", "[speed]") {
  for (std::uint64_t i = 10; i < 100'010; ++i)
    state.history.add(test::flow(i, CASA_ALLOWED, CASA_REASON_ENDPOINT_ALLOWED, std::chrono::system_clock::now()));
  auto took = [&](const std::string& target) {
    auto start = std::chrono::steady_clock::now();
    CHECK(get(target).status == 200);
    return std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::steady_clock::now() - start).count();
  };
  auto page = took("/v1/flows?limit=1000"), search = took("/v1/flows?limit=1000&workload=other/none");
  INFO("1000 rows " << page << " ms; 100,000 rows searched " << search << " ms");
  CHECK(page < 250);
  CHECK(search < 250);
}

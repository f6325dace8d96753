// From policies to verdicts: each test writes a small world in YAML, compiles it and asks decide().
#include "compile/world.h"

using casa::test::World;

namespace {

constexpr const char* kTwoPolicies = R"(
apiVersion: casa.io/v1alpha1
kind: CASAPolicy
metadata: {name: agent, namespace: team-a}
spec:
  targetRef: {kind: Deployment, name: agent}
  allowedEndpoints:
  - {name: mcp, namespace: tools, port: 8080}
---
apiVersion: casa.io/v1alpha1
kind: CASAPolicy
metadata: {name: mcp, namespace: tools}
spec:
  targetRef: {kind: Deployment, name: mcp}
  allowedSources:
  - {host: true, port: 9000}
  - {cidr: 10.0.0.0/8}
)";

}  // namespace

TEST_CASE("an allowed endpoint opens both ends, one port, one peer") {
  World w(kTwoPolicies);
  w.cgroup("team.slice/team-a.slice/agent.service");
  w.cgroup("tools.slice/mcp.service");
  w.compile();
  auto agent = w.id("team-a", "agent"), mcp = w.id("tools", "mcp");
  CHECK(w.ask(agent, mcp, CASA_EGRESS, 8080).reason == CASA_REASON_ENDPOINT_ALLOWED);
  CHECK(w.ask(mcp, agent, CASA_INGRESS, 8080).reason == CASA_REASON_ENDPOINT_ALLOWED);
  CHECK(w.ask(agent, mcp, CASA_EGRESS, 8081).reason == CASA_REASON_PORT_NOT_ALLOWED);
  CHECK(w.ask(agent, mcp, CASA_EGRESS, 8080, 17).reason == CASA_REASON_UDP_NOT_ALLOWED);
  CHECK(w.ask(agent, mcp, CASA_EGRESS, 8081, 17).reason == CASA_REASON_PORT_NOT_ALLOWED);
  CHECK(w.ask(agent, CASA_ID_WORLD, CASA_EGRESS, 443).reason == CASA_REASON_EXTERNAL_NOT_ALLOWED);
  CHECK(w.ask(agent, CASA_ID_HOST, CASA_EGRESS, 8080).reason == CASA_REASON_PEER_NOT_ALLOWED);
  CHECK(w.ask(mcp, agent, CASA_EGRESS, 8080).verdict == CASA_DENIED);
  CHECK(w.ask(agent, mcp, CASA_INGRESS, 8080).reason == CASA_REASON_SOURCE_NOT_ALLOWED);
  CHECK(w.ask(agent, CASA_ID_NOBODY, CASA_EGRESS, 8080).reason == CASA_REASON_CONNECTION_REFUSED);
  CHECK(w.ask(agent, CASA_ID_NOBODY, CASA_EGRESS, 22).reason == CASA_REASON_NO_LISTENER);
  CHECK(w.ask(agent, agent, CASA_EGRESS, 5).reason == CASA_REASON_BASELINE_LOOPBACK);
  CHECK(w.ask(agent, agent, CASA_EGRESS, 5, 6, false).verdict == CASA_DENIED);
  CHECK(w.report("agent").phase == casa::compile::Phase::kActive);
  CHECK(w.report("agent").message == "enforced");
}

TEST_CASE("sources: host on its port, a prefix and the prefixes inside it") {
  std::string more = std::string(kTwoPolicies) + R"(---
apiVersion: casa.io/v1alpha1
kind: CASAPolicy
metadata: {name: other, namespace: tools}
spec:
  targetRef: {kind: Deployment, name: other}
  allowedSources:
  - {cidr: 10.1.0.0/16, port: 1}
)";
  World w(more);
  w.compile();
  auto mcp = w.id("tools", "mcp"), other = w.id("tools", "other");
  CHECK(w.ask(mcp, CASA_ID_HOST, CASA_INGRESS, 9000).verdict == CASA_ALLOWED);
  CHECK(w.ask(mcp, CASA_ID_HOST, CASA_INGRESS, 9001).reason == CASA_REASON_PORT_NOT_ALLOWED);
  auto inner = casa::compile::identity_of(w.compiled.image, *casa::parse_ip("10.1.2.3"));
  auto outer = casa::compile::identity_of(w.compiled.image, *casa::parse_ip("10.2.2.3"));
  CHECK(inner != outer);
  CHECK(w.ask(mcp, inner, CASA_INGRESS, 77, 6, false).verdict == CASA_ALLOWED);
  CHECK(w.ask(mcp, outer, CASA_INGRESS, 77, 17, false).verdict == CASA_ALLOWED);
  CHECK(w.ask(other, inner, CASA_INGRESS, 1, 6, false).verdict == CASA_ALLOWED);
  CHECK(w.ask(other, outer, CASA_INGRESS, 1, 6, false).verdict == CASA_DENIED);
  CHECK(casa::compile::identity_of(w.compiled.image, *casa::parse_ip("11.0.0.1")) == CASA_ID_WORLD);
}

TEST_CASE("an invalid policy leaves its workload with nothing, in spite of a valid one beside it") {
  World w(R"(
apiVersion: casa.io/v1alpha1
kind: CASAPolicy
metadata: {name: good, namespace: a}
spec:
  targetRef: {kind: Pod, name: x}
  allowedSources: [{host: true}]
---
apiVersion: casa.io/v1alpha1
kind: CASAPolicy
metadata: {name: bad, namespace: a}
spec:
  targetRef: {kind: Pod, name: x}
  allowedEndpoints: [{name: y, namespace: a, port: 70000}]
)");
  w.compile();
  CHECK(w.ask(w.id("a", "x"), CASA_ID_HOST, CASA_INGRESS, 80).reason == CASA_REASON_POLICY_INVALID);
  CHECK(w.report("bad").phase == casa::compile::Phase::kFailed);
}

TEST_CASE("audit needs every policy of the workload to say so") {
  World w(R"(
apiVersion: casa.io/v1alpha1
kind: CASAPolicy
metadata: {name: p1, namespace: a}
spec: {targetRef: {kind: Pod, name: x}, enforcement: audit}
---
apiVersion: casa.io/v1alpha1
kind: CASAPolicy
metadata: {name: p2, namespace: a}
spec: {targetRef: {kind: Pod, name: y}, enforcement: audit}
---
apiVersion: casa.io/v1alpha1
kind: CASAPolicy
metadata: {name: p3, namespace: a}
spec: {targetRef: {kind: Pod, name: y}}
)");
  w.compile();
  CHECK(w.ask(w.id("a", "x"), CASA_ID_WORLD, CASA_EGRESS, 80).verdict == CASA_AUDIT);
  CHECK(w.ask(w.id("a", "y"), CASA_ID_WORLD, CASA_EGRESS, 80).verdict == CASA_DENIED);
}

TEST_CASE("a Service: target ports, cluster addresses, endpoints on this host") {
  World w(R"(
apiVersion: v1
kind: Pod
metadata: {name: mcp-1, namespace: tools, labels: {app: mcp}, annotations: {casa.io/cgroup: pods/mcp-1}}
spec: {containers: [{name: c, ports: [{name: web, containerPort: 9443}]}]}
status: {podIPs: [{ip: 10.9.0.7}]}
---
apiVersion: v1
kind: Service
metadata: {name: mcp, namespace: tools}
spec: {selector: {app: mcp}, clusterIP: 10.96.0.9, clusterIPs: [10.96.0.9], ports: [{port: 80, targetPort: web}]}
---
apiVersion: v1
kind: Service
metadata: {name: local, namespace: tools}
spec: {ports: [{port: 8000}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: local-1, namespace: tools, labels: {kubernetes.io/service-name: local}}
addressType: IPv4
endpoints: [{addresses: [127.0.0.1]}, {addresses: [192.0.2.4]}]
ports: [{port: 8000}]
---
apiVersion: casa.io/v1alpha1
kind: CASAPolicy
metadata: {name: agent, namespace: a}
spec:
  targetRef: {kind: Pod, name: agent}
  allowedEndpoints:
  - {name: mcp, namespace: tools, port: 80}
  - {name: local, namespace: tools, port: 8000}
  - {name: mcp, namespace: tools, port: 81}
)");
  w.cgroup("pods/mcp-1");
  w.compile();
  auto agent = w.id("a", "agent"), mcp = w.id("tools", "mcp-1");
  const auto& image = w.compiled.image;
  CHECK(w.ask(agent, mcp, CASA_EGRESS, 9443).verdict == CASA_ALLOWED);
  CHECK(w.ask(agent, mcp, CASA_EGRESS, 80).verdict == CASA_DENIED);
  CHECK(casa::compile::identity_of(image, *casa::parse_ip("10.9.0.7")) == mcp);
  auto service = casa::compile::identity_of(image, *casa::parse_ip("10.96.0.9"));
  CHECK(w.ask(agent, service, CASA_EGRESS, 80, 6, false).verdict == CASA_ALLOWED);
  CHECK(w.ask(agent, CASA_ID_HOST, CASA_EGRESS, 8000).verdict == CASA_ALLOWED);
  CHECK(w.ask(agent, CASA_ID_HOST, CASA_EGRESS, 8001).verdict == CASA_DENIED);
  auto backend = casa::compile::identity_of(image, *casa::parse_ip("192.0.2.4"));
  CHECK(w.ask(agent, backend, CASA_EGRESS, 8000, 6, false).verdict == CASA_ALLOWED);
  CHECK(w.report("agent").message.find("endpoint tools/mcp:81 names a port that the Service does not have") !=
        std::string::npos);
  // `tools` is no MAS namespace: its workload is known, not held to anything.
  CHECK_FALSE(image.subjects.contains(mcp));
}

TEST_CASE("two pods with one address: it belongs to neither") {
  World w(R"(
apiVersion: v1
kind: Pod
metadata: {name: one, namespace: a}
status: {podIPs: [{ip: 10.9.0.7}]}
---
apiVersion: v1
kind: Pod
metadata: {name: two, namespace: a}
status: {podIPs: [{ip: 10.9.0.7}]}
)");
  w.compile();
  CHECK(casa::compile::identity_of(w.compiled.image, *casa::parse_ip("10.9.0.7")) == CASA_ID_UNKNOWN);
  CHECK(w.snapshot.problems.size() == 1);
}

TEST_CASE("the defaults of a MultiAgentSystem, where no CASAPolicy names the app") {
  World w(R"(
apiVersion: casa.io/v1alpha1
kind: MultiAgentSystem
metadata: {name: sys, namespace: m}
spec:
  name: sys
  llm_host: api.openai.com
  apps:
  - {name: planner, type: agent, kubernetesWorkloadName: planner, baseUrl: {host: "planner:9001", scheme: http}}
  - {name: ui, type: client, kubernetesWorkloadName: ui, baseUrl: {host: "ui:80", scheme: http}}
  - {name: files, type: mcp_server, kubernetesWorkloadName: files, baseUrl: {host: "files:8080/mcp", scheme: http}}
)");
  w.compile();
  auto planner = w.id("m", "planner"), ui = w.id("m", "ui"), files = w.id("m", "files");
  CHECK(w.ask(planner, files, CASA_EGRESS, 8080).reason == CASA_REASON_MAS_DEFAULT);
  CHECK(w.ask(files, planner, CASA_INGRESS, 8080).reason == CASA_REASON_MAS_DEFAULT);
  CHECK(w.ask(ui, planner, CASA_EGRESS, 9001).verdict == CASA_ALLOWED);
  CHECK(w.ask(files, planner, CASA_EGRESS, 9001).verdict == CASA_DENIED);
  CHECK(w.ask(planner, ui, CASA_EGRESS, 80).verdict == CASA_DENIED);
  CHECK(w.report("sys").llm_endpoint == "api.openai.com:443");
}

TEST_CASE("every declared place: unit, template, slice; what is deeper is found by level") {
  World w(kTwoPolicies);
  w.cgroup("team.slice/team-a.slice/agent@one.service");
  w.cgroup("team.slice/team-a.slice/agent@two.service");
  w.cgroup("team.slice/team-a.slice/other.service");
  w.compile();
  const auto& image = w.compiled.image;
  CHECK(w.snapshot.workloads.at({"team-a", "agent"}).instances.size() == 2);
  CHECK(image.cgroup_paths.contains("team.slice/team-a.slice"));
  CHECK(image.cgroup_paths.at("team.slice/team-a.slice") & CASA_CGROUP_SLICE);
  CHECK(image.cgroup_paths.contains("team.slice/team-a.slice/agent@"));
  CHECK(image.level_max == 3);
  CHECK(image.cgroups.size() == 3);
}

TEST_CASE("equal input, equal image and digest; numbers survive in the file") {
  World one(kTwoPolicies), two(kTwoPolicies);
  one.compile();
  two.compile();
  CHECK(casa::compile::to_text(one.compiled.image) == casa::compile::to_text(two.compiled.image));
  CHECK(casa::compile::digest(one.compiled.image) == casa::compile::digest(two.compiled.image));
  std::string path = "/tmp/casad-ids-" + std::to_string(::getpid());
  REQUIRE(one.allocator.save(path));
  casa::identity::Allocator loaded;
  REQUIRE(loaded.load(path));
  CHECK(loaded.number_of(casa::identity::NameKind::kWorkload, "tools", "mcp") == one.id("tools", "mcp"));
  std::filesystem::remove(path);
}

TEST_CASE("explain names the field that allows and what is missing") {
  World w(kTwoPolicies);
  w.compile();
  auto yes = casa::compile::explain(w.compiled, w.snapshot, "team-a/agent", "tools/mcp:8080", "tcp");
  REQUIRE(yes);
  CHECK(yes->verdict == CASA_ALLOWED);
  CHECK(yes->steps.size() == 2);
  CHECK(yes->steps[0].field == "spec.allowedEndpoints[0]");
  auto no = casa::compile::explain(w.compiled, w.snapshot, "team-a/agent", "tools/mcp:9000", "tcp");
  REQUIRE(no);
  CHECK(no->verdict == CASA_DENIED);
  REQUIRE_FALSE(no->suggestions.empty());
  CHECK(no->suggestions[0].find("port: 9000") != std::string::npos);
  CHECK_FALSE(casa::compile::explain(w.compiled, w.snapshot, "team-a/agnet", "tools/mcp:9000", "tcp"));
  CHECK_FALSE(casa::compile::explain(w.compiled, w.snapshot, "team-a/agent", "127.0.0.1:8080", "tcp"));
}

TEST_CASE("an image that cannot fit is refused with the knob to turn") {
  World w(kTwoPolicies);
  w.compile();
  casa::compile::Limits limits;
  limits.cgroups = 2;
  auto status = casa::compile::check_limits(w.compiled.image, limits);
  REQUIRE_FALSE(status);
  CHECK(status.error().context.find("limits.cgroups") != std::string::npos);
}

// A node of a cluster: whose a Pod's cgroup and address are, through what a Pod lives through, and what policies come to there.
#include <algorithm>

#include "compile/world.h"

using casa::parse_ip;
using casa::test::World;

namespace {

constexpr const char* kPolicies = R"(
apiVersion: casa.io/v1alpha1
kind: CASAPolicy
metadata: {name: agent, namespace: agents}
spec:
  targetRef: {kind: Deployment, name: agent}
  allowedEndpoints: [{name: mcp, namespace: tools, port: 80}]
---
apiVersion: casa.io/v1alpha1
kind: CASAPolicy
metadata: {name: mcp, namespace: tools}
spec:
  targetRef: {kind: StatefulSet, name: mcp}
---
apiVersion: v1
kind: Service
metadata: {name: mcp, namespace: tools}
spec: {clusterIP: 10.96.0.5, ports: [{name: http, port: 80, targetPort: 8080}]}
---
)";
const std::string kUid = "3c3e6a52-6d1f-4d3b-9d53-0a1b2c3d4e5f";
const std::string kPlace =
    "kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod3c3e6a52_6d1f_4d3b_9d53_0a1b2c3d4e5f.slice";

struct PodText {
  std::string ns = "agents", name = "agent-5f-x", kind = "ReplicaSet", owner = "agent-5f", uid = kUid,
              ip = "10.244.0.7";
  std::string meta, spec, status, node = "node-a", qos = "Burstable";
};
std::string pod(const PodText& p) {
  return "apiVersion: v1\nkind: Pod\nmetadata: {name: " + p.name + ", namespace: " + p.ns + ", uid: " + p.uid +
         ", labels: {pod-template-hash: 5f}, ownerReferences: [{kind: " + p.kind + ", name: " + p.owner +
         ", controller: true}]" + p.meta + "}\nspec: {nodeName: " + p.node + p.spec + "}\nstatus: {qosClass: " + p.qos +
         ", podIP: " + p.ip + p.status + "}\n---\n";
}
std::string mcp(const std::string& spec = "") {
  return pod({.ns = "tools",
              .name = "mcp-0",
              .kind = "StatefulSet",
              .owner = "mcp",
              .uid = "aa-bb",
              .ip = "10.244.0.8",
              .spec = spec}) +
         R"(apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: mcp-1, namespace: tools, labels: {kubernetes.io/service-name: mcp}}
addressType: IPv4
ports: [{name: http, port: 8080}]
endpoints: [{addresses: [10.244.0.8], targetRef: {kind: Pod, name: mcp-0, namespace: tools}}]
---
)";
}

std::uint32_t owner_of_cgroup(const World& w, const std::string& path) {
  auto it = w.compiled.image.cgroup_paths.find(path);
  return it == w.compiled.image.cgroup_paths.end() ? 0 : it->second;
}
bool lives_in_a_cgroup(const World& w, std::uint32_t identity) {
  return std::ranges::any_of(w.compiled.image.cgroups, [&](const auto& row) { return row.second == identity; });
}

}  // namespace

TEST_CASE("a Pod is declared where kubelet will make its cgroup, before it does") {
  World w(kPolicies + pod({}) + mcp());
  w.join("node-a");
  w.compile();  // no tree of kubelet's is there yet: both drivers' places
  auto agent = w.id("agents", "agent");
  CHECK(owner_of_cgroup(w, kPlace) == agent);
  CHECK(owner_of_cgroup(w, "kubepods/burstable/pod" + kUid) == agent);
  CHECK(w.report("agent").phase == casa::compile::Phase::kActive);
  w.cgroup("kubepods");
  w.compile();
  CHECK(owner_of_cgroup(w, kPlace) == 0);
  CHECK(owner_of_cgroup(w, "kubepods/burstable/pod" + kUid) == agent);
  w.say(kPolicies + pod({.qos = "Guaranteed"}));
  w.compile();
  CHECK(owner_of_cgroup(w, "kubepods/pod" + kUid) == agent);
  w.say(kPolicies + pod({.qos = "BestEffort"}));
  w.compile();
  CHECK(owner_of_cgroup(w, "kubepods/besteffort/pod" + kUid) == agent);
  CHECK(w.compiled.image.cgroup_paths.size() == 1);
}

TEST_CASE("kubelets with a cgroup root of their own") {
  World w(kPolicies + pod({}));
  w.join("node-a");
  w.cgroup("kubelet.slice/kubelet-kubepods.slice");
  w.compile();
  CHECK(owner_of_cgroup(w,
                        "kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-burstable.slice/"
                        "kubelet-kubepods-burstable-pod3c3e6a52_6d1f_4d3b_9d53_0a1b2c3d4e5f.slice") ==
        w.id("agents", "agent"));
}

TEST_CASE("Pods of other nodes are known by their addresses only") {
  World w(kPolicies + pod({.node = "node-b"}));
  w.join("node-a");
  w.compile();
  auto agent = w.id("agents", "agent");
  CHECK(w.compiled.image.cgroup_paths.empty());
  CHECK(w.compiled.image.addresses.at(*parse_ip("10.244.0.7")) == agent);
  w.say(kPolicies + pod({}));
  w.compile();  // on this node its requests are read where they leave
  CHECK(w.compiled.image.addresses.at(*parse_ip("10.244.0.7")) == (agent | CASA_ADDR_HERE));
  CHECK(casa::compile::identity_of(w.compiled.image, *parse_ip("10.244.0.7")) == agent);
}

TEST_CASE("on a bare node a Pod file's nodeName says nothing") {
  World w(kPolicies + pod({.meta = ", annotations: {casa.io/cgroup: agents/a}"}));
  w.cgroup("agents/a");
  w.compile();
  CHECK(owner_of_cgroup(w, "agents/a") == w.id("agents", "agent"));
  CHECK(lives_in_a_cgroup(w, w.id("agents", "agent")));
}

TEST_CASE("nobody inherits a policy by a name") {
  World w(kPolicies + pod({}) +
          pod({.name = "agent-job", .kind = "Job", .owner = "agent", .uid = "cc-dd", .ip = "10.244.0.9"}) +
          pod({.name = "agent", .kind = "Node", .owner = "node-a", .uid = "ee-ff", .ip = "10.244.0.10"}));
  w.join("node-a");
  w.compile();
  auto agent = w.id("agents", "agent"), job = w.id("agents", "job:agent"), bare = w.id("agents", "pod:agent");
  CHECK(agent != job);
  CHECK(agent != bare);
  CHECK(w.compiled.image.subjects.at(job) & CASA_SUBJECT_NO_POLICY);
  CHECK(w.compiled.image.subjects.at(bare) & CASA_SUBJECT_NO_POLICY);
  CHECK_FALSE(w.compiled.image.subjects.at(agent) & CASA_SUBJECT_NO_POLICY);
  CHECK(owner_of_cgroup(w, "kubepods/burstable/podcc-dd") == job);
}

TEST_CASE("what stands for a contested address stands for nobody, behind a Service least of all") {
  auto slice = [](const std::string& endpoint) {
    return std::string(
               "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: mcp-2, namespace: tools, "
               "labels: "
               "{kubernetes.io/service-name: mcp}}\naddressType: IPv4\nports: [{name: http, port: 8080}]\nendpoints: "
               "[{addresses: [10.0.0.2]") +
           endpoint + "}]\n---\n";
  };
  auto node_of = [](const std::string& name, const std::string& uid) {
    return pod({.ns = "tools",
                .name = name,
                .kind = "StatefulSet",
                .owner = "mcp",
                .uid = uid,
                .ip = "10.0.0.2",
                .spec = ", hostNetwork: true"});
  };
  std::string two = pod({.ns = "other", .name = "a", .kind = "Job", .owner = "a", .uid = "1-1", .ip = "10.0.0.2"}) +
                    pod({.ns = "other", .name = "b", .kind = "Job", .owner = "b", .uid = "1-2", .ip = "10.0.0.2"});
  for (const std::string& who :
       {slice(""), slice(", targetRef: {kind: Pod, name: mcp-0, namespace: tools}") + node_of("mcp-0", "aa-bb")}) {
    World w(kPolicies + pod({}) + two + who);
    w.join("node-a");
    w.compile();
    REQUIRE(w.compiled.image.addresses.at(*parse_ip("10.0.0.2")) == CASA_ID_UNKNOWN);
    for (const auto& [key, payload] : w.compiled.image.policy) {
      CHECK(key.peer != CASA_ID_UNKNOWN);
      CHECK(key.peer != w.id("other", "a"));
      CHECK(key.peer != w.id("other", "b"));
    }
  }
}

TEST_CASE("a Pod that is gone keeps its workload until its cgroup is gone") {
  World w(kPolicies + pod({}));
  w.join("node-a");
  w.cgroup(kPlace);
  w.compile();
  auto agent = w.id("agents", "agent");
  REQUIRE(lives_in_a_cgroup(w, agent));
  w.say(kPolicies);
  for (int i = 0; i < 2; ++i) {  // and it is remembered from one generation to the next
    w.compile();
    CHECK(lives_in_a_cgroup(w, agent));
    CHECK(w.compiled.image.subjects.at(agent) & CASA_SUBJECT_POD);
    CHECK(w.compiled.image.level_max == 3);
    CHECK_FALSE(w.compiled.image.addresses.contains(*parse_ip("10.244.0.7")));
  }
  w.remove_cgroup(kPlace);
  w.compile();
  CHECK_FALSE(lives_in_a_cgroup(w, agent));
}

TEST_CASE("an address that came back belongs to who has it now") {
  const std::string old_one = pod({.name = "old", .uid = "aa-cc", .status = ", phase: Failed"});
  World w(kPolicies + mcp() + old_one +
          pod({.ns = "tools", .name = "mcp-1", .kind = "StatefulSet", .owner = "mcp", .uid = "bb-cc"}));
  w.join("node-a");
  w.compile();
  CHECK(casa::compile::identity_of(w.compiled.image, *parse_ip("10.244.0.7")) == w.id("tools", "mcp"));
  const std::string leaving =
      pod({.name = "old", .uid = "aa-cc", .meta = ", deletionTimestamp: '2026-01-02T03:04:05Z'"});
  w.say(kPolicies + mcp() + leaving);
  w.compile();
  CHECK(casa::compile::identity_of(w.compiled.image, *parse_ip("10.244.0.7")) == w.id("agents", "agent"));
  w.say(kPolicies + mcp() + leaving +
        pod({.ns = "tools", .name = "mcp-1", .kind = "StatefulSet", .owner = "mcp", .uid = "bb-cc"}));
  w.compile();
  CHECK(casa::compile::identity_of(w.compiled.image, *parse_ip("10.244.0.7")) == w.id("tools", "mcp"));
  CHECK(w.snapshot.problems.empty());
  // Two that both have it: nobody's.
  w.say(kPolicies + pod({}) +
        pod({.ns = "tools", .name = "mcp-1", .kind = "StatefulSet", .owner = "mcp", .uid = "bb-cc"}));
  w.compile();
  CHECK(casa::compile::identity_of(w.compiled.image, *parse_ip("10.244.0.7")) == CASA_ID_UNKNOWN);
}

TEST_CASE("addresses of Pods' networks that nobody told of are unknown") {
  const std::string node =
      "apiVersion: v1\nkind: Node\nmetadata: {name: node-b}\nspec: {podCIDR: 10.244.1.0/24}\n---\n";
  World w(kPolicies + node);
  w.join("node-a");
  w.compile();
  CHECK(casa::compile::identity_of(w.compiled.image, *parse_ip("10.244.1.9")) == CASA_ID_UNKNOWN);
  CHECK(casa::compile::identity_of(w.compiled.image, *parse_ip("10.244.2.9")) == CASA_ID_WORLD);
}

TEST_CASE("strict: a Pod that nobody told of may do nothing, others' Pods are let alone") {
  World w(kPolicies + pod({.ns = "others", .name = "x", .kind = "DaemonSet", .owner = "x"}));
  w.join("node-a", true);
  w.cgroup("kubepods.slice");
  w.compile();
  std::uint32_t unknown = owner_of_cgroup(w, "kubepods.slice");
  REQUIRE(unknown & CASA_CGROUP_SLICE);
  CHECK(w.ask(unknown & ~CASA_CGROUP_SLICE, CASA_ID_WORLD, CASA_EGRESS, 443).reason == CASA_REASON_UNDECLARED_CGROUP);
  CHECK(lives_in_a_cgroup(w, unknown));
  CHECK(owner_of_cgroup(w, kPlace) == w.id("others", "x"));
  CHECK_FALSE(w.compiled.image.subjects.contains(w.id("others", "x")));
  w.join("node-a", false);
  w.compile();
  CHECK(owner_of_cgroup(w, "kubepods.slice") == 0);
}

TEST_CASE("a Service is allowed by its address and by its Pods' port; one that is not there is said to be missing") {
  World w(kPolicies + pod({}) + mcp());
  w.join("node-a");
  w.compile();
  auto agent = w.id("agents", "agent"), server = w.id("tools", "mcp");
  auto service = casa::compile::identity_of(w.compiled.image, *parse_ip("10.96.0.5"));
  CHECK(w.ask(agent, service, CASA_EGRESS, 80, 6, false).reason == CASA_REASON_ENDPOINT_ALLOWED);
  CHECK(w.ask(agent, server, CASA_EGRESS, 8080, 6, false).reason == CASA_REASON_ENDPOINT_ALLOWED);
  CHECK(w.ask(server, agent, CASA_INGRESS, 8080, 6, false).reason == CASA_REASON_ENDPOINT_ALLOWED);
  CHECK(w.ask(server, agent, CASA_INGRESS, 80, 6, false).verdict == CASA_DENIED);
  w.say(R"(
apiVersion: casa.io/v1alpha1
kind: CASAPolicy
metadata: {name: agent, namespace: agents}
spec:
  targetRef: {kind: Deployment, name: agent}
  allowedEndpoints: [{name: mcp, namespace: tools, port: 80}]
---
)" + pod({}));
  w.compile();
  CHECK(w.report("agent").message.find("is no Service of the cluster") != std::string::npos);
}

TEST_CASE("a Service that a workload may call, and behind which it is alone, is marked as its own") {
  const std::string policy = R"(
apiVersion: casa.io/v1alpha1
kind: CASAPolicy
metadata: {name: mcp, namespace: tools}
spec:
  targetRef: {kind: StatefulSet, name: mcp}
  allowedEndpoints: [{name: mcp, namespace: tools, port: 80}, {name: mcp, namespace: tools, port: 81}]
---
apiVersion: v1
kind: Service
metadata: {name: mcp, namespace: tools}
spec:
  clusterIP: 10.96.0.5
  ports:
  - {name: http, port: 80, targetPort: 8080}
  - {name: datagrams, port: 81, targetPort: 8081, protocol: UDP}
  - {name: other, port: 82, targetPort: 8082}
---
)";
  auto slice = [](const std::string& addresses) {
    return R"(apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: mcp-2, namespace: tools, labels: {kubernetes.io/service-name: mcp}}
addressType: IPv4
ports: [{name: http, port: 8080}, {name: datagrams, port: 8081, protocol: UDP}, {name: other, port: 8082}]
endpoints: [{addresses: [)" +
           addresses + "]}]\n---\n";
  };
  World w(policy + pod({}) + mcp() + slice("10.244.0.8"));
  w.join("node-a");
  w.compile();
  auto server = w.id("tools", "mcp");
  auto service = casa::compile::identity_of(w.compiled.image, *parse_ip("10.96.0.5"));
  auto is_marked = [&](std::uint16_t port) {
    return w.compiled.image.policy.contains({server, service, CASA_INGRESS, 0, port});
  };
  CHECK(is_marked(80));
  CHECK_FALSE(is_marked(81));  // UDP
  CHECK_FALSE(is_marked(82));  // it may not call it
  // The mark permits nothing, whoever seems to have the Service's address.
  for (std::uint16_t port : {0, 80, 8080})
    for (std::uint8_t protocol : {6, 17})
      CHECK(w.ask(server, service, CASA_INGRESS, port, protocol, false).reason == CASA_REASON_SOURCE_NOT_ALLOWED);
  for (const char* somebody : {"10.244.0.8, 10.244.0.7", "10.244.0.8, 192.0.2.7"}) {
    w.say(policy + pod({}) + mcp() + slice(somebody));
    w.compile();
    CHECK_FALSE(is_marked(80));
  }
  w.say(policy + pod({}));
  w.compile();
  CHECK_FALSE(is_marked(80));
}

TEST_CASE("a Pod on its node's network") {
  World w(kPolicies + pod({.ip = "192.0.2.1", .spec = ", hostNetwork: true"}) + mcp(", hostNetwork: true"));
  w.join("node-a");
  w.host_address("192.0.2.1");
  w.compile();
  auto agent = w.id("agents", "agent"), server = w.id("tools", "mcp");
  // As a caller it comes with the node's address, as a callee it is called by it.
  CHECK(w.ask(server, CASA_ID_HOST, CASA_INGRESS, 8080, 6, false).reason == CASA_REASON_ENDPOINT_ALLOWED);
  CHECK(w.ask(agent, server, CASA_EGRESS, 8080).reason == CASA_REASON_ENDPOINT_ALLOWED);
  CHECK(w.ask(agent, casa::compile::identity_of(w.compiled.image, *parse_ip("10.244.0.8")), CASA_EGRESS, 8080, 6, false)
            .reason == CASA_REASON_ENDPOINT_ALLOWED);
  CHECK(w.compiled.image.addresses.at(*parse_ip("192.0.2.1")) == CASA_ID_HOST);
  CHECK_FALSE(w.compiled.image.subjects.at(agent) & CASA_SUBJECT_POD);
}

TEST_CASE("kubelet's probes pass, also where the policy is invalid") {
  const std::string probed = ", containers: [{name: a, livenessProbe: {httpGet: {port: 9090}}}]";
  World w(kPolicies + pod({.spec = probed}));
  w.join("node-a");
  w.compile();
  auto agent = w.id("agents", "agent");
  CHECK(w.ask(agent, CASA_ID_HOST, CASA_INGRESS, 9090, 6, false).reason == CASA_REASON_BASELINE_PROBE);
  CHECK(w.ask(agent, CASA_ID_HOST, CASA_INGRESS, 9091, 6, false).verdict == CASA_DENIED);
  CHECK(w.ask(agent, CASA_ID_WORLD, CASA_INGRESS, 9090, 6, false).verdict == CASA_DENIED);
  w.say(R"(
apiVersion: casa.io/v1alpha1
kind: CASAPolicy
metadata: {name: agent, namespace: agents}
spec: {targetRef: {kind: Deployment, name: agent}, surprise: 1}
---
)" + pod({.spec = probed}));
  w.compile();
  CHECK(w.ask(agent, CASA_ID_HOST, CASA_INGRESS, 9090, 6, false).reason == CASA_REASON_BASELINE_PROBE);
  CHECK(w.ask(agent, CASA_ID_WORLD, CASA_EGRESS, 443, 6, false).reason == CASA_REASON_POLICY_INVALID);
}

TEST_CASE("a Pod with Istio's proxy") {
  const std::string proxy = "{name: istio-proxy, readinessProbe: {httpGet: {port: 15021}}}";
  World w(kPolicies + pod({}) + mcp(", containers: [{name: mcp}, " + proxy + "]") + R"(
apiVersion: v1
kind: Service
metadata: {name: istiod, namespace: istio-system}
spec: {clusterIP: 10.96.0.6, ports: [{name: a, port: 15012}, {name: b, port: 443}]}
---
)");
  w.join("node-a");
  w.compile();
  auto agent = w.id("agents", "agent"), server = w.id("tools", "mcp");
  auto istiod = casa::compile::identity_of(w.compiled.image, *parse_ip("10.96.0.6"));
  CHECK(w.ask(server, istiod, CASA_EGRESS, 15012, 6, false).reason == CASA_REASON_BASELINE_ISTIO);
  CHECK(w.ask(server, istiod, CASA_EGRESS, 443, 6, false).verdict == CASA_DENIED);
  CHECK(w.ask(agent, istiod, CASA_EGRESS, 15012, 6, false).verdict == CASA_DENIED);
  CHECK(w.ask(server, agent, CASA_INGRESS, 15006, 6, false).reason == CASA_REASON_ENDPOINT_ALLOWED);
  CHECK(w.ask(server, CASA_ID_WORLD, CASA_INGRESS, 15006, 6, false).verdict == CASA_DENIED);
  // The proxy's own probe is not redirected, and so is no way to what is.
  CHECK(w.ask(server, CASA_ID_HOST, CASA_INGRESS, 15021, 6, false).reason == CASA_REASON_BASELINE_PROBE);
  CHECK(w.ask(server, CASA_ID_HOST, CASA_INGRESS, 15006, 6, false).verdict == CASA_DENIED);
  CHECK(w.compiled.image.subjects.at(server) & CASA_SUBJECT_ISTIO);
}

TEST_CASE("a node that has the Services' addresses itself, as an IPVS kube-proxy gives them") {
  World w(kPolicies + pod({}) + mcp());
  w.host_address("10.96.0.5");
  w.host_address("172.18.0.2");
  w.join("node-a");
  w.compile();
  CHECK(w.snapshot.problems.empty());
  auto service = casa::compile::identity_of(w.compiled.image, *parse_ip("10.96.0.5"));
  CHECK(w.ask(w.id("agents", "agent"), service, CASA_EGRESS, 80, 6, false).reason == CASA_REASON_ENDPOINT_ALLOWED);
  CHECK(casa::compile::identity_of(w.compiled.image, *parse_ip("172.18.0.2")) == CASA_ID_HOST);
}

TEST_CASE("explain takes a Pod's name for its workload, and a Pod's address") {
  World w(kPolicies + pod({}) + mcp());
  w.join("node-a");
  w.compile();
  auto ask = [&](const std::string& from, const std::string& to) {
    return casa::compile::explain(w.compiled, w.snapshot, from, to, "tcp", {}, w.objects());
  };
  for (const char* from : {"agents/agent-5f-x", "agents/agent", "10.244.0.7"})
    for (const char* to : {"tools/mcp:80", "tools/mcp-0:8080", "10.244.0.8:8080"}) {
      INFO(from << " to " << to);
      auto yes = ask(from, to);
      REQUIRE(yes);
      CHECK(yes->verdict == CASA_ALLOWED);
    }
  auto no = ask("agents/agent-5f-x", "tools/mcp-0:9000");
  REQUIRE(no);
  CHECK(no->verdict == CASA_DENIED);
  CHECK(no->steps[0].where == "egress of agents/agent");
  CHECK_FALSE(ask("agents/agent-5f-y", "tools/mcp:80"));
}

// The status of a CASAPolicy in the API server: the same from every node, but for what is about one node alone.
#include "compile/policy_status.h"

#include "compile/world.h"

using casa::compile::cluster_status;
using casa::compile::Phase;
using casa::compile::PolicyReport;
using casa::compile::PolicyStatus;
using casa::compile::writer_rank;
using casa::test::World;

namespace {

std::string pod(const std::string& ns, const std::string& name, const std::string& node,
                const std::string& more_meta = "", const std::string& status = "") {
  return "apiVersion: v1\nkind: Pod\nmetadata: {name: " + name + ", namespace: " + ns + ", uid: u-" + name + more_meta +
         "}\nspec: {nodeName: " + node + "}\nstatus: {" + status + "}\n---\n";
}
std::string agent(const std::string& name, const std::string& node, const std::string& status = "") {
  return pod("a", name, node, ", ownerReferences: [{kind: StatefulSet, name: agent, controller: true}]", status);
}
std::string daemon(const std::string& node, bool ready = true) {
  return pod("casa-system", "casad-" + node, node, ", labels: {app.kubernetes.io/name: casad}",
             std::string("conditions: [{type: Ready, status: \"") + (ready ? "True" : "False") + "\"}]");
}
const std::string kPolicy = R"(apiVersion: casa.io/v1alpha1
kind: CASAPolicy
metadata: {name: p, namespace: a}
spec: {targetRef: {kind: StatefulSet, name: agent}, allowedEndpoints: [{name: s, namespace: a, port: 80}]}
---
)";
const std::string kService = R"(apiVersion: v1
kind: Service
metadata: {name: s, namespace: a}
spec: {clusterIP: 10.96.0.9, ports: [{port: 80}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: s-1, namespace: a, labels: {kubernetes.io/service-name: s}}
addressType: IPv4
ports: [{port: 80}]
endpoints: [{addresses: [10.0.0.9]}]
---
)";
const std::string kEnforced2 = "enforced on 2 nodes";

struct Node {
  explicit Node(const std::string& yaml, const std::string& node = "n1", bool can_read_names = true)
      : world(yaml), name(node) {
    world.join(node);
    world.daemon_namespace("casa-system");
    world.dns().inspected = can_read_names;
    world.compile();
  }
  const PolicyReport& report() const { return world.compiled.policies.at(0); }
  PolicyStatus status(const std::string& current = "") const {
    return cluster_status(report(), world.snapshot, name, current);
  }
  int rank(const std::string& current = "", const std::string& wanted = "", const std::string& uid = "u") const {
    return writer_rank(report(), world.snapshot, name, uid, current, wanted);
  }
  World world;
  std::string name;
};

}  // namespace

TEST_CASE("nodes with a Pod of the target are counted, those without a casad that is ready are named") {
  const std::string pods = agent("agent-0", "n1") + agent("agent-1", "n2") + agent("agent-2", "n2");
  CHECK(Node(kPolicy + kService + pods).status() == PolicyStatus{Phase::kActive, kEnforced2});
  CHECK(Node(kPolicy + kService + pods + daemon("n1") + daemon("n2") + daemon("n3")).status() ==
        PolicyStatus{Phase::kActive, kEnforced2});
  CHECK(Node(kPolicy + kService + pods + daemon("n1") + daemon("n2", false)).status() ==
        PolicyStatus{Phase::kActive, "enforced on 1 of 2 nodes; no casad is ready on n2"});
  // A Pod that has ended counts on no node.
  CHECK(
      Node(kPolicy + kService + agent("agent-0", "n1") + agent("agent-1", "n2", "phase: Succeeded")).status().message ==
      "enforced on 1 node");
}

TEST_CASE("what is missing is said, and the same is said on every node") {
  const std::string objects = kPolicy + agent("agent-0", "n1") + agent("agent-1", "n2");
  PolicyStatus one = Node(objects, "n1").status();
  CHECK(one.message == "enforced on 2 nodes; endpoint a/s:80 is no Service of the cluster");
  CHECK(one == Node(objects, "n2").status());
  CHECK(one == Node(objects, "n9").status());
}

TEST_CASE("a target without a Pod is Pending, a policy that is not valid is Failed") {
  CHECK(
      Node(kPolicy + kService).status() ==
      PolicyStatus{Phase::kPending, "target StatefulSet/agent has no Pod yet; it is enforced the moment one appears"});
  std::string bad = kPolicy;
  bad.replace(bad.find("port: 80"), 8, "port: 0");
  PolicyStatus failed = Node(bad + agent("agent-0", "n1")).status();
  CHECK(failed.phase == Phase::kFailed);
  CHECK(failed.message.find("allowedEndpoints(0).port") == std::string::npos);
  CHECK(failed.message.find("spec.allowedEndpoints[0].port") != std::string::npos);
}

TEST_CASE("what is about one node is that node's remark: others keep it, it alone takes it back") {
  std::string policy = kPolicy;
  policy.replace(policy.find("allowedEndpoints"), std::string::npos,
                 "llmEndpoint: {fqdn: api.example.com, port: 443}}\n---\n");
  const std::string objects = policy + agent("agent-0", "n1") + agent("agent-1", "n2") + daemon("n1") + daemon("n2");
  Node old_kernel(objects, "n1", false), fine(objects, "n2");
  fine.world.dns().resolvers.push_back(*casa::parse_ip("10.0.0.2"));
  fine.world.compile();
  PolicyStatus with = old_kernel.status(kEnforced2);
  CHECK(with.phase == Phase::kFailed);
  CHECK(with.message.starts_with(kEnforced2 + " [n1 failed: llmEndpoint api.example.com:443 needs the kernel"));
  CHECK(with.message.ends_with("its workload is denied everything]"));
  // The other node is content with that, and changes nothing of it.
  CHECK(fine.status(with.message) == with);
  CHECK(fine.status(kEnforced2) == PolicyStatus{Phase::kActive, kEnforced2});
  // The node writes its own remark itself, whatever its rank is.
  CHECK(old_kernel.rank(kEnforced2, with.message) == 0);
  // With a new kernel it takes it back; so does anybody when the node has no Pod of the target any more.
  Node mended(objects, "n1");
  mended.world.dns().resolvers.push_back(*casa::parse_ip("10.0.0.2"));
  mended.world.compile();
  CHECK(mended.status(with.message) == PolicyStatus{Phase::kActive, kEnforced2});
  CHECK(mended.rank(with.message, kEnforced2) == 0);
  Node left(policy + agent("agent-1", "n2") + daemon("n2"), "n2");
  left.world.dns().resolvers.push_back(*casa::parse_ip("10.0.0.2"));
  left.world.compile();
  CHECK(left.status(with.message).message == "enforced on 1 node");
}

TEST_CASE("a message that somebody else made up is no remark") {
  const std::string objects = kPolicy + kService + agent("agent-0", "n1") + agent("agent-1", "n2");
  Node node(objects);
  for (const char* text :
       {" [", " [n2", " [n2 failed", " [n2: x", " [n2 x]", " [: x]", "x [n3: not here]", " [a b: c]", "[[[]]]"}) {
    INFO(text);
    CHECK(node.status(text).message == kEnforced2);
  }
  CHECK(node.status(" [n2: x]").message == kEnforced2 + " [n2: x]");
}

TEST_CASE("one node is first to write, and not the same for all policies") {
  const std::string objects = kPolicy + kService + agent("agent-0", "n1") + agent("agent-1", "n2") +
                              agent("agent-2", "n3") + daemon("n1") + daemon("n2") + daemon("n3", false) + daemon("n4");
  Node n1(objects, "n1"), n2(objects, "n2"), n3(objects, "n3"), n4(objects, "n4");
  int first_n1 = 0;
  for (int i = 0; i < 64; ++i) {
    std::string uid = "uid-" + std::to_string(i);
    CHECK(std::set{n1.rank("", "", uid), n2.rank("", "", uid)} == std::set{0, 1});
    first_n1 += n1.rank("", "", uid) == 0;
    // No casad is ready there as the API server knows; and a node without a Pod of the target has no say.
    CHECK(n3.rank("", "", uid) == -1);
    CHECK(n4.rank("", "", uid) == -1);
  }
  CHECK(first_n1 > 16);
  CHECK(first_n1 < 48);
  // A target that runs nowhere: every node with a casad.
  const std::string idle = kPolicy + kService + daemon("n1") + daemon("n2") + daemon("n3", false);
  CHECK(std::set{Node(idle, "n1").rank(), Node(idle, "n2").rank()} == std::set{0, 1});
  CHECK(Node(idle, "n3").rank() == -1);
}

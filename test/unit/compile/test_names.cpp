// Names: which rows an llmEndpoint makes, which names a workload may ask for, and what becomes of one that cannot be held.
#include <algorithm>

#include "compile/dns_names.h"
#include "compile/world.h"

using casa::compile::NameKey;
using casa::compile::Phase;
using casa::test::World;

namespace {

constexpr std::uint8_t kTcp = 6, kUdp = 17;

std::string policy(const std::string& name, const std::string& spec, const std::string& target = "agent") {
  return "---\napiVersion: casa.io/v1alpha1\nkind: CASAPolicy\nmetadata: {name: " + name +
         ", namespace: a}\nspec:\n  targetRef: {kind: Pod, name: " + target + "}\n" + spec;
}
std::string llm(const std::string& fqdn, int port = 443) {
  return "  llmEndpoint: {fqdn: " + fqdn + ", port: " + std::to_string(port) + "}\n";
}

constexpr const char* kService = R"(---
apiVersion: v1
kind: Service
metadata: {name: mcp, namespace: tools}
spec: {clusterIP: 10.96.0.9, clusterIPs: [10.96.0.9, "fd00::9"], ports: [{port: 80}]}
)";

std::uint32_t name(const World& w, std::uint32_t subject, const std::string& text) {
  auto it = w.compiled.image.names.find(NameKey{subject, text});
  return it == w.compiled.image.names.end() ? 0 : it->second;
}

std::size_t rows_of(const World& w, std::uint32_t subject) {
  const auto& image = w.compiled.image;
  return static_cast<std::size_t>(
      std::ranges::count_if(image.policy, [&](const auto& row) { return row.first.subject == subject; }) +
      std::ranges::count_if(image.names, [&](const auto& row) { return row.first.subject == subject; }));
}

bool has(const std::string& text, std::string_view part) { return text.find(part) != std::string::npos; }

}  // namespace

TEST_CASE("an llmEndpoint: one peer on one port over TCP, and a name that teaches its addresses") {
  World w(policy("p", llm("api.llm.example")));
  w.dns().resolvers = {*casa::parse_ip("192.0.2.53")};
  w.compile();
  auto agent = w.id("a", "agent"), peer = w.compiled.names.at("api.llm.example").identity;
  CHECK(w.ask(agent, peer, CASA_EGRESS, 443, kTcp, false).reason == CASA_REASON_LLM_ALLOWED);
  CHECK(w.ask(agent, peer, CASA_EGRESS, 443, kUdp, false).reason == CASA_REASON_UDP_NOT_ALLOWED);
  CHECK(w.ask(agent, peer, CASA_EGRESS, 80, kTcp, false).reason == CASA_REASON_PORT_NOT_ALLOWED);
  CHECK(w.ask(agent, peer, CASA_EGRESS, 80, kUdp, false).reason == CASA_REASON_PORT_NOT_ALLOWED);
  CHECK(w.ask(agent, peer, CASA_INGRESS, 443, kTcp, false).reason == CASA_REASON_SOURCE_NOT_ALLOWED);
  CHECK(w.ask(agent, CASA_ID_DNS, CASA_EGRESS, 53, kUdp, false).reason == CASA_REASON_BASELINE_DNS);
  CHECK(w.ask(agent, CASA_ID_DNS, CASA_EGRESS, 53, kTcp, false).reason == CASA_REASON_BASELINE_DNS);
  CHECK(w.ask(agent, CASA_ID_WORLD, CASA_EGRESS, 53, kUdp, false).reason == CASA_REASON_RESOLVER_NOT_TRUSTED);
  CHECK(name(w, agent, "api.llm.example") == (CASA_NAME_LEARN | peer));
  CHECK(w.compiled.image.resolvers.size() == 1);
  CHECK(w.report("p").phase == Phase::kPending);
  CHECK(w.report("p").llm_endpoint == "api.llm.example:443");
}

TEST_CASE("no row has the payload that means: no row") {
  World w(policy("p", llm("api.llm.example") + "  allowedEndpoints: [{name: mcp, namespace: tools, port: 80}]\n") +
          kService);
  w.dns().resolvers = {*casa::parse_ip("192.0.2.53")};
  w.compile();
  for (const auto& [key, payload] : w.compiled.image.policy) CHECK(payload != 0);
  for (const auto& [key, payload] : w.compiled.image.names) CHECK(payload != 0);
  for (const auto& [key, payload] : w.compiled.image.resolvers) CHECK(payload != 0);
}

TEST_CASE("a resolver is asked by those only whose policies need a name") {
  World w(policy("p", llm("api.llm.example")) + policy("q", "", "silent"));
  w.dns().resolvers = {*casa::parse_ip("192.0.2.53")};
  w.compile();
  CHECK(w.ask(w.id("a", "silent"), CASA_ID_DNS, CASA_EGRESS, 53, kUdp, false).reason ==
        CASA_REASON_DNS_NAME_NOT_ALLOWED);
}

TEST_CASE("search forms of an FQDN may be asked and teach nothing") {
  World w(policy("p", llm("api.llm.example")));
  w.dns().search = {"corp.example"};
  w.dns().cluster_domain = "cluster.test";
  w.compile();
  auto agent = w.id("a", "agent");
  for (const char* form : {"api.llm.example.corp.example", "api.llm.example.a.svc.cluster.test",
                           "api.llm.example.svc.cluster.test", "api.llm.example.cluster.test"})
    CHECK(name(w, agent, form) == CASA_NAME_ASK);
  CHECK(name(w, agent, "api.llm.example.cluster.local") == 0);
  CHECK(w.compiled.image.names.size() == 5);
}

TEST_CASE("without a search list of the node, those of a pod remain") {
  casa::identity::DnsFacts dns;
  auto forms = casa::compile::search_forms(dns, "api.llm.example", "a");
  CHECK(forms == std::set<std::string>{"api.llm.example.a.svc.cluster.local", "api.llm.example.svc.cluster.local",
                                       "api.llm.example.cluster.local"});
}

TEST_CASE("a name that would not fit in a search form is left out, the others stay") {
  casa::identity::DnsFacts dns;
  std::string longest = std::string(60, 'a') + "." + std::string(60, 'b') + "." + std::string(60, 'c') + ".io";
  REQUIRE(longest.size() < casa::compile::kMaxNameLength);
  dns.search = {"x", "much-too-long.example"};
  CHECK(casa::compile::search_forms(dns, longest, "a") == std::set<std::string>{longest + ".x"});
}

TEST_CASE("an allowed Service: every form that a client may write, and the names of its addresses") {
  World w(policy("p", "  allowedEndpoints: [{name: mcp, namespace: tools, port: 80}]\n") + kService);
  w.dns().search = {"corp.example"};
  w.compile();
  auto agent = w.id("a", "agent");
  for (const char* form : {"mcp.tools", "mcp.tools.svc", "mcp.tools.svc.cluster.local", "mcp.tools.corp.example",
                           "mcp.tools.svc.a.svc.cluster.local", "mcp.tools.svc.cluster.local.corp.example"})
    CHECK(name(w, agent, form) == CASA_NAME_ASK);
  CHECK(name(w, agent, "mcp") == 0);  // means a/mcp here
  CHECK(name(w, agent, "9.0.96.10.in-addr.arpa") == CASA_NAME_REVERSE);
  CHECK(name(w, agent, casa::compile::reverse_name(*casa::parse_ip("fd00::9"))) == CASA_NAME_REVERSE);
  CHECK(casa::compile::reverse_name(*casa::parse_ip("fd00::9")) ==
        "9.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.d.f.ip6.arpa");
}

TEST_CASE("a Service of the same namespace has its short name, too; a workload that stands for one has none") {
  World w(
      policy(
          "p",
          "  allowedEndpoints:\n  - {name: near, namespace: a, port: 80}\n  - {name: unit, namespace: a, port: 1}\n") +
      "---\napiVersion: v1\nkind: Service\nmetadata: {name: near, namespace: a}\nspec: {ports: [{port: 80}]}\n");
  w.compile();
  auto agent = w.id("a", "agent");
  CHECK(name(w, agent, "near") == CASA_NAME_ASK);
  CHECK(name(w, agent, "near.a.svc.cluster.local") == CASA_NAME_ASK);
  CHECK(name(w, agent, "unit") == 0);
  CHECK(name(w, agent, "unit.a.svc.cluster.local") == 0);
}

TEST_CASE("a name that is both an FQDN and a Service's keeps teaching, in whichever order") {
  for (const char* order : {"1", "2"}) {
    std::string one = policy("p1", llm("mcp.tools")),
                two = policy("p2", "  allowedEndpoints: [{name: mcp, namespace: tools, port: 80}]\n");
    if (*order == '2') {
      one = policy("p2", llm("mcp.tools"));
      two = policy("p1", "  allowedEndpoints: [{name: mcp, namespace: tools, port: 80}]\n");
    }
    World w(one + two + kService);
    w.compile();
    CHECK(name(w, w.id("a", "agent"), "mcp.tools") & CASA_NAME_LEARN);
  }
}

TEST_CASE("several policies of a workload add up: names, and ports of one name") {
  World w(policy("p1", llm("api.llm.example")) + policy("p2", llm("api.llm.example", 8443)) +
          policy("p3", llm("files.llm.example")) + policy("q", llm("files.llm.example"), "other"));
  w.compile();
  auto agent = w.id("a", "agent"), other = w.id("a", "other");
  const auto &api = w.compiled.names.at("api.llm.example"), &files = w.compiled.names.at("files.llm.example");
  CHECK(api.identity != files.identity);
  CHECK(api.ports == std::set<std::uint16_t>{443, 8443});
  CHECK(api.subjects == std::set<std::uint32_t>{agent});
  CHECK(files.subjects == std::set<std::uint32_t>{agent, other});
  CHECK(api.used_by == std::set<std::string>{"a/p1", "a/p2"});
  CHECK(w.ask(agent, api.identity, CASA_EGRESS, 8443, kTcp, false).verdict == CASA_ALLOWED);
  CHECK(w.ask(other, files.identity, CASA_EGRESS, 443, kTcp, false).verdict == CASA_ALLOWED);
  CHECK(w.ask(other, files.identity, CASA_EGRESS, 8443, kTcp, false).verdict == CASA_DENIED);
  CHECK(w.ask(other, api.identity, CASA_EGRESS, 443, kTcp, false).verdict == CASA_DENIED);
  CHECK(name(w, other, "api.llm.example") == 0);
}

TEST_CASE("a kernel that cannot look into DNS and TLS: the policy fails, and its workload may do nothing") {
  World w(policy("p", llm("api.llm.example") + "  allowedEndpoints: [{name: mcp, namespace: tools, port: 80}]\n") +
          policy("q", "  allowedEndpoints: [{name: mcp, namespace: tools, port: 80}]\n", "other") + kService);
  w.dns().inspected = false;
  w.dns().resolvers = {*casa::parse_ip("192.0.2.53")};
  w.compile();
  auto agent = w.id("a", "agent"), other = w.id("a", "other");
  CHECK(w.report("p").phase == Phase::kFailed);
  CHECK(has(w.report("p").message, "needs the kernel to look into DNS and TLS"));
  CHECK(has(w.report("p").message, "its workload is denied everything"));
  CHECK(rows_of(w, agent) == 0);
  CHECK(w.ask(agent, CASA_ID_WORLD, CASA_EGRESS, 443).reason == CASA_REASON_POLICY_INVALID);
  CHECK(w.ask(agent, agent, CASA_EGRESS, 1, kTcp, true).verdict == CASA_ALLOWED);  // itself
  // What needs no name is enforced as ever; nothing is asked of a resolver that nobody could look at.
  CHECK(w.report("q").phase != Phase::kFailed);
  CHECK(w.compiled.image.names.empty());
  CHECK(w.ask(other, CASA_ID_DNS, CASA_EGRESS, 53, kUdp, false).reason == CASA_REASON_DNS_NAME_NOT_ALLOWED);
}

TEST_CASE("a name over 189 characters fails, one of 189 does not") {
  auto long_name = [](std::size_t length) {
    std::string text = std::string(63, 'a') + "." + std::string(63, 'b') + ".";
    return text + std::string(length - text.size() - 3, 'c') + ".io";
  };
  World fits(policy("p", llm(long_name(189))));
  fits.compile();
  CHECK(fits.report("p").phase == Phase::kPending);
  CHECK(name(fits, fits.id("a", "agent"), long_name(189)) & CASA_NAME_LEARN);
  World over(policy("p", llm(long_name(190))));
  over.compile();
  CHECK(over.report("p").phase == Phase::kFailed);
  CHECK(has(over.report("p").message, "longer than the 189 characters"));
  CHECK(over.compiled.image.names.empty());
}

TEST_CASE("deny all of a failed workload includes its names, and nobody else's") {
  World w(policy("p1", llm("api.llm.example")) + policy("bad", "  llmEndpoint: {fqdn: '*.example', port: 443}\n") +
          policy("q", llm("api.llm.example"), "other"));
  w.dns().resolvers = {*casa::parse_ip("192.0.2.53")};
  w.compile();
  auto agent = w.id("a", "agent"), other = w.id("a", "other");
  CHECK(w.report("bad").phase == Phase::kFailed);
  CHECK(rows_of(w, agent) == 0);
  CHECK(w.ask(agent, CASA_ID_DNS, CASA_EGRESS, 53, kUdp, false).reason == CASA_REASON_POLICY_INVALID);
  CHECK(w.compiled.names.at("api.llm.example").subjects == std::set<std::uint32_t>{other});
  CHECK(name(w, other, "api.llm.example") & CASA_NAME_LEARN);
}

TEST_CASE("audit: the rows are the same, what is not allowed is AUDIT") {
  World w(policy("p", "  enforcement: audit\n" + llm("api.llm.example")));
  w.compile();
  auto agent = w.id("a", "agent");
  CHECK(name(w, agent, "api.llm.example") & CASA_NAME_LEARN);
  CHECK(w.ask(agent, CASA_ID_WORLD, CASA_EGRESS, 443, kTcp, false).verdict == CASA_AUDIT);
}

TEST_CASE("a MultiAgentSystem's llm_host is for its agents that no policy names") {
  World w(R"(
apiVersion: casa.io/v1alpha1
kind: MultiAgentSystem
metadata: {name: sys, namespace: a}
spec:
  name: sys
  llm_host: api.llm.example
  apps:
  - {name: planner, type: agent, kubernetesWorkloadName: planner, baseUrl: {host: "planner:9001", scheme: http}}
  - {name: own, type: agent, kubernetesWorkloadName: agent, baseUrl: {host: "own:9001", scheme: http}}
  - {name: ui, type: client, kubernetesWorkloadName: ui, baseUrl: {host: "ui:80", scheme: http}}
  - {name: files, type: mcp_server, kubernetesWorkloadName: files, baseUrl: {host: "files:8080", scheme: http}}
)" + policy("p", ""));
  w.dns().resolvers = {*casa::parse_ip("192.0.2.53")};
  w.compile();
  const auto& peer = w.compiled.names.at("api.llm.example");
  CHECK(peer.subjects == std::set<std::uint32_t>{w.id("a", "planner")});
  CHECK(peer.used_by == std::set<std::string>{"a/sys"});
  CHECK(peer.ports == std::set<std::uint16_t>{443});
  CHECK(w.ask(w.id("a", "planner"), peer.identity, CASA_EGRESS, 443, kTcp, false).reason == CASA_REASON_LLM_ALLOWED);
  for (const char* other : {"agent", "ui", "files"})
    CHECK(w.ask(w.id("a", other), peer.identity, CASA_EGRESS, 443, kTcp, false).verdict == CASA_DENIED);
  CHECK(w.report("sys").llm_endpoint == "api.llm.example:443");
  CHECK(w.report("sys").phase == Phase::kPending);
}

TEST_CASE("a system whose llm_host cannot be held fails, its MCP servers stay as they are") {
  World w(R"(
apiVersion: casa.io/v1alpha1
kind: MultiAgentSystem
metadata: {name: sys, namespace: a}
spec:
  name: sys
  llm_host: api.llm.example
  apps:
  - {name: planner, type: agent, kubernetesWorkloadName: planner, baseUrl: {host: "planner:9001", scheme: http}}
  - {name: files, type: mcp_server, kubernetesWorkloadName: files, baseUrl: {host: "files:8080", scheme: http}}
  - {name: ui, type: client, kubernetesWorkloadName: ui, baseUrl: {host: "ui:80", scheme: http}}
)");
  w.dns().inspected = false;
  w.compile();
  CHECK(w.report("sys").phase == Phase::kFailed);
  CHECK(rows_of(w, w.id("a", "planner")) == 0);
  CHECK(w.ask(w.id("a", "planner"), w.id("a", "files"), CASA_EGRESS, 8080).reason == CASA_REASON_POLICY_INVALID);
  CHECK(w.ask(w.id("a", "files"), w.id("a", "ui"), CASA_INGRESS, 8080).reason == CASA_REASON_MAS_DEFAULT);
}

TEST_CASE("trusted resolvers: the node's, and the cluster's own once") {
  World w(policy("p", llm("api.llm.example")) + R"(---
apiVersion: v1
kind: Service
metadata: {name: kube-dns, namespace: kube-system}
spec: {clusterIP: 10.96.0.10, clusterIPs: [10.96.0.10, "fd00::a"], ports: [{port: 53, protocol: UDP}]}
)");
  w.dns().resolvers = {*casa::parse_ip("192.0.2.53"), *casa::parse_ip("10.96.0.10")};
  w.compile();
  const auto& rows = w.compiled.image.resolvers;
  CHECK(rows.size() == 3);
  for (const char* ip : {"192.0.2.53", "10.96.0.10", "fd00::a"}) CHECK(rows.contains({*casa::parse_ip(ip), 53}));
  // It is a Service as well: to ask it for other things than names still needs a rule.
  CHECK(casa::compile::identity_of(w.compiled.image, *casa::parse_ip("10.96.0.10")) >= CASA_ID_FIRST);
}

TEST_CASE("no resolver: the policy stands, and says that nothing will resolve") {
  World w(policy("p", llm("api.llm.example")));
  w.compile();
  CHECK(has(w.report("p").message, "no resolver is known"));
  CHECK(w.compiled.image.resolvers.empty());
}

TEST_CASE("text and digest have names and resolvers in them") {
  auto compiled = [](const char* fqdn, const char* resolver) {
    World w(policy("p", llm(fqdn)));
    w.dns().resolvers = {*casa::parse_ip(resolver)};
    w.compile();
    return std::pair(casa::compile::to_text(w.compiled.image), casa::compile::digest(w.compiled.image));
  };
  auto one = compiled("api.llm.example", "192.0.2.53");
  CHECK(has(one.first, " api.llm.example 0x8"));
  CHECK(has(one.first, " api.llm.example.cluster.local 0x1\n"));
  CHECK(has(one.first, "resolver 192.0.2.53:53\n"));
  CHECK(compiled("api.llm.example", "192.0.2.53") == one);
  CHECK(compiled("api.llm.example", "192.0.2.54").second != one.second);
  CHECK(compiled("api2.llm.example", "192.0.2.53").second != one.second);
}

TEST_CASE("limits: names and resolvers that do not fit are refused with what to do") {
  World w(policy("p", llm("api.llm.example")));
  for (unsigned i = 0; i <= CASA_MAX_RESOLVERS; ++i)
    w.dns().resolvers.push_back(*casa::parse_ip("10.0." + std::to_string(i / 250) + "." + std::to_string(i % 250 + 1)));
  w.compile();
  casa::compile::Limits limits;
  auto resolvers = casa::compile::check_limits(w.compiled.image, limits);
  REQUIRE_FALSE(resolvers);
  CHECK(has(resolvers.error().context, "257 resolvers"));
  limits.names = 2;
  auto names = casa::compile::check_limits(w.compiled.image, limits);
  REQUIRE_FALSE(names);
  CHECK(has(names.error().context, "limits.names"));
}

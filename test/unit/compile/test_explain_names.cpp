// explain with names and resolvers: what a developer who asks "why does my LLM call fail?" is told.
#include "compile/world.h"

using casa::test::World;

namespace {

constexpr const char* kPolicies = R"(
apiVersion: casa.io/v1alpha1
kind: CASAPolicy
metadata: {name: agent, namespace: a}
spec:
  targetRef: {kind: Pod, name: agent}
  llmEndpoint: {fqdn: api.llm.example, port: 443}
  allowedEndpoints: [{name: mcp, namespace: tools, port: 80}]
---
apiVersion: casa.io/v1alpha1
kind: CASAPolicy
metadata: {name: other, namespace: a}
spec:
  targetRef: {kind: Pod, name: other}
---
apiVersion: v1
kind: Service
metadata: {name: mcp, namespace: tools}
spec: {clusterIP: 10.96.0.9, ports: [{port: 80}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: mcp-1, namespace: tools, labels: {kubernetes.io/service-name: mcp}}
addressType: IPv4
endpoints: [{addresses: [192.0.2.4]}]
ports: [{port: 80}]
)";

struct Asked {
  casa_verdict verdict;
  std::string reason_of, text, suggestion, policy, field;
  casa_reason reason;
};

struct Explainer {
  explicit Explainer(const std::string& policies = kPolicies) : w(policies) {
    w.dns().resolvers = {*casa::parse_ip("192.0.2.53"), *casa::parse_ip("127.0.0.53")};
    w.compile();
  }
  Asked ask(const std::string& from, const std::string& to, const std::string& protocol = "tcp") const {
    auto answer =
        casa::compile::explain(w.compiled, w.snapshot, from, to, protocol, {{"api.llm.example", "is 203.0.113.7 now"}});
    INFO(to << ": " << (answer ? "" : answer.error().context));
    REQUIRE(answer);
    REQUIRE(answer->steps.size() == 1);
    const auto& step = answer->steps[0];
    CAPTURE(step.text);
    CHECK(step.text.find("/,") == std::string::npos);
    return {answer->verdict, "",         step.text,           answer->suggestions.empty() ? "" : answer->suggestions[0],
            step.policy,     step.field, step.decision.reason};
  }
  World w;
};

bool has(const std::string& text, std::string_view part) {
  INFO(text);
  return text.find(part) != std::string::npos;
}

}  // namespace

TEST_CASE("explain, a name that is allowed: policy, server name, addresses") {
  Explainer e;
  auto a = e.ask("a/agent", "api.llm.example:443");
  CHECK(a.verdict == CASA_ALLOWED);
  CHECK(a.reason == CASA_REASON_LLM_ALLOWED);
  CHECK(a.policy == "a/agent");
  CHECK(a.field == "spec.llmEndpoint");
  CHECK(has(a.text, "over TLS whose server name is api.llm.example"));
  CHECK(has(a.text, "api.llm.example is 203.0.113.7 now"));
  CHECK(e.ask("a/agent", "API.llm.example.:443").verdict == CASA_ALLOWED);
}

TEST_CASE("explain, another port or protocol of an allowed name") {
  Explainer e;
  auto port = e.ask("a/agent", "api.llm.example:8443");
  CHECK(port.reason == CASA_REASON_PORT_NOT_ALLOWED);
  CHECK(has(port.text, "on port 443 only"));
  CHECK(has(port.suggestion, "llmEndpoint: {fqdn: api.llm.example, port: 8443}"));
  auto quic = e.ask("a/agent", "api.llm.example:443", "udp");
  CHECK(quic.reason == CASA_REASON_UDP_NOT_ALLOWED);
  CHECK(has(quic.text, "goes on with TCP"));
  CHECK(has(quic.suggestion, "use TCP"));
}

TEST_CASE("explain, a name that another workload has, and one that nobody has: the same refusal, at the query") {
  Explainer e;
  for (const char* to : {"api.llm.example:443", "evil.example:443"}) {
    auto a = e.ask("a/other", to);
    CHECK(a.verdict == CASA_DENIED);
    CHECK(a.reason == CASA_REASON_DNS_NAME_NOT_ALLOWED);
    CHECK(has(a.text, "none of its policies (a/other) has this llmEndpoint"));
    CHECK(has(a.suggestion, "add to a CASAPolicy of a/other"));
    CHECK(has(a.suggestion, "llmEndpoint: {fqdn: "));
  }
  CHECK(e.ask("a/agent", "evil.example:443").reason == CASA_REASON_DNS_NAME_NOT_ALLOWED);
}

TEST_CASE("explain, resolvers: one that is trusted, one that is not, and nobody who needs any") {
  Explainer e;
  for (const char* to : {"192.0.2.53:53", "127.0.0.53:53"}) {
    auto a = e.ask("a/agent", to, "udp");
    CHECK(a.reason == CASA_REASON_BASELINE_DNS);
    CHECK(a.policy.empty());
    CHECK(has(a.text, "is a trusted resolver"));
  }
  auto other = e.ask("a/other", "192.0.2.53:53", "udp");
  CHECK(other.reason == CASA_REASON_DNS_NAME_NOT_ALLOWED);
  CHECK(has(other.text, "its policies need no DNS name"));
  CHECK(other.suggestion.empty());
  auto bad = e.ask("a/agent", "8.8.8.8:53", "udp");
  CHECK(bad.reason == CASA_REASON_RESOLVER_NOT_TRUSTED);
  CHECK(has(bad.suggestion, "dns.resolvers"));
  CHECK(e.ask("a/agent", "192.0.2.53:853").reason == CASA_REASON_EXTERNAL_NOT_ALLOWED);
}

TEST_CASE("explain, a Service by its DNS name is that Service") {
  Explainer e;
  for (const char* to : {"mcp.tools.svc:80", "mcp.tools.svc.cluster.local:80"})
    CHECK(e.ask("a/agent", to).reason == CASA_REASON_ENDPOINT_ALLOWED);
}

TEST_CASE("explain, a workload whose policy failed: it is told to mend it, not to add to it") {
  std::string bad = std::string(kPolicies) + R"(---
apiVersion: casa.io/v1alpha1
kind: CASAPolicy
metadata: {name: more, namespace: a}
spec:
  targetRef: {kind: Pod, name: agent}
  llmEndpoint: {fqdn: "*.llm.example", port: 443}
)";
  Explainer e(bad);
  auto a = e.ask("a/agent", "api.llm.example:443");
  CHECK(a.reason == CASA_REASON_POLICY_INVALID);
  CHECK(has(a.text, "one of its policies (a/agent, a/more) failed"));
  CHECK(has(a.suggestion, "mend the policies of a/agent"));
}

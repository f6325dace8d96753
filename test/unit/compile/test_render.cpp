// What policies become in others' words: the whole text of one world, for each dialect. That it means what the policies mean is asked by
// test/check/render.py, pair by pair.
#include <catch2/catch_test_macros.hpp>

#include "compile/render.h"
#include "policy/parse.h"

using namespace casa;
using namespace casa::compile;

namespace {

constexpr const char* kWorld = R"(apiVersion: casa.io/v1alpha1
kind: CASAPolicy
metadata: {name: agent, namespace: team-a}
spec:
  targetRef: {kind: Deployment, name: agent}
  allowedEndpoints:
    - {name: tools, namespace: team-b, port: 80}
  allowedSources:
    - {host: true, port: 9090}
    - {cidr: 10.20.0.0/16, port: 8000}
  llmEndpoint: {fqdn: api.llm.example, port: 443}
---
apiVersion: casa.io/v1alpha1
kind: CASAPolicy
metadata: {name: tools, namespace: team-b}
spec:
  targetRef: {kind: Pod, name: tools-0}
---
apiVersion: v1
kind: Pod
metadata: {name: tools-0, namespace: team-b, labels: {app: tools}}
---
apiVersion: v1
kind: Service
metadata: {name: tools, namespace: team-b}
spec: {selector: {app: tools}, ports: [{port: 80, targetPort: 8080}]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: agent, namespace: team-a}
spec:
  selector: {matchLabels: {app: agent}}
  template: {metadata: {labels: {app: agent}}, spec: {containers: [{name: c}]}}
---
apiVersion: v1
kind: Node
metadata: {name: n}
spec: {podCIDR: 10.20.5.0/24}
)";

std::vector<policy::Object> objects(const std::string& yaml) {
  auto parsed = policy::parse_text("world.yaml", yaml, policy::Syntax::kYaml);
  for (const auto& d : parsed.diagnostics) FAIL_CHECK(to_string(d));
  return parsed.objects;
}

std::vector<std::string> notes_of(const Rendered& rendered) {
  std::vector<std::string> out;
  for (const auto& note : rendered.notes) out.push_back(to_string(note));
  return out;
}

}  // namespace

TEST_CASE("CiliumNetworkPolicies") {
  auto rendered = render_cilium(objects(kWorld), {});
  CHECK(rendered.ok());
  CHECK(notes_of(rendered).empty());
  CHECK(rendered.yaml == R"(---
# "namespace team-a is under enforcement"
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata:
  name: "casa-default-deny"
  namespace: "team-a"
  labels:
    app.kubernetes.io/managed-by: casad
spec:
  endpointSelector: {}
  ingress:
    - {}
  egress:
    - {}
---
# "CASAPolicy team-a/agent"
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata:
  name: "casa-deployment-agent"
  namespace: "team-a"
  labels:
    app.kubernetes.io/managed-by: casad
spec:
  endpointSelector:
    matchLabels:
      "k8s:app": "agent"
  ingress:
    - fromCIDR:
        - "10.20.0.0/16"
      toPorts:
        - ports:
            - {port: "8000", protocol: TCP}
            - {port: "8000", protocol: UDP}
    - fromEntities: [host]
      toPorts:
        - ports:
            - {port: "9090", protocol: TCP}
            - {port: "9090", protocol: UDP}
  egress:
    - toEndpoints:
        - matchLabels:
            "k8s:app": "tools"
            "k8s:io.kubernetes.pod.namespace": "team-b"
      toPorts:
        - ports:
            - {port: "8080", protocol: TCP}
    - toFQDNs:
        - matchName: "api.llm.example"
      toPorts:
        - ports:
            - {port: "443", protocol: TCP}
          serverNames: ["api.llm.example"]
    - toEndpoints:
        - matchLabels:
            "k8s:io.kubernetes.pod.namespace": "kube-system"
            "k8s:k8s-app": "kube-dns"
      toPorts:
        - ports:
            - {port: "53", protocol: TCP}
            - {port: "53", protocol: UDP}
          rules:
            dns:
              - matchName: "api.llm.example"
              - matchName: "api.llm.example.cluster.local"
              - matchName: "api.llm.example.svc.cluster.local"
              - matchName: "api.llm.example.team-a.svc.cluster.local"
              - matchName: "tools.team-b"
              - matchName: "tools.team-b.cluster.local"
              - matchName: "tools.team-b.svc"
              - matchName: "tools.team-b.svc.cluster.local"
              - matchName: "tools.team-b.svc.cluster.local.cluster.local"
              - matchName: "tools.team-b.svc.cluster.local.svc.cluster.local"
              - matchName: "tools.team-b.svc.cluster.local.team-a.svc.cluster.local"
              - matchName: "tools.team-b.svc.svc.cluster.local"
              - matchName: "tools.team-b.svc.team-a.svc.cluster.local"
              - matchName: "tools.team-b.team-a.svc.cluster.local"
---
# "namespace team-b is under enforcement"
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata:
  name: "casa-default-deny"
  namespace: "team-b"
  labels:
    app.kubernetes.io/managed-by: casad
spec:
  endpointSelector: {}
  ingress:
    - {}
  egress:
    - {}
---
# "CASAPolicy team-b/tools"
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata:
  name: "casa-pod-tools-0"
  namespace: "team-b"
  labels:
    app.kubernetes.io/managed-by: casad
spec:
  endpointSelector:
    matchLabels:
      "k8s:app": "tools"
  ingress:
    - {}
  egress:
    - {}
---
# "CASAPolicy team-a/agent"
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata:
  name: "casa-service-tools"
  namespace: "team-b"
  labels:
    app.kubernetes.io/managed-by: casad
spec:
  endpointSelector:
    matchLabels:
      "k8s:app": "tools"
  ingress:
    - fromEndpoints:
        - matchLabels:
            "k8s:app": "agent"
            "k8s:io.kubernetes.pod.namespace": "team-a"
      toPorts:
        - ports:
            - {port: "8080", protocol: TCP}
  egress:
    - {}
)");
}

TEST_CASE("NetworkPolicies, and what they cannot say") {
  auto rendered = render_network_policy(objects(kWorld), {});
  CHECK(rendered.ok());
  CHECK(
      notes_of(rendered) ==
      std::vector<std::string>{
          "world.yaml:9:7: warning: a NetworkPolicy has no word for the node, so host: true is left out; remove it if "
          "Kubernetes may let a Pod's own node in on every port, as it does",
          "world.yaml:11:16: warning: a NetworkPolicy knows no names, so api.llm.example:443 is left out and stays "
          "denied; use casad render cilium, or casad's own enforcement",
          "world.yaml:1:1: warning: a NetworkPolicy cannot hold DNS to the names that are needed, so "
          "team-a/casa-deployment-agent may ask for none; use --any-dns-name to let it ask for every name, which can "
          "carry data out"});
  CHECK(rendered.yaml == R"(---
# "namespace team-a is under enforcement"
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata:
  name: "casa-default-deny"
  namespace: "team-a"
  labels:
    app.kubernetes.io/managed-by: casad
spec:
  podSelector: {}
  policyTypes: [Ingress, Egress]
---
# "CASAPolicy team-a/agent"
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata:
  name: "casa-deployment-agent"
  namespace: "team-a"
  labels:
    app.kubernetes.io/managed-by: casad
spec:
  podSelector:
    matchLabels:
      "app": "agent"
  policyTypes: [Ingress, Egress]
  ingress:
    - from:
        - ipBlock:
            cidr: "10.20.0.0/16"
            except:
              - "10.20.5.0/24"
      ports:
        - {protocol: TCP, port: 8000}
        - {protocol: UDP, port: 8000}
  egress:
    - to:
        - namespaceSelector:
            matchLabels:
              kubernetes.io/metadata.name: "team-b"
          podSelector:
            matchLabels:
              "app": "tools"
      ports:
        - {protocol: TCP, port: 8080}
---
# "namespace team-b is under enforcement"
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata:
  name: "casa-default-deny"
  namespace: "team-b"
  labels:
    app.kubernetes.io/managed-by: casad
spec:
  podSelector: {}
  policyTypes: [Ingress, Egress]
---
# "CASAPolicy team-b/tools"
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata:
  name: "casa-pod-tools-0"
  namespace: "team-b"
  labels:
    app.kubernetes.io/managed-by: casad
spec:
  podSelector:
    matchLabels:
      "app": "tools"
  policyTypes: [Ingress, Egress]
---
# "CASAPolicy team-a/agent"
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata:
  name: "casa-service-tools"
  namespace: "team-b"
  labels:
    app.kubernetes.io/managed-by: casad
spec:
  podSelector:
    matchLabels:
      "app": "tools"
  policyTypes: [Ingress, Egress]
  ingress:
    - from:
        - namespaceSelector:
            matchLabels:
              kubernetes.io/metadata.name: "team-a"
          podSelector:
            matchLabels:
              "app": "agent"
      ports:
        - {protocol: TCP, port: 8080}
)");
}

TEST_CASE("what nobody checked does not become YAML of its own") {
  // An owner's kind and name, and a Service's selector, may be any text.
  auto rendered = render_cilium(objects(R"(
apiVersion: v1
kind: Namespace
metadata: {name: a, labels: {casa.io/injection: enabled}}
---
apiVersion: v1
kind: Pod
metadata:
  name: p
  namespace: a
  labels: {app: p}
  annotations: {casa.io/enforcement: disabled}
  ownerReferences: [{kind: "Odd\nkind: X", name: "n\" }\n---\nkind: Y"}]
)"),
                                {});
  CHECK(rendered.yaml.find("\nkind: X") == std::string::npos);
  CHECK(rendered.yaml.find("\nkind: Y") == std::string::npos);
  CHECK(rendered.yaml.find(R"(name: "casa-odd\u000akind: x-n\" }\u000a---\u000akind: Y")") != std::string::npos);
}

TEST_CASE("an error leaves nothing to apply") {
  auto rendered = render_cilium(objects(R"(
apiVersion: casa.io/v1alpha1
kind: CASAPolicy
metadata: {name: p, namespace: a}
spec:
  targetRef: {kind: Pod, name: p}
  tokens: {requireValidSignature: drop}
---
apiVersion: v1
kind: Pod
metadata: {name: p, namespace: a, labels: {app: p}}
)"),
                                {});
  CHECK(!rendered.ok());
  CHECK(rendered.yaml.empty());
  CHECK(notes_of(rendered).at(0).starts_with(
      "world.yaml:2:1: error: spec.tokens.requireValidSignature: drop cannot be said"));
}

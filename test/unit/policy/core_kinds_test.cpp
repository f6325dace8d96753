// Namespace, Pod, Service and EndpointSlice: what a real cluster prints is taken, what casad uses is checked.
#include <catch2/catch_test_macros.hpp>

#include "support.h"

using namespace casa::policy;
using namespace casa::policy::test;

namespace {
// As `kubectl get pod -o yaml` prints it, shortened.
constexpr std::string_view kRealPod = R"(apiVersion: v1
kind: Pod
metadata:
  annotations:
    cni.projectcalico.org/podIP: 10.42.0.9/32
    kubectl.kubernetes.io/last-applied-configuration: |
      {"apiVersion":"v1","kind":"Pod"}
  creationTimestamp: "2026-01-02T03:04:05Z"
  generateName: agent-5f6d7c8b9-
  labels:
    app: agent
    pod-template-hash: 5f6d7c8b9
  managedFields:
  - apiVersion: v1
    fieldsType: FieldsV1
    fieldsV1:
      f:metadata:
        f:labels:
          .: {}
          f:app: {}
    manager: kube-controller-manager
    operation: Update
    time: "2026-01-02T03:04:05Z"
  name: agent-5f6d7c8b9-x2x4z
  namespace: team-a
  ownerReferences:
  - apiVersion: apps/v1
    blockOwnerDeletion: true
    controller: true
    kind: ReplicaSet
    name: agent-5f6d7c8b9
    uid: 0f0e0d0c-0b0a-4908-8706-050403020100
  resourceVersion: "12345"
  uid: 3c3e6a52-6d1f-4d3b-9d53-0a1b2c3d4e5f
spec:
  containers:
  - env:
    - name: X
      value: "1"
    image: registry.local/agent:1
    imagePullPolicy: IfNotPresent
    livenessProbe:
      httpGet: {path: /healthz, port: http}
    name: agent
    ports:
    - containerPort: 8000
      name: http
      protocol: TCP
    - {containerPort: 53, protocol: UDP, hostPort: 53}
    resources: {}
    terminationMessagePath: /dev/termination-log
    terminationMessagePolicy: File
    volumeMounts:
    - mountPath: /var/run/secrets
      name: token
      readOnly: true
  dnsPolicy: ClusterFirst
  enableServiceLinks: true
  initContainers:
  - name: proxy
    restartPolicy: Always
    ports: [{containerPort: 15090}]
  nodeName: node-1
  preemptionPolicy: PreemptLowerPriority
  priority: 0
  restartPolicy: Always
  schedulerName: default-scheduler
  securityContext: {}
  serviceAccount: default
  serviceAccountName: default
  terminationGracePeriodSeconds: 30
  tolerations:
  - effect: NoExecute
    key: node.kubernetes.io/not-ready
    operator: Exists
    tolerationSeconds: 300
  volumes:
  - name: token
    projected: {defaultMode: 420}
status:
  conditions:
  - lastProbeTime: null
    status: "True"
    type: Ready
  containerStatuses:
  - ready: true
    restartCount: 0
  hostIP: 192.0.2.1
  hostIPs:
  - ip: 192.0.2.1
  phase: Running
  podIP: 10.42.0.9
  podIPs:
  - ip: 10.42.0.9
  - ip: fd00::9
  qosClass: BestEffort
  startTime: "2026-01-02T03:04:05Z"
)";

constexpr std::string_view kRealService = R"(apiVersion: v1
kind: Service
metadata:
  creationTimestamp: null
  name: mcp
  namespace: team-a
spec:
  allocateLoadBalancerNodePorts: true
  clusterIP: 10.96.0.7
  clusterIPs: [10.96.0.7, "fd00::7"]
  externalTrafficPolicy: Cluster
  internalTrafficPolicy: Cluster
  ipFamilies: [IPv4, IPv6]
  ipFamilyPolicy: PreferDualStack
  ports:
  - {name: mcp, nodePort: 30080, port: 80, protocol: TCP, targetPort: 8080, appProtocol: http}
  - {name: dns, port: 53, protocol: UDP, targetPort: dns}
  - {name: plain, port: 9}
  selector: {app: mcp}
  sessionAffinity: None
  type: LoadBalancer
status:
  loadBalancer: {}
)";

constexpr std::string_view kRealSlice = R"(addressType: IPv4
apiVersion: discovery.k8s.io/v1
endpoints:
- addresses: [10.42.0.9]
  conditions: {ready: true, serving: true, terminating: false}
  nodeName: node-1
  targetRef: {kind: Pod, name: mcp-1, namespace: team-a, uid: 3c3e6a52-6d1f-4d3b-9d53-0a1b2c3d4e5f}
  zone: z1
- addresses: [10.42.0.10]
  conditions: {ready: false}
- addresses: [10.42.0.11]
  conditions: {ready: null}
  targetRef: {kind: Node, name: n}
kind: EndpointSlice
metadata:
  labels:
    endpointslice.kubernetes.io/managed-by: endpointslice-controller.k8s.io
    kubernetes.io/service-name: mcp
  name: mcp-abcde
  namespace: team-a
ports:
- {name: mcp, port: 8080, protocol: TCP}
- {name: "", port: 53, protocol: UDP}
)";

std::string spec(std::string_view kind, std::string_view text) {
  return "apiVersion: v1\nkind: " + std::string(kind) + "\nmetadata: {name: a}\n" + std::string(text);
}
std::string slice(std::string_view text) {
  return "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: a, labels: "
         "{kubernetes.io/service-name: s}}\n" +
         std::string(text);
}

constexpr std::string_view kRealDeployment = R"(apiVersion: apps/v1
kind: Deployment
metadata:
  annotations: {deployment.kubernetes.io/revision: "1"}
  generation: 1
  name: agent
  namespace: team-a
spec:
  progressDeadlineSeconds: 600
  replicas: 2
  revisionHistoryLimit: 10
  selector:
    matchLabels: {app: agent}
    matchExpressions: [{key: tier, operator: Exists}]
  strategy: {rollingUpdate: {maxSurge: 25%, maxUnavailable: 25%}, type: RollingUpdate}
  template:
    metadata:
      annotations: {casa.io/enforcement: disabled}
      creationTimestamp: null
      labels: {app: agent, tier: x}
    spec:
      hostNetwork: true
      containers:
      - {image: i, name: c, ports: [{containerPort: 8000, name: http}]}
      terminationGracePeriodSeconds: 30
status: {availableReplicas: 2, conditions: [{type: Available}]}
)";
}  // namespace

TEST_CASE("Deployments and StatefulSets: how their Pods are selected, and what these are like") {
  auto deployment = parse_text("f", kRealDeployment, Syntax::kYaml);
  CHECK(lines(deployment).empty());
  CHECK(dump(deployment)
            .starts_with(
                "Deployment team-a/agent uid= labels={} annotations={\"deployment.kubernetes.io/revision\": \"1\"} "
                "match={\"app\": \"agent\"} and expressions labels={\"app\": \"agent\", \"tier\": \"x\"} host=true"));
  CHECK(std::get<Deployment>(deployment.objects.at(0)).pod.meta.annotations.at("casa.io/enforcement") == "disabled");
  check_rows("apiVersion: apps/v1\nkind: StatefulSet\nmetadata: {name: a}\n",
             {
                 {"spec: {serviceName: a, selector: {matchLabels: {a: b}}, template: {metadata: {}, spec: {containers: "
                  "[{name: c}]}}, volumeClaimTemplates: [{}]}",
                  {}},
                 {"spec: {}",
                  {"4:7: spec.selector: the field is missing; write selector: {matchLabels: <labels that only these "
                   "Pods have>}",
                   "4:7: spec.template: the field is missing; write template: with metadata and spec of the Pods"}},
                 {"spec: {selector: {matchLabels: {a: 1}}, template: {metadata: {labels: {-: b}}, spec: {containers: "
                  "[{name: c}], hostNetwork: 1}}}",
                  {"4:36: spec.selector.matchLabels.a: this must be a text, not the number 1; put it in quotes: \"1\"",
                   "4:72: spec.template.metadata.labels: \"-\" is not a label's or annotation's key; write name or "
                   "example.com/name",
                   "4:125: spec.template.spec.hostNetwork: this must be true or false, not the number 1; write true, "
                   "without quotes"}},
                 {"spec: {selector: {}, strategy: {}, template: {metadata: {}, spec: {containers: [{name: c}]}}}",
                  {"4:22: spec.strategy: unknown field; remove it, or write minReadySeconds, ordinals, "
                   "persistentVolumeClaimRetentionPolicy, podManagementPolicy, replicas, revisionHistoryLimit, "
                   "selector, serviceName, template, updateStrategy or volumeClaimTemplates"}},
             });
}

TEST_CASE("what a cluster prints is taken as it is") {
  auto pod = parse_text("f", kRealPod, Syntax::kYaml);
  CHECK(lines(pod).empty());
  CHECK(dump(pod).find("owner=ReplicaSet/agent-5f6d7c8b9 host=false ips=10.42.0.9,fd00::9, cgroup= port=http:8000/6 "
                       "port=:53/17 port=:15090/6 node=node-1 uid=3c3e6a52-6d1f-4d3b-9d53-0a1b2c3d4e5f qos=BestEffort "
                       "finished=false deleting=false istio=false probes=[8000]") != std::string::npos);
  auto service = parse_text("f", kRealService, Syntax::kYaml);
  CHECK(lines(service).empty());
  CHECK(dump(service) ==
        "Service team-a/mcp uid= labels={} annotations={} selector={\"app\": \"mcp\"} ips=10.96.0.7,fd00::7, external= "
        "port=mcp:80->8080/6 port=dns:53->dns/17 port=plain:9->9/6\n");
  auto endpoints = parse_text("f", kRealSlice, Syntax::kYaml);
  CHECK(lines(endpoints).empty());
  CHECK(dump(endpoints).find(
            "service=mcp port=mcp:8080->8080/6 port=:53->53/17 endpoint=10.42.0.9, ready=true pod=team-a/mcp-1 "
            "endpoint=10.42.0.10, ready=false pod= endpoint=10.42.0.11, ready=true pod=") != std::string::npos);
  CHECK(lines("apiVersion: v1\nkind: Namespace\nmetadata: {name: a, uid: u}\nspec: {finalizers: [kubernetes]}\nstatus: "
              "{phase: Active}")
            .empty());
}

TEST_CASE("Namespace") {
  check_rows("", {{spec("Namespace", "spec: {finalizer: [x]}"),
                   {"4:8: spec.finalizer: unknown field; did you mean finalizers?"}},
                  {spec("Namespace", "spec: x"),
                   {"4:7: spec: this must be a mapping, not the text \"x\"; write its fields as \"name: value\""}}});
}

TEST_CASE("Pod") {
  const std::string port = "; write a whole number from 1 to 65535";
  check_rows(
      "",
      {
          {spec("Pod", ""), {}},
          {spec("Pod", "spec: {hostNetwork: true}"), {}},
          {spec("Pod", "spec: {hostNetwork: on}"),
           {"4:21: spec.hostNetwork: this must be true or false, not the text \"on\"; write true, without quotes"}},
          {spec("Pod", "spec: {container: []}"), {"4:8: spec.container: unknown field; did you mean containers?"}},
          {spec("Pod", "spec: {containers: [{port: []}]}"),
           {"4:22: spec.containers[0].port: unknown field; did you mean ports?"}},
          {spec("Pod", "spec: {containers: [{ports: [{}]}]}"),
           {"4:30: spec.containers[0].ports[0].containerPort: the field is missing; write containerPort: <number>"}},
          {spec("Pod", "spec: {containers: [{ports: [{containerPort: 0, name: HTTP, protocol: tcp}]}]}"),
           {"4:46: spec.containers[0].ports[0].containerPort: this must be a port, not the number 0" + port,
            "4:55: spec.containers[0].ports[0].name: \"HTTP\" is not a port's name (lower-case letters, digits and "
            "'-', at most 15, with a letter); write http",
            "4:71: spec.containers[0].ports[0].protocol: the text \"tcp\" is not possible here; did you mean TCP?"}},
          {spec("Pod", "spec: {containers: [{ports: [{containerPort: 1, protocol: SCTP}]}]}"),
           {"4:59: warning: spec.containers[0].ports[0].protocol: casad lets no SCTP through and ignores this port; "
            "write TCP or UDP, or leave it"}},
          {spec("Pod", "status: {podIP: x}"),
           {"4:17: status.podIP: \"x\" is not an address; write one such as 10.0.0.1 or fd00::1"}},
          {spec("Pod", "status: {podIP: ''}"), {}},
          {spec("Pod", "status: {podIPs: [{ip: 10.0.0.1/8}, {}]}"),
           {"4:24: status.podIPs[0].ip: \"10.0.0.1/8\" is not an address; write one such as 10.0.0.1 or fd00::1",
            "4:37: status.podIPs[1].ip: the field is missing; write ip: <the pod's address>"}},
          {spec("Pod", "status: {podIp: x}"), {"4:10: status.podIp: unknown field; did you mean podIP?"}},
      });
  auto r = parse_text("f", spec("Pod", "status: {podIP: '::ffff:10.0.0.1', podIPs: [{ip: 10.0.0.1}]}"), Syntax::kYaml);
  CHECK(std::get<Pod>(r.objects.at(0)).ips.size() == 1);
}

TEST_CASE("Service") {
  check_rows(
      "",
      {
          {spec("Service", ""), {"1:1: spec: the field is missing; write spec: with selector and ports"}},
          {spec("Service", "spec: {ports: [{port: 80, targetPort: \"8080\"}]}"),
           {"4:39: spec.ports[0].targetPort: this must be a number, not a text in quotes; write 8080 without quotes"}},
          {spec("Service", "spec: {ports: [{port: 80, targetPort: Http}]}"),
           {"4:39: spec.ports[0].targetPort: \"Http\" is not a port's name (lower-case letters, digits and '-', at "
            "most 15, with a letter); write http"}},
          {spec("Service", "spec: {ports: [{prot: 80}]}"),
           {"4:16: spec.ports[0].port: the field is missing; write port: <number>",
            "4:17: spec.ports[0].prot: unknown field; remove it, or write name, port, targetPort, protocol, nodePort "
            "or appProtocol"}},
          {spec("Service", "spec: {selecter: {}}"), {"4:8: spec.selecter: unknown field; did you mean selector?"}},
          {spec("Service", "spec: {selector: {app: 1}}"),
           {"4:24: spec.selector.app: this must be a text, not the number 1; put it in quotes: \"1\""}},
          {spec("Service", "spec: {clusterIP: none}"),
           {"4:19: spec.clusterIP: \"none\" is not an address; write one such as 10.0.0.1 or fd00::1"}},
          {spec("Service", "spec: {clusterIP: None, clusterIPs: [None]}"), {}},
          {spec("Service", "spec: {clusterIP: ''}"), {}},
          {spec("Service", "spec: {type: ExternalName, externalName: api.example.com.}"), {}},
          {spec("Service", "spec: {type: ExternalName}"),
           {"4:7: spec.externalName: the field is missing; write externalName: <host name>, or another type"}},
          {spec("Service", "spec: {type: External}"),
           {"4:14: spec.type: the text \"External\" is not possible here; write ClusterIP, NodePort, LoadBalancer or "
            "ExternalName"}},
          {"apiVersion: v1\nkind: Service\nmetadata: {name: 9a}\nspec: {}",
           {"3:18: metadata.name: \"9a\" is not a Service's name (a letter, then lower-case letters, digits and '-'); "
            "write svc-9a"}},
      });
}

TEST_CASE("EndpointSlice") {
  check_rows(
      "", {
              {slice("addressType: IPv4"), {}},
              {slice("addressType: IPv4\nendpoints: null\nports: null"), {}},
              {slice("endpoints: []"), {"1:1: addressType: the field is missing; write addressType: IPv4 or IPv6"}},
              {slice("addressType: ipv4"),
               {"4:14: addressType: the text \"ipv4\" is not possible here; did you mean IPv4?"}},
              {slice("addressType: IPv4\nendpoint: []"), {"5:1: endpoint: unknown field; did you mean endpoints?"}},
              {slice("addressType: IPv4\nendpoints: [{}]"),
               {"5:13: endpoints[0].addresses: the field is missing; write addresses: [<address>]"}},
              {slice("addressType: IPv4\nendpoints: [{addresses: [a.b]}]"),
               {"5:26: endpoints[0].addresses[0]: \"a.b\" is not an address; write one such as 10.0.0.1 or fd00::1"}},
              {slice("addressType: IPv4\nendpoints: [{addresses: [10.0.0.1], conditions: {ready: yes}}]"),
               {"5:57: endpoints[0].conditions.ready: this must be true or false, not the text \"yes\"; write true, "
                "without quotes"}},
              {slice("addressType: IPv4\nports: [{name: a}]"),
               {"5:9: ports[0].port: the field is missing; write port: <number>"}},
              {slice("addressType: FQDN\nendpoints: [{addresses: [a.b]}]"),
               {"4:14: warning: addressType: casad ignores endpoints that are names; write addresses"}},
              {"apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: a}\naddressType: IPv6",
               {"1:1: warning: metadata.labels: the slice belongs to no Service; write the label "
                "kubernetes.io/service-name: <the Service's name>"}},
          });
}

// What of a Pod file says where its processes are and who asks it: the cgroup's uid, the QoS class, probes, phases; and
// the kind Node.
#include <catch2/catch_test_macros.hpp>

#include "policy/quantity.h"
#include "support.h"

using namespace casa::policy;
using namespace casa::policy::test;

namespace {

const std::string kHead = "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\n";

Pod pod_of(const std::string& text) {
  auto r = parse_text("f", text, Syntax::kYaml);
  INFO(text);
  CHECK(lines(r) == Lines{});
  return std::get<Pod>(r.objects.at(0));
}
Pod pod_with(const std::string& rest) { return pod_of(kHead + rest); }
Pod pod_meta(const std::string& rest) {
  return pod_of("apiVersion: v1\nkind: Pod\nmetadata: {name: a, " + rest + "}\n");
}
QosClass qos_of(const std::string& containers) { return pod_with("spec: {" + containers + "}").qos; }
std::vector<std::uint16_t> probes(const std::string& spec) { return pod_with("spec: {" + spec + "}").probe_ports; }

using Ports = std::vector<std::uint16_t>;

}  // namespace

TEST_CASE("a Pod's cgroup is named by its uid, a static pod's by its file's hash") {
  CHECK(pod_meta("uid: 3c3e6a52-6d1f-4d3b-9d53-0a1b2c3d4e5f").cgroup_uid == "3c3e6a52-6d1f-4d3b-9d53-0a1b2c3d4e5f");
  CHECK(pod_with("").cgroup_uid.empty());
  Pod mirror = pod_meta(
      "uid: 3c3e6a52-6d1f-4d3b-9d53-0a1b2c3d4e5f, annotations: {kubernetes.io/config.mirror: 0f0e, "
      "kubernetes.io/config.hash: 0f0e0d0c0b0a09080706050403020100}");
  CHECK(mirror.cgroup_uid == "0f0e0d0c0b0a09080706050403020100");
  CHECK(mirror.meta.uid == "3c3e6a52-6d1f-4d3b-9d53-0a1b2c3d4e5f");
  // Without its hash nothing is known of a mirror's cgroup; the hash of a pod that is none means nothing.
  CHECK(pod_meta("uid: a-b, annotations: {kubernetes.io/config.mirror: ''}").cgroup_uid.empty());
  CHECK(pod_meta("uid: a-b, annotations: {kubernetes.io/config.hash: '0f'}").cgroup_uid == "a-b");
  const std::string advice =
      " is not a uid (letters, digits and '-', at most 64); write the one that the cluster gave it, or leave it out";
  CHECK(lines("apiVersion: v1\nkind: Pod\nmetadata: {name: a, uid: ../b}") ==
        Lines{"3:26: metadata.uid: \"../b\"" + advice});
  CHECK(lines("apiVersion: v1\nkind: Pod\nmetadata: {name: a, uid: ''}") == Lines{"3:26: metadata.uid: \"\"" + advice});
  CHECK(lines("apiVersion: v1\nkind: Pod\nmetadata: {name: a, uid: " + std::string(65, 'a') + "}").size() == 1);
  CHECK(lines("apiVersion: v1\nkind: Pod\nmetadata: {name: a, annotations: {kubernetes.io/config.mirror: x, "
              "kubernetes.io/config.hash: a/b}}") ==
        Lines{"3:94: metadata.annotations.kubernetes.io/config.hash: \"a/b\"" + advice});
}

TEST_CASE("the controller among a Pod's owners") {
  auto flags = [](const std::string& owners) {
    std::string out;
    for (const auto& owner : pod_meta("ownerReferences: " + owners).meta.owners) out += owner.controller ? 'y' : 'n';
    return out;
  };
  CHECK(flags("[{kind: ReplicaSet, name: b}]") == "y");
  CHECK(flags("[{kind: ReplicaSet, name: b, controller: false}]") == "n");
  CHECK(flags("[{kind: X, name: b}, {kind: ReplicaSet, name: c, controller: true}]") == "ny");
  CHECK(lines("apiVersion: v1\nkind: Pod\nmetadata: {name: a, ownerReferences: [{kind: X, name: b, controller: true}, "
              "{kind: X, name: c, controller: true}]}") ==
        Lines{"3:108: metadata.ownerReferences[1].controller: another owner is the controller already; write false for "
              "one of the two"});
}

TEST_CASE("QoS class: as the cluster says, else as kubelet sorts") {
  CHECK(pod_with("").qos == QosClass::kUnknown);
  CHECK(pod_with("status: {qosClass: Guaranteed}").qos == QosClass::kGuaranteed);
  CHECK(pod_with("spec: {containers: [{name: a}]}\nstatus: {qosClass: Burstable}").qos == QosClass::kBurstable);
  CHECK(lines(kHead + "status: {qosClass: guaranteed}") ==
        Lines{"4:20: status.qosClass: the text \"guaranteed\" is not possible here; did you mean Guaranteed?"});
  const std::string both = "{limits: {cpu: 100m, memory: 64Mi}, requests: {cpu: 0.1, memory: 67108864}}";
  CHECK(qos_of("containers: [{name: a}, {name: b, resources: {limits: {nvidia.com/gpu: 1}}}]") ==
        QosClass::kBestEffort);
  CHECK(qos_of("containers: [{name: a, resources: {requests: {cpu: 0}}}]") == QosClass::kBestEffort);
  CHECK(qos_of("containers: [{name: a, resources: " + both + "}]") == QosClass::kGuaranteed);
  CHECK(qos_of("containers: [{name: a, resources: {limits: {cpu: 1, memory: 1Gi}}}]") == QosClass::kGuaranteed);
  CHECK(qos_of("containers: [{name: a, resources: {limits: {cpu: 1}}}]") == QosClass::kBurstable);
  CHECK(qos_of("containers: [{name: a, resources: {limits: {cpu: 1, memory: 1Gi}, requests: {cpu: 0.5}}}]") ==
        QosClass::kBurstable);
  CHECK(qos_of("containers: [{name: a, resources: " + both + "}, {name: b}]") == QosClass::kBurstable);
  CHECK(qos_of("containers: [{name: a, resources: " + both + "}], initContainers: [{name: b}]") ==
        QosClass::kBurstable);
  CHECK(qos_of("containers: [{name: a}], resources: " + both) == QosClass::kGuaranteed);
  CHECK(qos_of("containers: [{name: a, resources: {requests: {cpu: 1}}}], resources: {}") == QosClass::kBurstable);
  CHECK(
      lines(kHead + "spec: {containers: [{resources: {limits: {cpu: lots}, request: {}}}]}") ==
      Lines{"4:48: spec.containers[0].resources.limits.cpu: this must be a quantity, not the text \"lots\"; write one "
            "such as 500m or 64Mi",
            "4:55: spec.containers[0].resources.request: unknown field; did you mean requests?"});
}

TEST_CASE("quantities") {
  CHECK(parse_quantity("1") == 1);
  CHECK(parse_quantity("+1.5") == 1.5);
  CHECK(parse_quantity(".5") == 0.5);
  CHECK(parse_quantity("100m") == parse_quantity("0.1"));
  CHECK(parse_quantity("1500u") == parse_quantity("1.5m"));
  CHECK(parse_quantity("1Ki") == 1024);
  CHECK(parse_quantity("2Ei") == 0x1p61);
  CHECK(parse_quantity("1E") == 1e18);
  CHECK(parse_quantity("1E3") == 1000);
  CHECK(parse_quantity("1e-3") == parse_quantity("1m"));
  for (std::string_view bad : {"", "+", "-1", ".", "1.2.3", "1 Mi", "1mi", "m", "1e", "e1", "1e9999", "0x10", "nan"}) {
    INFO(bad);
    CHECK_FALSE(parse_quantity(bad));
  }
}

TEST_CASE("what kubelet asks") {
  const std::string ports = "name: a, ports: [{name: http, containerPort: 8080}]";
  CHECK(probes("containers: [{" + ports + "}]") == Ports{});
  CHECK(
      probes("containers: [{" + ports +
             ", livenessProbe: {httpGet: {port: http, path: /}}, readinessProbe: {tcpSocket: {port: 9}}, startupProbe: "
             "{grpc: {port: 7, service: x}}}, {readinessProbe: {httpGet: {port: 9}}}, {livenessProbe: {exec: "
             "{command: [x]}}}]") == Ports{7, 9, 8080});
  CHECK(probes("containers: [{" + ports + ", lifecycle: {preStop: {httpGet: {port: http}}, postStart: {exec: {}}}}]") ==
        Ports{8080});
  // An init container is probed when it runs beside the containers; a probe of another host asks that host.
  CHECK(
      probes("initContainers: [{restartPolicy: Always, livenessProbe: {httpGet: {port: 1}}}, {livenessProbe: {httpGet: "
             "{port: 2}}}]") == Ports{1});
  CHECK(probes("containers: [{livenessProbe: {httpGet: {port: 1, host: 192.0.2.1}}}]") == Ports{});
  CHECK(probes("hostNetwork: true, containers: [{livenessProbe: {httpGet: {port: 1, host: 127.0.0.1}}}]") == Ports{1});
  // A name is one of the container's own.
  CHECK(
      lines(kHead + "spec: {containers: [{" + ports + "}, {livenessProbe: {httpGet: {port: http}}}]}") ==
      Lines{"4:109: spec.containers[1].livenessProbe.httpGet.port: the container has no port named \"http\"; write the "
            "number, or name one of its ports so"});
  CHECK(lines(kHead + "spec: {containers: [{livenessProbe: {httpget: {port: 1}}}]}") ==
        Lines{"4:38: spec.containers[0].livenessProbe.httpget: unknown field; did you mean httpGet?"});
  CHECK(
      lines(kHead + "spec: {containers: [{livenessProbe: {httpGet: {}}}]}") ==
      Lines{
          "4:47: spec.containers[0].livenessProbe.httpGet.port: the field is missing; write port: <number, or the name "
          "of a port>"});
}

TEST_CASE("where a Pod runs, whether it is over, and the mesh's proxy") {
  Pod pod = pod_with("spec: {nodeName: n-1, initContainers: [{name: istio-proxy}]}\nstatus: {phase: Failed}");
  CHECK(pod.node == "n-1");
  CHECK(pod.finished);
  CHECK(pod.istio_proxy);
  CHECK(pod_with("spec: {containers: [{name: istio-proxy}]}\nstatus: {phase: Succeeded}").finished);
  CHECK_FALSE(pod_with("spec: {containers: [{name: istio}]}\nstatus: {phase: Running}").finished);
  CHECK_FALSE(pod_with("spec: {containers: [{name: istio}]}").istio_proxy);
  CHECK(lines(kHead + "status: {phase: Done}").size() == 1);
  CHECK_FALSE(pod.deleting);
  CHECK_FALSE(pod_meta("deletionTimestamp: null").deleting);
  CHECK(pod_meta("deletionTimestamp: \"2026-01-02T03:04:05Z\"").deleting);
  CHECK(lines(kHead + "spec: {nodeName: A_b}").size() == 1);
}

TEST_CASE("Node") {
  auto node = [](const std::string& text) { return "apiVersion: v1\nkind: Node\nmetadata: {name: n-1}\n" + text; };
  auto r = parse_text("f",
                      node("spec: {podCIDR: 10.42.0.0/24, podCIDRs: [10.42.0.0/24, 'fd00:1::/64']}\nstatus: "
                           "{addresses: [{type: InternalIP, address: 192.0.2.1}, "
                           "{type: ExternalIP, address: fd00::1}, {type: Hostname, address: n-1}], nodeInfo: {x: 1}}"),
                      Syntax::kYaml);
  CHECK(lines(r) == Lines{});
  CHECK(dump(r) ==
        "Node /n-1 uid= labels={} annotations={} ips=192.0.2.1,fd00::1, pods=10.42.0.0/24 pods=fd00:1::/64\n");
  CHECK(lines(node("status: {addresses: [{type: InternalIp, address: x}, {type: InternalIP, address: x}]}")) ==
        Lines{"4:29: status.addresses[0].type: the text \"InternalIp\" is not possible here; did you mean InternalIP?",
              "4:82: status.addresses[1].address: \"x\" is not an address; write one such as 10.0.0.1 or fd00::1"});
  CHECK(lines(node("spec: {podCIDR: 10.42.0.1/24}")) ==
        Lines{"4:17: spec.podCIDR: \"10.42.0.1/24\" is not a network; write one such as 10.42.0.0/24"});
  CHECK(lines("apiVersion: v1\nkind: Node\nmetadata: {name: n-1, namespace: a}") ==
        Lines{"3:34: metadata.namespace: a Node is in no namespace; remove the field"});
}

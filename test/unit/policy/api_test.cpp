// Objects as an API server sends them: whole, without apiVersion and kind when they stood in a list, of a version that may be newer
// than casad.
#include <catch2/catch_test_macros.hpp>

#include "policy/api_pruned.h"
#include "policy/api_status.h"
#include "support.h"

using namespace casa::policy;
using namespace casa::policy::test;

namespace {

const std::string kOrigin = "f";  // as the other tests call their input

template <typename T>
T one(const std::string& text, const Lines& warnings = {}) {
  auto r = parse_api_object(kOrigin, text, kind_of_type<T>());
  INFO(text);
  CHECK(lines(r) == warnings);
  REQUIRE(r.objects.size() == 1);
  return std::get<T>(r.objects[0]);
}

// As the server of Kubernetes 1.31 prints it, shortened only where the same comes again.
const std::string kPod =
    R"({"metadata":{"name":"agent-7d9c5b6f4-abcde","generateName":"agent-7d9c5b6f4-","namespace":"team-a",
"uid":"3c3e6a52-6d1f-4d3b-9d53-0a1b2c3d4e5f","resourceVersion":"812","creationTimestamp":"2026-11-01T10:00:00Z",
"labels":{"app":"agent","pod-template-hash":"7d9c5b6f4"},
"annotations":{"casa.io/cgroup":"system.slice/sshd.service","kubectl.kubernetes.io/restartedAt":"2026-10-01T00:00:00Z","casa.io/other":"x"},
"ownerReferences":[{"apiVersion":"apps/v1","kind":"ReplicaSet","name":"agent-7d9c5b6f4","uid":"u","controller":true,"blockOwnerDeletion":true}],
"managedFields":[{"manager":"kubelet","operation":"Update","apiVersion":"v1","time":"2026-11-01T10:00:02Z","fieldsType":"FieldsV1",
"fieldsV1":{"f:status":{"f:phase":{}}},"subresource":"status"}]},
"spec":{"volumes":[{"name":"kube-api-access","projected":{"sources":[{"serviceAccountToken":{"expirationSeconds":3607,"path":"token"}}],"defaultMode":420}}],
"containers":[{"name":"main","image":"agent:1","ports":[{"name":"http","containerPort":8080,"protocol":"TCP"},{"containerPort":9,"protocol":"SCTP"}],
"env":[{"name":"A","value":"\u00e9"}],"resources":{"limits":{"cpu":"1","memory":"64Mi"},"requests":{"cpu":"1","memory":"64Mi"}},
"readinessProbe":{"httpGet":{"path":"/","port":"http","scheme":"HTTP"},"someday":1},"newIn140":{"deep":[1,2.5,null,true]}}],
"nodeName":"node-1","hostNetwork":false,"futureField":"x","dnsPolicy":"ClusterFirst"},
"status":{"phase":"Running","hostIP":"10.0.0.1","podIP":"10.42.0.7","podIPs":[{"ip":"10.42.0.7"},{"ip":"fd00::7"}],"qosClass":"Guaranteed",
"startTime":"2026-11-01T10:00:00Z","futureField":[{}]}})";

}  // namespace

TEST_CASE("a Pod of a list: what casad uses is there, what it does not know is no news") {
  Pod pod = one<Pod>(
      kPod, {"0:0: warning: spec.containers[0].ports[1].protocol: casad lets no SCTP through and ignores this port; "
             "write TCP or UDP, or leave it"});
  CHECK(pod.meta.ns == "team-a");
  CHECK(pod.meta.name == "agent-7d9c5b6f4-abcde");
  CHECK(pod.meta.labels.at("pod-template-hash") == "7d9c5b6f4");
  REQUIRE(pod.meta.owners.size() == 1);
  CHECK(pod.meta.owners[0].name == "agent-7d9c5b6f4");
  CHECK(pod.cgroup_uid == "3c3e6a52-6d1f-4d3b-9d53-0a1b2c3d4e5f");
  CHECK(pod.node == "node-1");
  CHECK(pod.qos == QosClass::kGuaranteed);
  CHECK(pod.ips.size() == 2);
  CHECK(pod.probe_ports == std::vector<std::uint16_t>{8080});
  CHECK(pod.meta.where.file == kOrigin);
  CHECK(pod.meta.where.line == 0);
}

TEST_CASE("who may make a Pod does not choose its cgroup") {
  CHECK(one<Pod>(R"({"metadata":{"name":"a","namespace":"n","annotations":{"casa.io/cgroup":"system.slice"}}})")
            .cgroup.empty());
}

TEST_CASE("what a newer server validated and casad cannot read is left out, not the object") {
  Pod pod = one<Pod>(
      R"({"metadata":{"name":"a","namespace":"n","labels":{"casa.io/injection":"maybe"}},
                         "status":{"phase":"Dreaming","qosClass":"Splendid","podIPs":[{"ip":"not one"},{"ip":"10.0.0.2"}]}})",
      {"0:0: warning: metadata.labels.casa.io/injection: the text \"maybe\" is not possible here; write enabled or "
       "disabled",
       "0:0: warning: status.phase: the text \"Dreaming\" is not possible here; write Pending, Running, Succeeded, "
       "Failed or Unknown",
       "0:0: warning: status.podIPs[0].ip: \"not one\" is not an address; write one such as 10.0.0.1 or fd00::1",
       "0:0: warning: status.qosClass: the text \"Splendid\" is not possible here; write Guaranteed, Burstable or "
       "BestEffort"});
  CHECK_FALSE(pod.finished);
  CHECK(pod.qos == QosClass::kUnknown);
  CHECK(pod.ips.size() == 1);
}

TEST_CASE("an EndpointSlice of v1beta1, with endpoints that are ready or not") {
  EndpointSlice slice = one<EndpointSlice>(
      R"({"metadata":{"name":"s-1","namespace":"n","labels":{"kubernetes.io/service-name":"s"}},"addressType":"IPv4",
          "endpoints":[{"addresses":["10.0.0.1"],"conditions":{"ready":true},"targetRef":{"kind":"Pod","name":"p","namespace":"n"},
          "topology":{"kubernetes.io/hostname":"a"}},{"addresses":["10.0.0.2"],"conditions":{}}],
          "ports":[{"name":"","protocol":"TCP","port":8080}]})");
  CHECK(slice.service == "s");
  REQUIRE(slice.endpoints.size() == 2);
  CHECK(slice.endpoints[0].pod->name == "p");
  CHECK(slice.ports.at(0).port == 8080);
}

TEST_CASE("Service, Namespace and Node, with what servers add") {
  Service service = one<Service>(
      R"({"metadata":{"name":"s","namespace":"n","annotations":{"kubectl.kubernetes.io/last-applied-configuration":"{}"}},
          "spec":{"clusterIP":"10.96.0.9","clusterIPs":["10.96.0.9","fd00::9"],"ports":[{"name":"http","protocol":"TCP","port":80,"targetPort":"web"}],
          "selector":{"app":"a"},"sessionAffinity":"None","type":"ClusterIP","later":{}},"status":{"loadBalancer":{}}})");
  CHECK(service.cluster_ips.size() == 2);
  CHECK(std::get<std::string>(service.ports.at(0).target_port) == "web");
  CHECK(
      one<Namespace>(
          R"({"metadata":{"name":"n","labels":{"casa.io/injection":"enabled"}},"spec":{"finalizers":["kubernetes"]},"status":{}})")
          .meta.labels.contains("casa.io/injection"));
  ClusterNode node = one<ClusterNode>(
      R"({"metadata":{"name":"node-1"},"spec":{"podCIDR":"10.42.0.0/24","podCIDRs":["10.42.0.0/24"],"taints":[{"key":"k","effect":"NoSchedule"}]},
          "status":{"addresses":[{"type":"InternalIP","address":"10.0.0.1"},{"type":"Hostname","address":"node-1"}],"images":[]}})");
  CHECK(node.addresses.size() == 1);
  CHECK(node.pod_networks.size() == 1);
}

TEST_CASE(
    "the spec of a CASAPolicy is read as strictly as a file's: what is not understood must not be enforced as if it "
    "were") {
  const std::string head =
      R"({"metadata":{"name":"p","namespace":"team-a","annotations":{"casa.io/mas-id":"7"}},"spec":{)";
  CasaPolicy policy = one<CasaPolicy>(
      head +
      R"("targetRef":{"kind":"Deployment","name":"agent"},"allowedEndpoints":[{"name":"s","namespace":"n","port":80}]},
                                             "status":{"phase":"Active"}})");
  CHECK(policy.allowed_endpoints.size() == 1);
  auto r = parse_api_object(
      kOrigin, head + R"("targetRef":{"kind":"Deployment","name":"agent"},"deniedEndpoints":[]}})", Kind::kCasaPolicy);
  CHECK(r.objects.empty());
  REQUIRE(r.invalid.size() == 1);
  CHECK(r.invalid[0].key.ns == "team-a");
  CHECK(r.invalid[0].target_name == "agent");
  CHECK(r.invalid[0].message.starts_with(kOrigin + ": spec.deniedEndpoints: unknown field"));
  CHECK(to_string(r.diagnostics.at(0)).starts_with(kOrigin + ": error: spec.deniedEndpoints: unknown field"));
}

TEST_CASE("text that is no object, or breaks off, is nothing to trust") {
  for (std::string text :
       {"", "{", "[]", "null", R"({"metadata":{"name":"a"})", R"({"metadata":{"name":"a","namespace":)"}) {
    INFO(text);
    auto r = parse_api_object(kOrigin, text, Kind::kPod);
    CHECK(r.objects.empty());
    CHECK_FALSE(r.ok());
  }
  CHECK_FALSE(parse_api_object(kOrigin, R"({"metadata":{"namespace":"n"}})", Kind::kPod).ok());
}

TEST_CASE("fields that the server's schema took out are those that kubectl was given and that are not there") {
  auto object = [](const std::string& applied, const std::string& spec) {
    std::string quoted;
    for (char c : applied) quoted += c == '"' ? std::string("\\\"") : std::string(1, c);
    return R"({"metadata":{"name":"p","annotations":{"kubectl.kubernetes.io/last-applied-configuration":")" + quoted +
           R"("}},"spec":)" + spec + "}";
  };
  const std::string spec = R"({"targetRef":{"kind":"Pod","name":"a"},"allowedEndpoints":[{"name":"s","port":80}]})";
  CHECK(
      pruned_fields(object(
          R"({"spec":{"targetRef":{"kind":"Pod","name":"a"},"tokens":{"exfiltration":"drop"},"enforcement":"audit","allowedSources":null,"allowedEndpoints":[{"name":"s","port":80,"extra":1}]}})",
          spec)) == Lines{"spec.tokens", "spec.enforcement", "spec.allowedEndpoints[0].extra"});
  CHECK(pruned_fields(object(R"({"spec":)" + spec + "}", spec)).empty());
  // Somebody changed the object since, or it came in another way, or the annotation is anything.
  CHECK(pruned_fields(object(R"({"spec":{"allowedEndpoints":[]}})", spec)).empty());
  CHECK(pruned_fields(R"({"metadata":{"name":"p"},"spec":{}})").empty());
  CHECK(pruned_fields(object("[1,2", spec)).empty());
  CHECK(pruned_fields("kubectl.kubernetes.io/last-applied-configuration").empty());
}

TEST_CASE("the status that a server has, and the version of its spec") {
  auto status = read_api_status(
      R"({"status":{"message":"m","phase":"Active"},"metadata":{"generation":3,"name":"p","uid":"u","namespace":"n"},"spec":{}})");
  REQUIRE(status);
  CHECK(status->ns == "n");
  CHECK(status->name == "p");
  CHECK(status->uid == "u");
  CHECK(status->generation == 3);
  CHECK(status->phase == "Active");
  CHECK(status->message == "m");
  auto fresh = read_api_status(R"({"metadata":{"name":"p"}})");
  REQUIRE(fresh);
  CHECK(fresh->generation == 0);
  CHECK(fresh->phase.empty());
  for (const char* text : {"", "{", "[]", R"({"metadata":{}})", R"({"metadata":3})"})
    CHECK_FALSE(read_api_status(text));
}

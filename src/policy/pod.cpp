// Namespace and Pod, v1: what casad uses is validated; the rest of a real object (kubectl get -o yaml) is known by name
// and ignored. Unknown names are errors only at the levels that casad reads; below them anything goes. A Pod's containers
// are read in pod_containers.cpp. Adds what Pods share with Services: protocols and addresses.
#include <algorithm>

#include "policy/kinds.h"
#include "policy/names.h"

namespace casa::policy {
namespace {

constexpr std::string_view kObjectFields[] = {"apiVersion", "kind", "metadata", "spec", "status"};
constexpr std::string_view kNamespaceSpec[] = {"finalizers"};
constexpr std::string_view kNamespaceStatus[] = {"phase", "conditions"};
constexpr std::string_view kPodSpec[] = {"activeDeadlineSeconds",
                                         "affinity",
                                         "automountServiceAccountToken",
                                         "containers",
                                         "dnsConfig",
                                         "dnsPolicy",
                                         "enableServiceLinks",
                                         "ephemeralContainers",
                                         "hostAliases",
                                         "hostIPC",
                                         "hostNetwork",
                                         "hostPID",
                                         "hostUsers",
                                         "hostname",
                                         "hostnameOverride",
                                         "imagePullSecrets",
                                         "initContainers",
                                         "nodeName",
                                         "nodeSelector",
                                         "os",
                                         "overhead",
                                         "preemptionPolicy",
                                         "priority",
                                         "priorityClassName",
                                         "readinessGates",
                                         "resourceClaims",
                                         "resources",
                                         "restartPolicy",
                                         "runtimeClassName",
                                         "schedulerName",
                                         "schedulingGates",
                                         "securityContext",
                                         "serviceAccount",
                                         "serviceAccountName",
                                         "setHostnameAsFQDN",
                                         "shareProcessNamespace",
                                         "subdomain",
                                         "terminationGracePeriodSeconds",
                                         "tolerations",
                                         "topologySpreadConstraints",
                                         "volumes",
                                         "workloadRef"};
constexpr std::string_view kPodStatus[] = {"allocatedResources",
                                           "conditions",
                                           "containerStatuses",
                                           "ephemeralContainerStatuses",
                                           "extendedResourceClaimStatus",
                                           "hostIP",
                                           "hostIPs",
                                           "initContainerStatuses",
                                           "message",
                                           "nominatedNodeName",
                                           "observedGeneration",
                                           "phase",
                                           "podIP",
                                           "podIPs",
                                           "qosClass",
                                           "reason",
                                           "resize",
                                           "resourceClaimStatuses",
                                           "resources",
                                           "startTime"};
constexpr std::string_view kPodIp[] = {"ip"};
constexpr std::string_view kPhases[] = {"Pending", "Running", "Succeeded", "Failed", "Unknown"};
constexpr std::string_view kQosClasses[] = {"Guaranteed", "Burstable", "BestEffort"};  // in the order of QosClass
constexpr std::string_view kMirror = "kubernetes.io/config.mirror", kHash = "kubernetes.io/config.hash";

void add_ip(Pod& pod, const std::optional<IpAddress>& ip) {
  if (ip && std::ranges::find(pod.ips, *ip) == pod.ips.end()) pod.ips.push_back(*ip);
}

void read_cgroup(Report& report, const Node& object, Pod& pod) {
  const Node* node = peek(peek(peek(&object, "metadata"), "annotations"), "casa.io/cgroup");
  auto found = pod.meta.annotations.find("casa.io/cgroup");
  if (node == nullptr || found == pod.meta.annotations.end()) return;  // absent, or no text and reported as such
  if (std::string bad = check_cgroup_path(found->second); !bad.empty()) {
    return report.error(node->at, "metadata.annotations.casa.io/cgroup: {}", bad);
  }
  pod.cgroup = found->second;
}

// kubelet names the cgroup of a pod that it made from a file of its own by that file's hash; the uid is that of the
// object that stands for the pod in the API.
void read_pod_meta(Report& report, const Path& path, const Node& object, Pod& pod) {
  const Node* metadata = peek(&object, "metadata");
  const Node* annotations = peek(metadata, "annotations");
  bool mirror = peek(annotations, kMirror) != nullptr;
  const Node* uid = peek(metadata, "uid");
  pod.deleting = !is_null(peek(metadata, "deletionTimestamp"));
  if (!is_null(uid)) {
    auto good = read_checked(report, path / "metadata" / "uid", uid, check_uid);
    if (good && !mirror) pod.cgroup_uid = std::move(*good);
  }
  if (!mirror) return;
  pod.cgroup_uid =
      read_checked(report, path / "metadata" / "annotations" / kHash, peek(annotations, kHash), check_uid).value_or("");
}

void read_status(Report& report, const Path& path, const Fields& status, Pod& pod) {
  if (auto phase = read_choice(report, path / "phase", status["phase"], kPhases))
    pod.finished = kPhases[*phase] == "Succeeded" || kPhases[*phase] == "Failed";
  if (auto qos = read_choice(report, path / "qosClass", status["qosClass"], kQosClasses))
    pod.qos = static_cast<QosClass>(*qos + 1);
  if (const Node* ip = status["podIP"]; ip != nullptr && !(ip->type == Node::Type::kScalar && ip->text.empty())) {
    add_ip(pod, read_ip(report, path / "podIP", ip));
  }
  for_each_item(report, path / "conditions", status["conditions"], [&](const Path&, const Node& item) {
    if (peek_text(&item, "type") == "Ready") pod.ready = peek_text(&item, "status") == "True";
  });
  for_each_item(report, path / "podIPs", status["podIPs"], [&](const Path& item_path, const Node& item) {
    Fields fields(report, item_path, &item, kPodIp);
    add_ip(pod, read_ip(report, item_path / "ip", fields.require("ip", "ip: <the pod's address>")));
  });
}

}  // namespace

std::optional<Protocol> read_protocol(Report& report, const Path& path, const Node* node) {
  static constexpr std::string_view kProtocols[] = {"TCP", "UDP", "SCTP"};
  if (node == nullptr) return Protocol::kTcp;
  auto choice = read_choice(report, path, node, kProtocols);
  if (!choice) return std::nullopt;
  if (*choice == 2) {
    report.warning(node->at, "{}: casad lets no SCTP through and ignores this port; write TCP or UDP, or leave it",
                   path);
    return std::nullopt;
  }
  return *choice == 0 ? Protocol::kTcp : Protocol::kUdp;
}

std::optional<IpAddress> read_ip(Report& report, const Path& path, const Node* node) {
  auto text = read_text(report, path, node);
  if (!text) return std::nullopt;
  auto ip = parse_ip(*text);
  if (!ip)
    report.error(node->at, "{}: {} is not an address; write one such as 10.0.0.1 or fd00::1", path, Quoted{*text});
  return ip;
}

void read_pod_spec(Report& report, const Path& path, const Node* node, Pod& pod) {
  Fields spec(report, path, node, kPodSpec);
  if (!spec.usable()) return;
  pod.node = read_checked(report, path / "nodeName", spec["nodeName"], check_subdomain).value_or("");
  pod.host_network = read_bool(report, path / "hostNetwork", spec["hostNetwork"]).value_or(false);
  read_containers(report, path, spec, pod);
}

Namespace read_namespace(Report& report, const Path& path, const Node& node) {
  Fields object(report, path, &node, kObjectFields);
  Namespace result{read_meta(report, path, object, Kind::kNamespace)};
  Path spec_path = path / "spec", status_path = path / "status";
  Fields spec(report, spec_path, object["spec"], kNamespaceSpec);
  Fields status(report, status_path, object["status"], kNamespaceStatus);
  return result;
}

Pod read_pod(Report& report, const Path& path, const Node& node) {
  Pod pod;
  Fields object(report, path, &node, kObjectFields);
  pod.meta = read_meta(report, path, object, Kind::kPod);
  read_pod_meta(report, path, node, pod);
  read_cgroup(report, node, pod);
  read_pod_spec(report, path / "spec", object["spec"], pod);
  Path status_path = path / "status";
  Fields status(report, status_path, object["status"], kPodStatus);
  if (status.usable()) read_status(report, status_path, status, pod);
  return pod;
}

}  // namespace casa::policy

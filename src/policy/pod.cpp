// Namespace and Pod, v1: what casad uses is validated; the rest of a real object (kubectl get -o yaml) is known by name
// and ignored. Unknown names are errors only at the levels that casad reads; below them anything goes. Adds what Pods share
// with Services: protocols and addresses.
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
constexpr std::string_view kContainer[] = {"args",
                                           "command",
                                           "env",
                                           "envFrom",
                                           "image",
                                           "imagePullPolicy",
                                           "lifecycle",
                                           "livenessProbe",
                                           "name",
                                           "ports",
                                           "readinessProbe",
                                           "resizePolicy",
                                           "resources",
                                           "restartPolicy",
                                           "restartPolicyRules",
                                           "securityContext",
                                           "startupProbe",
                                           "stdin",
                                           "stdinOnce",
                                           "terminationMessagePath",
                                           "terminationMessagePolicy",
                                           "tty",
                                           "volumeDevices",
                                           "volumeMounts",
                                           "workingDir"};
constexpr std::string_view kContainerPort[] = {"name", "containerPort", "protocol", "hostPort", "hostIP"};
constexpr std::string_view kPodIp[] = {"ip"};

void read_containers(Report& report, const Path& path, const Node* node, Pod& pod) {
  for_each_item(report, path, node, [&](const Path& at, const Node& item) {
    Fields container(report, at, &item, kContainer);
    for_each_item(report, at / "ports", container["ports"], [&](const Path& port_path, const Node& port_node) {
      Fields fields(report, port_path, &port_node, kContainerPort);
      auto port =
          read_port(report, port_path / "containerPort", fields.require("containerPort", "containerPort: <number>"));
      auto protocol = read_protocol(report, port_path / "protocol", fields["protocol"]);
      auto name = read_checked(report, port_path / "name", fields["name"], check_port_name);
      if (port && protocol) pod.ports.push_back({name.value_or(""), *port, *protocol});
    });
  });
}

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
  read_cgroup(report, node, pod);
  Path at = path / "spec";
  Fields spec(report, at, object["spec"], kPodSpec);
  if (spec.usable()) {
    pod.host_network = read_bool(report, at / "hostNetwork", spec["hostNetwork"]).value_or(false);
    read_containers(report, at / "containers", spec["containers"], pod);
    read_containers(report, at / "initContainers", spec["initContainers"], pod);
  }
  Path status_path = path / "status";
  Fields status(report, status_path, object["status"], kPodStatus);
  if (status.usable()) {
    if (const Node* ip = status["podIP"]; ip != nullptr && !(ip->type == Node::Type::kScalar && ip->text.empty())) {
      add_ip(pod, read_ip(report, status_path / "podIP", ip));
    }
    for_each_item(report, status_path / "podIPs", status["podIPs"], [&](const Path& item_path, const Node& item) {
      Fields fields(report, item_path, &item, kPodIp);
      add_ip(pod, read_ip(report, item_path / "ip", fields.require("ip", "ip: <the pod's address>")));
    });
  }
  return pod;
}

}  // namespace casa::policy

// Service, v1, and EndpointSlice, discovery.k8s.io/v1: what casad uses is validated; the rest of a real object is known by
// name and ignored. Target ports that are names are resolved later, when the pods are known. EndpointSlices without a Service
// are kept, with a warning.
#include <algorithm>

#include "policy/kinds.h"
#include "policy/names.h"

namespace casa::policy {
namespace {

constexpr std::string_view kObjectFields[] = {"apiVersion", "kind", "metadata", "spec", "status"};
constexpr std::string_view kServiceSpec[] = {"allocateLoadBalancerNodePorts",
                                             "clusterIP",
                                             "clusterIPs",
                                             "externalIPs",
                                             "externalName",
                                             "externalTrafficPolicy",
                                             "healthCheckNodePort",
                                             "internalTrafficPolicy",
                                             "ipFamilies",
                                             "ipFamilyPolicy",
                                             "loadBalancerClass",
                                             "loadBalancerIP",
                                             "loadBalancerSourceRanges",
                                             "ports",
                                             "publishNotReadyAddresses",
                                             "selector",
                                             "sessionAffinity",
                                             "sessionAffinityConfig",
                                             "trafficDistribution",
                                             "type"};
constexpr std::string_view kServiceStatus[] = {"loadBalancer", "conditions"};
constexpr std::string_view kServicePort[] = {"name", "port", "targetPort", "protocol", "nodePort", "appProtocol"};
constexpr std::string_view kServiceTypes[] = {"ClusterIP", "NodePort", "LoadBalancer", "ExternalName"};
constexpr std::string_view kSliceFields[] = {"apiVersion", "kind", "metadata", "addressType", "endpoints", "ports"};
constexpr std::string_view kEndpoint[] = {"addresses", "conditions", "targetRef", "hostname",
                                          "nodeName",  "zone",       "hints",     "deprecatedTopology"};
constexpr std::string_view kConditions[] = {"ready", "serving", "terminating"};
constexpr std::string_view kTargetRef[] = {"kind",     "name", "namespace", "uid", "apiVersion", "resourceVersion",
                                           "fieldPath"};
constexpr std::string_view kSlicePort[] = {"name", "port", "protocol", "appProtocol"};
constexpr std::string_view kAddressTypes[] = {"IPv4", "IPv6", "FQDN"};
constexpr std::string_view kServiceLabel = "kubernetes.io/service-name";

std::variant<std::uint16_t, std::string> read_target_port(Report& report, const Path& path, const Node* node,
                                                          std::uint16_t port) {
  if (node == nullptr) return port;
  bool text = node->type == Node::Type::kScalar && type_of(*node) == ScalarType::kString;
  bool digits = text && !node->text.empty() && node->text.find_first_not_of("0123456789") == std::string_view::npos;
  if (text && !digits) return read_checked(report, path, node, check_port_name).value_or("");
  return read_port(report, path, node).value_or(port);
}

void read_service_ports(Report& report, const Path& path, const Node* node, Service& service) {
  for_each_item(report, path, node, [&](const Path& at, const Node& item) {
    Fields fields(report, at, &item, kServicePort);
    auto port = read_port(report, at / "port", fields.require("port", "port: <number>"));
    auto protocol = read_protocol(report, at / "protocol", fields["protocol"]);
    auto name = read_checked(report, at / "name", fields["name"], check_label_name);
    auto target = read_target_port(report, at / "targetPort", fields["targetPort"], port.value_or(0));
    if (port && protocol) service.ports.push_back({name.value_or(""), *port, std::move(target), *protocol});
  });
}

void read_cluster_ip(Report& report, const Path& path, const Node& node, Service& service) {
  if (node.type == Node::Type::kScalar && (node.text.empty() || node.text == "None")) return;
  auto ip = read_ip(report, path, &node);
  if (ip && std::ranges::find(service.cluster_ips, *ip) == service.cluster_ips.end())
    service.cluster_ips.push_back(*ip);
}

void read_service_type(Report& report, const Path& path, const Fields& spec, Service& service) {
  auto type = read_choice(report, path / "type", spec["type"], kServiceTypes);
  const Node* name = spec["externalName"];
  if (type && kServiceTypes[*type] == "ExternalName") {
    if (name == nullptr) {
      return report.error(spec.at(), "{}: the field is missing; write externalName: <host name>, or another type",
                          path / "externalName");
    }
    service.external_name = read_host_name(report, path / "externalName", name, check_host).value_or("");
  }
}

std::optional<NamespacedName> read_pod_ref(Report& report, const Path& path, const Node* node, std::string_view ns) {
  if (node == nullptr) return std::nullopt;
  Fields fields(report, path, node, kTargetRef);
  auto kind = read_text(report, path / "kind", fields["kind"]);
  auto name = read_text(report, path / "name", fields["name"]);
  auto own_ns = read_text(report, path / "namespace", fields["namespace"]);
  if (kind != "Pod" || !name) return std::nullopt;
  return NamespacedName{own_ns.value_or(std::string(ns)), std::move(*name)};
}

void read_endpoint(Report& report, const Path& path, const Node& node, bool names, EndpointSlice& slice) {
  EndpointSlice::Endpoint endpoint;
  Fields fields(report, path, &node, kEndpoint);
  for_each_item(report, path / "addresses", fields.require("addresses", "addresses: [<address>]"),
                [&](const Path& at, const Node& item) {
                  if (names) return;
                  auto ip = read_ip(report, at, &item);
                  if (ip) endpoint.addresses.push_back(*ip);
                });
  Path conditions = path / "conditions", target = path / "targetRef";
  Fields state(report, conditions, fields["conditions"], kConditions);
  if (state.usable()) endpoint.ready = read_bool(report, conditions / "ready", state["ready"]).value_or(true);
  endpoint.pod = read_pod_ref(report, target, fields["targetRef"], slice.meta.ns);
  if (!names) slice.endpoints.push_back(std::move(endpoint));
}

}  // namespace

Service read_service(Report& report, const Path& path, const Node& node) {
  Service service;
  Fields object(report, path, &node, kObjectFields);
  service.meta = read_meta(report, path, object, Kind::kService);
  Path at = path / "spec", status_path = path / "status";
  Fields status(report, status_path, object["status"], kServiceStatus);
  Fields spec(report, at, object.require("spec", "spec: with selector and ports"), kServiceSpec);
  if (!spec.usable()) return service;
  service.selector = read_text_map(report, at / "selector", spec["selector"]);
  read_service_ports(report, at / "ports", spec["ports"], service);
  if (const Node* ip = spec["clusterIP"]) read_cluster_ip(report, at / "clusterIP", *ip, service);
  for_each_item(report, at / "clusterIPs", spec["clusterIPs"],
                [&](const Path& item_path, const Node& item) { read_cluster_ip(report, item_path, item, service); });
  read_service_type(report, at, spec, service);
  return service;
}

EndpointSlice read_endpoint_slice(Report& report, const Path& path, const Node& node) {
  EndpointSlice slice;
  Fields object(report, path, &node, kSliceFields);
  slice.meta = read_meta(report, path, object, Kind::kEndpointSlice);
  auto label = slice.meta.labels.find(std::string(kServiceLabel));
  if (label != slice.meta.labels.end()) slice.service = label->second;
  if (slice.service.empty()) {
    report.warning(node.at, "{}: the slice belongs to no Service; write the label {}: <the Service's name>",
                   path / "metadata" / "labels", kServiceLabel);
  }
  auto type = read_choice(report, path / "addressType", object.require("addressType", "addressType: IPv4 or IPv6"),
                          kAddressTypes);
  bool names = type && kAddressTypes[*type] == "FQDN";
  if (names)
    report.warning(object["addressType"]->at, "{}: casad ignores endpoints that are names; write addresses",
                   path / "addressType");
  for_each_item(report, path / "endpoints", object["endpoints"],
                [&](const Path& at, const Node& item) { read_endpoint(report, at, item, names, slice); });
  for_each_item(report, path / "ports", object["ports"], [&](const Path& at, const Node& item) {
    Fields fields(report, at, &item, kSlicePort);
    auto port = read_port(report, at / "port", fields.require("port", "port: <number>"));
    auto protocol = read_protocol(report, at / "protocol", fields["protocol"]);
    auto name = read_text(report, at / "name", fields["name"]);
    if (port && protocol) slice.ports.push_back({name.value_or(""), *port, *port, *protocol});
  });
  return slice;
}

}  // namespace casa::policy

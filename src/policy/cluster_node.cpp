// Node, v1: a machine of the cluster, by its name, its addresses and the networks of its pods. The rest of a real object is known by
// name and ignored.
// ("Node" alone is a mapping of the text in this room.)
#include <algorithm>

#include "policy/kinds.h"

namespace casa::policy {
namespace {

constexpr std::string_view kObjectFields[] = {"apiVersion", "kind", "metadata", "spec", "status"};
constexpr std::string_view kSpec[] = {"configSource", "externalID", "podCIDR",      "podCIDRs",
                                      "providerID",   "taints",     "unschedulable"};
constexpr std::string_view kStatus[] = {
    "addresses", "allocatable", "capacity", "conditions", "config",          "daemonEndpoints", "declaredFeatures",
    "features",  "images",      "nodeInfo", "phase",      "runtimeHandlers", "volumesAttached", "volumesInUse"};
constexpr std::string_view kAddress[] = {"address", "type"};
constexpr std::string_view kTypes[] = {"InternalIP", "ExternalIP", "Hostname", "InternalDNS", "ExternalDNS"};

void read_network(Report& report, const Path& path, const Node* node, ClusterNode& into) {
  if (node != nullptr && node->type == Node::Type::kScalar && node->text.empty()) return;
  auto text = read_text(report, path, node);
  if (!text) return;
  auto prefix = parse_prefix(*text);
  if (!prefix)
    return report.error(node->at, "{}: {} is not a network; write one such as 10.42.0.0/24", path, Quoted{*text});
  if (std::ranges::find(into.pod_networks, *prefix) == into.pod_networks.end()) into.pod_networks.push_back(*prefix);
}

}  // namespace

ClusterNode read_cluster_node(Report& report, const Path& path, const Node& node) {
  ClusterNode result;
  Fields object(report, path, &node, kObjectFields);
  result.meta = read_meta(report, path, object, Kind::kNode);
  Path spec_path = path / "spec", status_path = path / "status";
  Fields spec(report, spec_path, object["spec"], kSpec);
  Fields status(report, status_path, object["status"], kStatus);
  if (spec.usable()) {
    read_network(report, spec_path / "podCIDR", spec["podCIDR"], result);
    for_each_item(report, spec_path / "podCIDRs", spec["podCIDRs"],
                  [&](const Path& at, const Node& item) { read_network(report, at, &item, result); });
  }
  if (!status.usable()) return result;
  for_each_item(report, status_path / "addresses", status["addresses"], [&](const Path& at, const Node& item) {
    Fields fields(report, at, &item, kAddress);
    auto type = read_choice(report, at / "type", fields.require("type", "type: InternalIP"), kTypes);
    const Node* address = fields.require("address", "address: <the node's address>");
    bool is_ip = type && (kTypes[*type] == "InternalIP" || kTypes[*type] == "ExternalIP");
    auto ip = is_ip ? read_ip(report, at / "address", address) : std::nullopt;
    if (ip && std::ranges::find(result.addresses, *ip) == result.addresses.end()) result.addresses.push_back(*ip);
  });
  return result;
}

}  // namespace casa::policy

// One function per kind: a mapping of that kind and apiVersion to its object. What is wrong goes to the Report; the object
// is only to be used when the Report counted no error for it. `path` is where the object stands (empty, or items[2]).
// The node is a mapping; its apiVersion and kind have been checked.
#pragma once

#include "policy/fields.h"
#include "policy/objects.h"

namespace casa::policy {

CasaPolicy read_casa_policy(Report& report, const Path& path, const Node& node);
MultiAgentSystem read_multi_agent_system(Report& report, const Path& path, const Node& node);
Namespace read_namespace(Report& report, const Path& path, const Node& node);
Pod read_pod(Report& report, const Path& path, const Node& node);
Service read_service(Report& report, const Path& path, const Node& node);
EndpointSlice read_endpoint_slice(Report& report, const Path& path, const Node& node);
ClusterNode read_cluster_node(Report& report, const Path& path, const Node& node);
Deployment read_deployment(Report& report, const Path& path, const Node& node);
StatefulSet read_stateful_set(Report& report, const Path& path, const Node& node);

// metadata of any kind: names by the kind's rules, labels, annotations, owners.
Meta read_meta(Report& report, const Path& path, const Fields& object, Kind kind);

// metadata.labels and metadata.annotations, by the kind's rules.
std::map<std::string, std::string> read_labels(Report& report, const Path& path, const Node* node, Kind kind);
std::map<std::string, std::string> read_annotations(Report& report, const Path& path, const Node* node, Kind kind);

// A Pod's spec, of a Pod or of a template of Pods; null for an absent one.
void read_pod_spec(Report& report, const Path& path, const Node* node, Pod& pod);
// The containers of a Pod's spec, and what of the Pod follows from them: ports, what probes ask, QoS, the mesh's proxy.
// `spec` stands at `path`; hostNetwork has been read.
void read_containers(Report& report, const Path& path, const Fields& spec, Pod& pod);

// {fqdn, port} of a policy, llm_host of a MultiAgentSystem.
std::optional<std::string> read_fqdn(Report& report, const Path& path, const Node* node);
// TCP or UDP; SCTP is nullopt with a warning, as casad lets none through. Absent is TCP.
std::optional<Protocol> read_protocol(Report& report, const Path& path, const Node* node);
std::optional<IpAddress> read_ip(Report& report, const Path& path, const Node* node);

}  // namespace casa::policy

// The objects that files and the API server bring, parsed and validated: plain values, no pointers, no lookups. Field
// names follow the Kubernetes kinds and the CASA custom resources (docs/policy.md).
#pragma once

#include <compare>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <type_traits>
#include <variant>
#include <vector>

#include "base/ip.h"

namespace casa::policy {

// Where a value stands. Lines and columns count from 1; columns count bytes.
struct Location {
  std::string file;
  std::uint32_t line = 0;
  std::uint32_t column = 0;
  bool operator==(const Location&) const = default;
};

// `file:line:col: error: message`
struct Diagnostic {
  enum class Severity { kError, kWarning };
  Severity severity = Severity::kError;
  Location where;
  std::string message;
};
std::string to_string(const Diagnostic& d);

enum class Kind : std::uint8_t {
  kCasaPolicy,
  kMultiAgentSystem,
  kNamespace,
  kPod,
  kService,
  kEndpointSlice,
  kNode,
  kDeployment,
  kStatefulSet
};
const char* to_string(Kind kind);  // as in `kind:`

struct ObjectKey {
  Kind kind{};
  std::string ns;  // empty for Namespace and Node
  std::string name;
  auto operator<=>(const ObjectKey&) const = default;
};
std::string to_string(const ObjectKey& key);  // "CASAPolicy team-a/agent"

struct OwnerReference {
  std::string kind, name;
  bool controller = true;  // the one owner that manages the object; a file may leave it out
  bool operator==(const OwnerReference&) const = default;
};

struct Meta {
  std::string ns, name, uid;
  std::map<std::string, std::string> labels, annotations;
  std::vector<OwnerReference> owners;
  Location where;  // of the object
  bool operator==(const Meta&) const = default;
};

struct NamespacedName {
  std::string ns, name;
  auto operator<=>(const NamespacedName&) const = default;
};

enum class Protocol : std::uint8_t { kTcp = 6, kUdp = 17 };  // IP protocol numbers

// spec.allowedEndpoints[]: a Service by name; the port is the Service's.
struct AllowedEndpoint {
  NamespacedName service;
  std::uint16_t port = 0;
  Location where;
  bool operator==(const AllowedEndpoint&) const = default;
};

// spec.allowedSources[]: who may call this workload; exactly one of the three forms. port 0: any port.
struct HostSource {
  bool operator==(const HostSource&) const = default;
};
struct AllowedSource {
  std::variant<HostSource, NamespacedName, IpPrefix> from;
  std::uint16_t port = 0;
  Location where;
  bool operator==(const AllowedSource&) const = default;
};

struct LlmEndpoint {
  std::string fqdn;  // lower case, without a trailing dot
  std::uint16_t port = 0;
  Location where;
  bool operator==(const LlmEndpoint&) const = default;
};

// spec.tokens: what becomes of requests because of the bearer tokens that they carry. kDrop is the stricter.
enum class TokenAction : std::uint8_t { kAlert, kDrop };
const char* to_string(TokenAction action);
// Which TLS libraries of the workload's processes are watched for the requests that the wire hides; kAuto: those that are found.
enum class TlsObserver : std::uint8_t { kOpenssl, kNode, kGo, kAuto };
const char* to_string(TlsObserver observer);
struct TokenRules {
  TokenAction exfiltration = TokenAction::kAlert;  // a token on its way to somebody who is no allowed endpoint
  TokenAction require_valid_signature = TokenAction::kAlert;  // a token whose signature was found wrong
  std::optional<TlsObserver> tls_observer;                    // none: off
  bool operator==(const TokenRules&) const = default;
};

enum class Enforcement : std::uint8_t { kEnforce, kAudit };
enum class TargetKind : std::uint8_t { kDeployment, kStatefulSet, kPod };
const char* to_string(TargetKind kind);

struct CasaPolicy {
  Meta meta;
  TargetKind target_kind{};
  std::string target_name;
  std::vector<std::string> allowed_protocols;  // mcp, a2a, http
  std::vector<AllowedEndpoint> allowed_endpoints;
  std::vector<AllowedSource> allowed_sources;
  std::optional<LlmEndpoint> llm_endpoint;
  TokenRules tokens;
  Enforcement enforcement = Enforcement::kEnforce;
  bool operator==(const CasaPolicy&) const = default;
};

enum class AppType : std::uint8_t { kAgent, kClient, kMcpServer };
const char* to_string(AppType type);

struct MasApp {
  std::string name;
  AppType type{};
  std::string kubernetes_workload_name;
  std::string service;     // host part of baseUrl
  std::uint16_t port = 0;  // of baseUrl; 80 or 443 by scheme when it is not written
  Location where;
  bool operator==(const MasApp&) const = default;
};

struct MultiAgentSystem {
  Meta meta;
  std::string name;  // spec.name
  std::vector<std::string> enabled_tool_checks;
  std::optional<LlmEndpoint> llm;  // from llm_host: port 443
  std::vector<MasApp> apps;
  bool operator==(const MultiAgentSystem&) const = default;
};

struct Namespace {
  Meta meta;
  bool operator==(const Namespace&) const = default;
};

struct ContainerPort {
  std::string name;
  std::uint16_t port = 0;
  Protocol protocol = Protocol::kTcp;
  bool operator==(const ContainerPort&) const = default;
};

// How kubelet sorts pods, and so where a pod's cgroup lies; kUnknown when nobody said.
enum class QosClass : std::uint8_t { kUnknown, kGuaranteed, kBurstable, kBestEffort };

struct Pod {
  Meta meta;
  std::string node;  // spec.nodeName; empty: not scheduled yet, or a file does not say
  // As kubelet names the pod's cgroup: the uid, or of a static pod's mirror its configuration's hash.
  std::string cgroup_uid;
  QosClass qos = QosClass::kUnknown;
  bool host_network = false;
  bool finished = false;                   // phase Succeeded or Failed: its addresses may be somebody else's by now
  bool deleting = false;                   // metadata.deletionTimestamp is set: the same, but it may still use them
  bool ready = false;                      // its condition Ready is True
  bool istio_proxy = false;                // it has a container istio-proxy
  std::vector<ContainerPort> ports;        // of all containers
  std::vector<std::uint16_t> probe_ports;  // TCP, that kubelet's probes ask (named ones resolved); sorted, each once
  std::vector<IpAddress> ips;              // status.podIPs
  // metadata.annotations["casa.io/cgroup"]: path below the cgroup2 root, without a leading slash; empty when absent.
  std::string cgroup;
  bool operator==(const Pod&) const = default;
};

// A Service's or an EndpointSlice's target port is a number or a container port's name.
struct ServicePort {
  std::string name;
  std::uint16_t port = 0;
  std::variant<std::uint16_t, std::string> target_port = std::uint16_t{0};
  Protocol protocol = Protocol::kTcp;
  bool operator==(const ServicePort&) const = default;
};

struct Service {
  Meta meta;
  std::map<std::string, std::string> selector;
  std::vector<ServicePort> ports;
  std::vector<IpAddress> cluster_ips;  // empty for headless
  std::string external_name;           // set for type ExternalName, which casad does not allow through
  bool operator==(const Service&) const = default;
};

struct EndpointSlice {
  Meta meta;
  std::string service;  // label kubernetes.io/service-name
  struct Endpoint {
    std::vector<IpAddress> addresses;
    bool ready = true;
    std::optional<NamespacedName> pod;  // targetRef of kind Pod
    bool operator==(const Endpoint&) const = default;
  };
  std::vector<Endpoint> endpoints;
  std::vector<ServicePort> ports;  // `port` is the endpoints' own port here
  bool operator==(const EndpointSlice&) const = default;
};

// A Kubernetes Node ("Node" is a mapping of the text in this room: tree.h).
struct ClusterNode {
  Meta meta;
  std::vector<IpAddress> addresses;    // status.addresses of the types InternalIP and ExternalIP
  std::vector<IpPrefix> pod_networks;  // spec.podCIDRs
  bool operator==(const ClusterNode&) const = default;
};

// What a Deployment and a StatefulSet say of the Pods that they make. The daemon needs neither, since it knows the Pods; who renders
// policies that select Pods by label needs them (compile/render.h).
struct PodMaker {
  Meta meta;
  std::map<std::string, std::string> match_labels;  // spec.selector.matchLabels
  bool match_expressions = false;                   // spec.selector has some, too
  Pod pod;                                          // spec.template: labels, ports and what stands in its spec; no name
  bool operator==(const PodMaker&) const = default;
};
struct Deployment : PodMaker {};
struct StatefulSet : PodMaker {};

using Object = std::variant<CasaPolicy, MultiAgentSystem, Namespace, Pod, Service, EndpointSlice, ClusterNode,
                            Deployment, StatefulSet>;

// The variant's alternatives stand in the order of Kind.
template <typename T>
consteval Kind kind_of_type() {
  auto index = []<typename... Kinds>(std::type_identity<std::variant<Kinds...>>) {
    std::uint8_t i = 0;
    (void)((std::is_same_v<T, Kinds> || (++i, false)) || ...);
    return i;
  };
  return static_cast<Kind>(index(std::type_identity<Object>{}));
}

ObjectKey key_of(const Object& object);
const Meta& meta_of(const Object& object);

}  // namespace casa::policy

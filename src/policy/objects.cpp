// Names of the objects' enums and keys, as they stand in files, diagnostics and the API, and the key of an object. The
// words are part of what the outside sees: they change with docs/policy.md, or not at all. Nothing here validates.
// An enum value that is none of its names prints "?".
#include "policy/objects.h"

#include <fmt/format.h>

namespace casa::policy {

std::string to_string(const Diagnostic& d) {
  const char* severity = d.severity == Diagnostic::Severity::kError ? "error" : "warning";
  if (d.where.line == 0) return fmt::format("{}: {}: {}", d.where.file, severity, d.message);
  return fmt::format("{}:{}:{}: {}: {}", d.where.file, d.where.line, d.where.column, severity, d.message);
}

const char* to_string(Kind kind) {
  switch (kind) {
    case Kind::kCasaPolicy: return "CASAPolicy";
    case Kind::kMultiAgentSystem: return "MultiAgentSystem";
    case Kind::kNamespace: return "Namespace";
    case Kind::kPod: return "Pod";
    case Kind::kService: return "Service";
    case Kind::kEndpointSlice: return "EndpointSlice";
    case Kind::kNode: return "Node";
    case Kind::kDeployment: return "Deployment";
    case Kind::kStatefulSet: return "StatefulSet";
  }
  return "?";
}

std::string to_string(const ObjectKey& key) {
  if (key.ns.empty()) return fmt::format("{} {}", to_string(key.kind), key.name);
  return fmt::format("{} {}/{}", to_string(key.kind), key.ns, key.name);
}

const char* to_string(TargetKind kind) {
  switch (kind) {
    case TargetKind::kDeployment: return "Deployment";
    case TargetKind::kStatefulSet: return "StatefulSet";
    case TargetKind::kPod: return "Pod";
  }
  return "?";
}

const char* to_string(TokenAction action) {
  switch (action) {
    case TokenAction::kAlert: return "alert";
    case TokenAction::kDrop: return "drop";
  }
  return "?";
}

const char* to_string(TlsObserver observer) {
  switch (observer) {
    case TlsObserver::kOpenssl: return "openssl";
    case TlsObserver::kNode: return "node";
    case TlsObserver::kGo: return "go";
    case TlsObserver::kAuto: return "auto";
  }
  return "?";
}

const char* to_string(AppType type) {
  switch (type) {
    case AppType::kAgent: return "agent";
    case AppType::kClient: return "client";
    case AppType::kMcpServer: return "mcp_server";
  }
  return "?";
}

namespace {
static_assert(kind_of_type<CasaPolicy>() == Kind::kCasaPolicy && kind_of_type<Pod>() == Kind::kPod);
static_assert(kind_of_type<EndpointSlice>() == Kind::kEndpointSlice && kind_of_type<ClusterNode>() == Kind::kNode);
}  // namespace

const Meta& meta_of(const Object& object) {
  return std::visit([](const auto& o) -> const Meta& { return o.meta; }, object);
}

ObjectKey key_of(const Object& object) {
  const Meta& meta = meta_of(object);
  return {static_cast<Kind>(object.index()), meta.ns, meta.name};
}

}  // namespace casa::policy

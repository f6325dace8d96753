// (policies, Snapshot) -> MapImage, and the report that says of each policy what became of it. Pure.
#pragma once

#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "base/error.h"
#include "compile/map_image.h"
#include "compile/tokens.h"
#include "identity/follow.h"
#include "identity/snapshot.h"

namespace casa::compile {

using policy::NamespacedName;

enum class Phase { kPending, kActive, kFailed };
const char* to_string(Phase phase);

struct PolicyReport {
  std::string kind;  // CASAPolicy, MultiAgentSystem
  NamespacedName name;
  std::string target, enforcement, origin;
  Phase phase = Phase::kPending;
  std::string message;  // all of it, as this node sees it
  // The same in parts: what is so on every node of a cluster, and what is about this one.
  std::vector<std::string> notes, node_notes;
  bool node_failed = false;  // kFailed because of this node
  NamespacedName workload;   // the target, as the snapshot names it; empty when it cannot be read
  std::vector<std::string> allowed_endpoints, allowed_sources;
  std::string llm_endpoint;
  std::string tokens;  // "exfiltration: drop, tlsObserver: go"; empty for the defaults
};

// Why a (subject, peer, port) may talk: the first policy field that says so.
struct RuleSource {
  NamespacedName policy;
  std::string field;  // "spec.allowedEndpoints[0]"
};

struct EndpointReport {
  NamespacedName name;
  std::uint16_t port = 0;
  policy::Protocol protocol = policy::Protocol::kTcp;
  std::string state;
  std::vector<std::string> workloads, addresses;
  std::set<std::string> used_by;
};

// A name outside that policies allow, and the workloads that may reach it.
struct NamedPeer {
  std::uint32_t identity = 0;
  std::set<std::uint16_t> ports;
  std::set<std::uint32_t> subjects;
  std::set<std::string> used_by;  // policies
};

struct Compiled {
  MapImage image;
  std::vector<PolicyReport> policies;
  std::vector<EndpointReport> endpoints;
  std::map<std::string, NamedPeer> names;                                // by FQDN
  std::map<PolicyKey, RuleSource> sources;                               // of image.policy's rows
  std::map<NamespacedName, std::vector<std::string>> policies_of;        // workload -> "ns/name"
  std::map<std::uint32_t, std::set<policy::TlsObserver>> tls_observers;  // wished for, by subject
};

struct Limits {
  std::size_t cgroups = CASA_MAX_CGROUPS, subjects = CASA_MAX_SUBJECTS, policy = CASA_MAX_POLICY,
              addresses = CASA_MAX_ADDRESSES, prefixes = CASA_MAX_PREFIXES, names = CASA_MAX_NAMES;
};

Compiled compile(const identity::ObjectSet& objects, const identity::Snapshot& snapshot, identity::Allocator& allocator,
                 bool audit_node);

// `snapshot` has followed some changes (identity/follow.h): so do the rows, and those that may differ from what they were are returned. The
// reports are as old as they were; refresh() is for them.
Touched follow(const identity::ObjectSet& objects, const identity::Snapshot& snapshot, identity::Allocator& allocator,
               bool audit_node, const identity::Followed& followed, Compiled& compiled);
// Everything but the addresses anew.
void refresh(const identity::ObjectSet& objects, const identity::Snapshot& snapshot, identity::Allocator& allocator,
             bool audit_node, Compiled& compiled);

// kLimit with a sentence when the image cannot fit the kernel's maps. `touched`: all other rows have passed before; null: none have.
Status check_limits(const MapImage& image, const Limits& limits, const Touched* touched = nullptr);

}  // namespace casa::compile

// What the API shows, as plain values. The app implements State; api/ only formats. Strings are as a person reads them.
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "api/feed.h"
#include "base/error.h"
#include "store/flow_history.h"
#include "token/tracker.h"

namespace casa::api {

using Time = std::chrono::system_clock::time_point;

struct ResourceView {
  std::string name;   // "Pods of this node"
  std::string state;  // "listing", "watching", "absent", "forbidden", "failing"
  std::size_t objects = 0;
  std::string problem;  // empty when well
};

struct SourceView {
  std::string kind;      // "directory", "kubernetes"
  std::string location;  // path; "in-cluster"
  std::string problem;   // empty when well
  std::size_t documents = 0, objects = 0, bad_documents = 0;
  std::optional<Time> last_change;
  std::optional<Time> last_contact;     // of a server: when it last said anything
  std::vector<ResourceView> resources;  // of a server: what is asked for
};

struct StatusView {
  std::string version;
  Time started;
  bool ready = false;                 // the first generation is in the kernel
  std::string phase;                  // "starting", "enforcing", "degraded"
  std::vector<std::string> problems;  // one sentence each; empty when all is well
  std::uint32_t generation = 0;
  std::optional<Time> generation_time;
  std::string policy_digest;  // SHA-256 over the compiled generation, hex: equal digests enforce the same
  std::string cgroup_root, bpffs;
  bool adopted = false;  // pins of an earlier run were taken over
  std::vector<SourceView> sources;
  std::map<std::string, std::size_t> counts;  // policies, workloads, instances, services, ...
  struct MapUse {
    std::string name;
    std::size_t used = 0, capacity = 0;
  };
  std::vector<MapUse> maps;
  // How often what is in force was made "anew", from everything that there is, or "followed" what had changed, by that word.
  std::map<std::string, std::uint64_t> made;
  std::map<std::string, std::string> features;  // "sweep": "on" or "off: why"
  // Times without the programs at the enforcement root, as this run saw them, oldest first.
  struct Gap {
    std::optional<Time> from;   // when they were last seen there: the gap is no longer than that
    std::optional<Time> until;  // when they were there again; nothing: not yet
  };
  std::vector<Gap> enforcement_gaps;
};

struct PolicyView {
  std::string kind;  // CASAPolicy, MultiAgentSystem
  std::string ns, name;
  std::string target;       // "Deployment/agent"
  std::string enforcement;  // enforce, audit
  std::string phase;        // Pending, Active, Failed
  std::string message;
  std::optional<Time> last_sync_time;
  std::string origin;                          // file
  std::vector<std::string> allowed_endpoints;  // "tools/mcp-server:8080"
  std::vector<std::string> allowed_sources;    // "host:8080", "team-b/agent", "10.0.0.0/8"
  std::string llm_endpoint;                    // "api.openai.com:443"
  std::string tokens;                          // "exfiltration: drop"
};

struct InstanceView {
  std::string cgroup;  // path below the cgroup2 root
  std::uint64_t cgroup_id = 0;
  std::optional<Time> since;
};

struct WorkloadView {
  std::string ns, name, kind;
  std::uint32_t identity = 0;
  std::string mode;                   // enforce, audit, exempt
  std::string state;                  // "enforced", "waiting for its cgroup", "denied: no policy", ...
  std::vector<std::string> policies;  // ns/name
  std::vector<InstanceView> instances;
  std::vector<std::string> declared_cgroups;
  std::vector<std::string> addresses;
};

struct EndpointView {
  std::string ns, name;  // Service (or the workload that stands for one)
  std::uint16_t port = 0;
  std::string protocol;                // tcp, udp
  std::string state;                   // "resolved", "no such service", "no addresses", ...
  std::vector<std::string> workloads;  // ns/name behind it
  std::vector<std::string> addresses;  // address:port
  std::vector<std::string> used_by;    // policies
  // Of an llmEndpoint, which has an FQDN instead of namespace and name:
  std::string fqdn;
  std::vector<std::string> callers;  // workloads that may call it
  struct NamedAddress {
    std::string address;
    std::vector<std::string> sources;  // "answer", "resolver"
    std::uint32_t seconds_left = 0;
    std::string workload;
  };
  std::vector<NamedAddress> resolved;
  std::string last_error;
  std::vector<std::string> pods;  // ns/name, that have `addresses`, in their order
};

struct StatsView {
  std::map<std::string, std::uint64_t> counters;  // kernel and daemon counters by name, e.g. "eventsLost"
  std::map<std::string, std::uint64_t> denied_by_reason;
  std::size_t flows_stored = 0;
  std::uint64_t flows_total = 0, flows_forgotten = 0;
};

struct ExplainQuery {
  std::string from;  // NS/NAME, "host", or an address
  std::string to;    // NS/NAME:PORT, HOST:PORT or ADDRESS:PORT (IPv6 in brackets)
  std::string protocol = "tcp";
};
// Also the baseline: `casad explain --baseline`.
struct ExplainStep {
  std::string where;    // "egress of team-a/agent", "ingress of tools/mcp-server"
  std::string verdict;  // ALLOWED, DENIED, AUDIT
  std::string reason;
  std::string policy;  // ns/name, empty when none decided
  std::string field;   // "spec.allowedEndpoints[0]"
  std::string text;    // one sentence
};
struct ExplainView {
  std::string verdict;
  std::vector<ExplainStep> steps;
  std::vector<std::string> suggestions;  // what would have to be added, as YAML or a sentence
};

class State {
 public:
  virtual ~State() = default;
  [[nodiscard]] virtual StatusView status() const = 0;
  [[nodiscard]] virtual std::vector<PolicyView> policies() const = 0;     // sorted by namespace, name
  [[nodiscard]] virtual std::vector<WorkloadView> workloads() const = 0;  // sorted by namespace, name
  [[nodiscard]] virtual std::vector<EndpointView> endpoints() const = 0;
  [[nodiscard]] virtual StatsView stats() const = 0;
  // kInvalidArgument with a sentence when the query cannot be understood; kNotFound when `from` is no workload.
  [[nodiscard]] virtual Result<ExplainView> explain(const ExplainQuery& query) const = 0;
  [[nodiscard]] virtual std::vector<std::string> baseline() const = 0;  // one sentence per baseline rule
  [[nodiscard]] virtual const store::FlowHistory& flows() const = 0;
  [[nodiscard]] virtual const token::Tracker& tokens() const = 0;
  [[nodiscard]] virtual const Feed& feed() const = 0;
};

}  // namespace casa::api

// What a set of policies means, in the terms that network policies by label have: whom a rule is about, whom it lets through, on which ports.
// The writers (render.h) only spell it, each in its dialect. Nothing in a plan allows more than the policies do: what cannot be said is left
// out, with a note that says what it was and what would help. Pure.
#pragma once

#include <map>
#include <set>
#include <span>
#include <string>
#include <variant>
#include <vector>

#include "compile/pod_groups.h"
#include "compile/render.h"

namespace casa::compile {

struct PodSelector {
  std::string ns;
  Labels labels;  // never empty
  auto operator<=>(const PodSelector&) const = default;
};
struct NodeItself {
  auto operator<=>(const NodeItself&) const = default;
};
using Peer = std::variant<PodSelector, IpPrefix, NodeItself>;

// Where the Pods listen. 0: any port of the protocol.
struct TargetPort {
  std::uint16_t port = 0;
  policy::Protocol protocol = policy::Protocol::kTcp;
  auto operator<=>(const TargetPort&) const = default;
};
struct Allowed {
  std::set<TargetPort> ports;
  policy::Location where;  // the first field that says so
};
using Rules = std::map<Peer, Allowed>;

// One object to write. Several may be about the same Pods: what any of them allows is allowed.
struct Subject {
  std::string ns, name;
  Labels labels;                  // of its Pods; empty: every Pod of the namespace
  std::set<std::string> because;  // "CASAPolicy team-a/agent"
  bool unrestricted = false;      // exempt: everything is allowed
  Rules egress, ingress;
  std::map<std::pair<std::string, std::uint16_t>, policy::Location> hosts;  // outside, over TCP: name and port
  std::set<std::string> dns_names;                                          // that may be asked for
  policy::Location where;                                                   // of the first policy that it is for
};

struct Plan {
  std::vector<Subject> subjects;
  PodSelector resolver;  // where DNS is asked
  std::set<TargetPort> resolver_ports;
  std::vector<IpPrefix> pod_networks;     // of the nodes in the files
  std::vector<policy::Diagnostic> notes;  // in the order of the objects
};

Plan plan(std::span<const policy::Object> objects, const RenderOptions& options);

}  // namespace casa::compile

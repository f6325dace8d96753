// Policies in the words of others: CiliumNetworkPolicy (cilium.io/v2) and NetworkPolicy (networking.k8s.io/v1) objects that allow what the given
// CASAPolicies and MultiAgentSystems allow, and never more. Pure.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "identity/snapshot.h"
#include "policy/objects.h"

namespace casa::compile {

struct RenderOptions {
  // Search list and cluster domain of the Pods' resolv.conf, for the names that may be asked for.
  identity::DnsFacts dns;
  // casad enforces on the same nodes, so rules may be left to it that only it can hold.
  bool beside_casad = false;
  // NetworkPolicy: open port 53 of the cluster's resolver for every name, which CASAPolicies do not allow.
  bool any_dns_name = false;
};

struct Rendered {
  std::string yaml;                       // empty when a note is an error
  std::vector<policy::Diagnostic> notes;  // warnings: what is left out; errors: what would have allowed more
  [[nodiscard]] bool ok() const;
};

// `objects`: valid, each once; what is not there (Services, Deployments or Pods for their labels, Nodes) is named in a note.
Rendered render_cilium(std::span<const policy::Object> objects, const RenderOptions& options);
Rendered render_network_policy(std::span<const policy::Object> objects, const RenderOptions& options);

}  // namespace casa::compile

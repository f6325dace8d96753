// What spec.tokens comes down to: flags of the workload's subject, and the TLS observers that are wished for it. Pure.
#pragma once

#include <cstdint>
#include <set>
#include <string>
#include <vector>

#include "identity/snapshot.h"

namespace casa::compile {

// Of all policies of one workload together: the strictest action, and every observer that one of them names.
struct WorkloadTokens {
  std::uint32_t subject_flags = 0;  // CASA_SUBJECT_TOKEN_*
  std::set<policy::TlsObserver> observers;

  void add(const policy::TokenRules& rules);
};

// What these rules need and this node does not have, a sentence for each; observers need nothing, as they enforce nothing.
std::vector<std::string> missing_for(const policy::TokenRules& rules, const identity::TokenFacts& node);

// "exfiltration: drop, ..."; empty for the defaults.
std::string to_text(const policy::TokenRules& rules);

}  // namespace casa::compile

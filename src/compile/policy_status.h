// What the status of a CASAPolicy says in the API server, for the whole cluster, and who is to write it. Every node makes the same of the
// same objects, so that many nodes do not fight; only what is about one node alone is that node's to say, in a remark of its own behind
// the rest: "enforced on 3 nodes [node-a failed: llmEndpoint ...]". Pure.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "compile/compile.h"

namespace casa::compile {

struct PolicyStatus {
  Phase phase = Phase::kPending;
  std::string message;
  bool operator==(const PolicyStatus&) const = default;
};

// `report` is this node's, of a CASAPolicy; `current`: the message that the API server has, of which other nodes' remarks are kept as long as
// they have a Pod of the target.
PolicyStatus cluster_status(const PolicyReport& report, const identity::Snapshot& snapshot, std::string_view node,
                            std::string_view current);

// In whose place the node writes: 0 at once, 1 if the first one has not done so in a while, and so on; -1: never. Writers are the nodes
// with a Pod of the target and a casad that is ready; of a policy whose target runs nowhere, all that have one. `uid` is the policy's: it
// decides who is first, so that not one node writes for all policies. A node writes its own remark itself, at once: by the message that the
// server has and the one that is wanted.
int writer_rank(const PolicyReport& report, const identity::Snapshot& snapshot, std::string_view node,
                std::string_view uid, std::string_view current, std::string_view wanted);

}  // namespace casa::compile

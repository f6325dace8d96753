// What a Pod needs to live, whatever its policy says: the probes of its kubelet, and where Istio's proxy is in it, the proxy's control plane
// and the port that everything which is sent to the Pod is redirected to. Pure.
#pragma once

#include "compile/compile.h"

namespace casa::compile {

// After all other rows of the workload.
void add_pod_baseline(const identity::Snapshot& snapshot, const identity::Workload& workload, Compiled& out);

}  // namespace casa::compile

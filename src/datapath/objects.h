// The BPF objects as loaded programs: opened with their maps bound to the pins of one directory, so that whoever
// loads second finds what the first made.
#pragma once

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include <map>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/fd.h"
#include "cgroup_watch.skel.h"
#include "compile/compile.h"
#include "enforce.skel.h"
#include "inspect.skel.h"
#include "requests.skel.h"
#include "skeleton.h"
#include "sweep.skel.h"
#include "tls_observer.skel.h"

namespace casa::datapath {

using EnforceObject = Skeleton<casa_enforce>;
using WatchObject = Skeleton<casa_cgroup_watch>;
using SweepObject = Skeleton<casa_sweep>;
using InspectObject = Skeleton<casa_inspect>;
using RequestsObject = Skeleton<casa_requests>;
using TlsObserverObject = Skeleton<casa_tls_observer>;

struct ProgramCost {
  std::string program;
  std::uint32_t verified_instructions = 0;
};

struct LoadOptions {
  std::string pin_dir;  // empty: private maps that vanish with the object (probing)
  compile::Limits limits;
  std::vector<ProgramCost>* costs = nullptr;  // gets what the verifier walked, in exchange for its log on failure
};

// Errors carry the end of the verifier's or libbpf's log.
Result<EnforceObject> load_enforce(const LoadOptions& options);
Result<WatchObject> load_cgroup_watch(const LoadOptions& options);
Result<SweepObject> load_sweep(const LoadOptions& options);
Result<InspectObject> load_inspect(const LoadOptions& options);
Result<RequestsObject> load_requests(const LoadOptions& options);
Result<TlsObserverObject> load_tls_observer(const LoadOptions& options);

// libbpf's messages since the last call: warnings only, newest last, bounded.
std::string take_libbpf_log();

}  // namespace casa::datapath

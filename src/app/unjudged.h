// Connections that no program has judged: older than the programs, or than the policy of their workload, or accepted and
// silent since. Their packets are judged as they come; an idle one has none, so it is looked for here, from outside.
#pragma once

#include <cstdint>
#include <set>
#include <unordered_map>
#include <utility>
#include <vector>

#include "compile/explain.h"
#include "datapath/tcp_sockets.h"

namespace casa::app {

struct RefusedConnection {
  datapath::TcpSocket socket;
  compile::Question question;
  compile::Decision decision;
};

// Pure. `subjects`: the subject of every cgroup at or below a declared one (CASA_ID_NONE elsewhere). `named`: addresses that stand
// for a name of that subject; what becomes of such a connection is for its next packet to say.
std::vector<RefusedConnection> find_refused(const std::vector<datapath::TcpSocket>& sockets,
                                            const std::unordered_map<std::uint64_t, std::uint32_t>& subjects,
                                            const compile::MapImage& image,
                                            const std::set<std::pair<std::uint32_t, IpAddress>>& named);

// Every cgroup below the declared ones, with its subject: the first declared one from the root downwards decides.
std::unordered_map<std::uint64_t, std::uint32_t> subjects_of_cgroups(const identity::CgroupMount& mount,
                                                                     const identity::Snapshot& snapshot,
                                                                     const compile::MapImage& image);

}  // namespace casa::app

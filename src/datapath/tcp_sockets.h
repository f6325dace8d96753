// The TCP sockets of this network namespace with the cgroup of each, through inet_diag.
#pragma once

#include <cstdint>
#include <vector>

#include "base/error.h"
#include "datapath/sock_destroy.h"

namespace casa::datapath {

struct TcpSocket {
  TcpEnds ends;
  std::uint64_t cookie = 0;
  std::uint64_t cgroup_id = 0;  // 0 on kernels before 5.8, which do not tell
  bool listening = false;
};

// Of both families, in every state in which data can still flow, and listening ones.
Result<std::vector<TcpSocket>> list_tcp_sockets();

}  // namespace casa::datapath

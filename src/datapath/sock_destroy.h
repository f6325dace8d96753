// Ends a TCP connection of this network namespace through inet_diag (SOCK_DESTROY): the application gets ECONNABORTED at
// once, where a dropped packet alone would leave it waiting.
#pragma once

#include <cstdint>

#include "base/error.h"
#include "base/ip.h"

namespace casa::datapath {

struct TcpEnds {
  IpAddress local, remote;
  std::uint16_t local_port = 0, remote_port = 0;
};

// Only the socket with that cookie, which no other ever has: ends alone could name a stranger's connection in another
// network namespace. kNotFound when it is gone already, or is another one.
Status destroy_tcp_socket(const TcpEnds& ends, std::uint64_t cookie);

}  // namespace casa::datapath

// This host's own addresses, through rtnetlink; a listener tells when they change.
#pragma once

#include <vector>

#include "base/error.h"
#include "base/fd.h"
#include "base/ip.h"

namespace casa::identity {

// Addresses of all interfaces in this network namespace but loopback ones (127.0.0.0/8, ::1).
Result<std::vector<IpAddress>> host_addresses();

// A non-blocking socket that becomes readable when an address comes or goes; read and drop what is there.
Result<Fd> watch_host_addresses();

}  // namespace casa::identity

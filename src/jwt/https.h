// One GET over HTTPS (or plain HTTP, for loopback: location.h sees to that), as a coroutine on the daemon's io_context. The server must
// have a certificate for the host's name, redirects are not followed, everything is bounded.
#pragma once

#include <boost/asio/awaitable.hpp>
#include <chrono>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/ip.h"
#include "base/location.h"

namespace casa::jwt {

struct FetchLimits {
  std::chrono::milliseconds timeout{10'000};  // all of it
  std::size_t body = 1u << 20;
};

// Tries the addresses one after the other until one can be connected to. Returns the body of an answer 200.
boost::asio::awaitable<Result<std::string>> fetch(Location location, std::vector<IpAddress> addresses,
                                                  std::string ca_file, FetchLimits limits);

}  // namespace casa::jwt

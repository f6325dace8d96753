// Bounded waits that run the executor instead of sleeping.
#pragma once

#include <boost/asio/io_context.hpp>
#include <chrono>

namespace casa::test {

// Whether the condition came true within the time.
template <typename Condition>
bool run_until(boost::asio::io_context& io, const Condition& condition,
               std::chrono::milliseconds most = std::chrono::seconds{5}) {
  auto end = std::chrono::steady_clock::now() + most;
  while (!condition()) {
    if (std::chrono::steady_clock::now() >= end) return false;
    io.restart();
    io.run_one_for(std::chrono::milliseconds{10});
  }
  return true;
}

}  // namespace casa::test

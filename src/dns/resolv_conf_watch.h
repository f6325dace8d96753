// Follows a resolv.conf: reads it, and again when something happens where it is. Everything happens on the io_context's one
// thread; start(), stop() and the destructor belong to it too.
//
// Watched is not the file but each directory on the way to it, link by link: /etc/resolv.conf is often a link to a file that is
// renamed into place elsewhere, and in a container the link is what is swapped. What inotify cannot show (a file system of
// another machine, a bind mount) a read every half minute finds.
#pragma once

#include <boost/asio/io_context.hpp>
#include <chrono>
#include <functional>
#include <memory>
#include <string>

#include "base/error.h"
#include "dns/resolv_conf.h"

namespace casa::dns {

// The defaults are what casad runs with; tests shorten the waits.
struct ResolvConfWatchOptions {
  std::chrono::milliseconds quiet{50};       // no event for so long, then it is read
  std::chrono::milliseconds longest{500};    // or so long after the first
  std::chrono::milliseconds settle{1000};    // a file that names no server any more is perhaps being written
  std::chrono::milliseconds period{30'000};  // between reads without an event
  std::chrono::milliseconds away{1000};      // the same while it cannot be read
};

class ResolvConfWatch {
 public:
  // What it says, once after start() and then when it says something else.
  using OnChange = std::function<void(const ResolvConf&)>;
  // A sentence when it cannot be read: what it said before holds. Empty when it can be read again.
  using OnProblem = std::function<void(const std::string&)>;

  ResolvConfWatch(boost::asio::io_context& io, const std::string& path, OnChange on_change, OnProblem on_problem,
                  ResolvConfWatchOptions options = {});
  ~ResolvConfWatch();
  ResolvConfWatch(const ResolvConfWatch&) = delete;
  ResolvConfWatch& operator=(const ResolvConfWatch&) = delete;

  // Fails only when the kernel gives no inotify instance. The first read happens on the executor, after start().
  Status start();
  // No callback after it, also when a callback calls it.
  void stop();

 private:
  class Impl;
  std::shared_ptr<Impl> impl_;  // shared with pending operations, which may outlive this object
};

}  // namespace casa::dns

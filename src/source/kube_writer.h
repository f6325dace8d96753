// Writes to the API server: one request after the other, over a connection of its own. Nothing is sent twice by itself: what becomes of a
// request that failed is the caller's decision. Everything happens on the io_context's one thread.
#pragma once

#include <boost/asio/io_context.hpp>
#include <functional>
#include <memory>

#include "base/error.h"
#include "source/kube_client.h"

namespace casa::source {

class KubeWriter {
 public:
  // An error has the server's own words; kNotFound: the object is not there (any more), kLimit: the server asks to wait (429).
  using Done = std::function<void(const Status&)>;
  static constexpr std::size_t kMaxWaiting = 64;

  KubeWriter(boost::asio::io_context& io, KubeAccess access, KubeTimeouts timeouts = {});
  ~KubeWriter();
  KubeWriter(const KubeWriter&) = delete;
  KubeWriter& operator=(const KubeWriter&) = delete;

  // False, and nothing is sent or called: kMaxWaiting requests wait already. `done` comes from the executor.
  bool send(KubeRequest request, Done done);
  [[nodiscard]] std::size_t waiting() const;
  void set_addresses(std::vector<IpAddress> addresses);
  // No call after it.
  void stop();

 private:
  class Impl;
  std::shared_ptr<Impl> impl_;  // shared with the request under way, which may outlive this object
};

}  // namespace casa::source

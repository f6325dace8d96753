// One connection to the API server, kept alive: HTTP/1.1 over TLS, one request after the other, each answer read piece by piece. Coroutines of
// the io_context's one thread; one user at a time. What is asked for and what the answer means is the caller's business.
#pragma once

#include <boost/asio/awaitable.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/beast/http/verb.hpp>
#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "base/error.h"
#include "source/kube_login.h"

namespace casa::source {

struct KubeTimeouts {
  std::chrono::milliseconds connect{10'000};  // TCP and TLS together
  std::chrono::milliseconds request{30'000};  // sending it, and waiting for the answer's head
};

struct KubeRequest {
  boost::beast::http::verb method = boost::beast::http::verb::get;
  std::string target;        // below the server's path: /api/v1/pods?limit=500
  std::string content_type;  // of the body: application/merge-patch+json
  std::string body;
};

struct KubeAnswer {
  unsigned status = 0;                              // of HTTP
  std::optional<std::chrono::seconds> retry_after;  // the server asks for it
};

class KubeConnection {
 public:
  KubeConnection(boost::asio::io_context& io, std::shared_ptr<KubeLogin> login, KubeTimeouts timeouts);
  ~KubeConnection();
  KubeConnection(const KubeConnection&) = delete;
  KubeConnection& operator=(const KubeConnection&) = delete;

  // Connects where that is needed. A GET is sent again when the connection turns out to have been closed meanwhile, any request when the
  // token that the server refused (401) has been renewed.
  boost::asio::awaitable<Result<KubeAnswer>> send(KubeRequest request);
  // The next bytes of the answer's body, unpacked, valid until the next call; empty at its end.
  boost::asio::awaitable<Result<std::string_view>> read(std::chrono::milliseconds timeout);
  // All of the rest; more than `most` bytes are an error.
  boost::asio::awaitable<Result<std::string>> read_all(std::size_t most);

  // What is under way ends with an error; the next request connects anew.
  void close();

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

// `text` as a value in a query.
std::string percent_encode(std::string_view text);

}  // namespace casa::source

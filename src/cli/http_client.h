// GET over a Unix socket, synchronously, with a deadline and a bound on the answer. Keeps the connection for the next
// call and opens a new one when the daemon closed it meanwhile.
#pragma once

#include <chrono>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/fd.h"

namespace casa::cli {

struct Response {
  unsigned status = 0;
  std::string body;
};

class HttpClient {
 public:
  explicit HttpClient(std::string socket_path, std::chrono::milliseconds timeout = std::chrono::seconds(10));
  ~HttpClient();

  // An Error says what to do when nobody answers.
  Result<Response> get(const std::string& target);

 private:
  struct Connection;
  Status connect();
  Result<Response> exchange(const std::string& target);

  std::string socket_path_;
  std::chrono::milliseconds timeout_;
  std::unique_ptr<Connection> connection_;
};

// A connected socket. An Error says what to do when nobody answers.
Result<Fd> connect_to_daemon(const std::string& socket_path, std::chrono::milliseconds timeout);

// "/v1/flows?limit=10&verdict=DENIED": parameters with an empty value are left out, the others percent-encoded.
std::string make_target(std::string_view path, const std::vector<std::pair<std::string_view, std::string>>& parameters);

}  // namespace casa::cli

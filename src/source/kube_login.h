// What the connections to one API server share: where it is, what they log in with, when it was last heard. One thread.
#pragma once

#include <boost/asio/ssl/context.hpp>
#include <chrono>
#include <optional>
#include <string>
#include <vector>

#include "base/ip.h"
#include "source/kube_access.h"

namespace casa::source {

class KubeLogin {
 public:
  using Clock = std::chrono::steady_clock;

  KubeLogin(KubeAccess access, std::chrono::milliseconds token_period);

  [[nodiscard]] const Location& server() const { return access_.server; }
  // The name that the server's certificate must have.
  [[nodiscard]] const std::string& name() const;
  [[nodiscard]] const std::vector<IpAddress>& addresses() const { return addresses_; }
  void set_addresses(std::vector<IpAddress> addresses) { addresses_ = std::move(addresses); }

  // Trust, and the client's certificate. Files are read again each time.
  Status prepare(boost::asio::ssl::context& context) const;

  // "Bearer ...", or empty. Reads the token's file when the last reading is older than token_period; while the file cannot be read, the
  // last token is used on.
  Result<std::string> authorization();
  // The server did not accept what authorization() had returned. True: it is another one now, perhaps as the token's file has been read again.
  bool renewed(const std::string& refused);

  void heard() {
    contact_ = Clock::now();
    contact_time_ = std::chrono::system_clock::now();
  }
  [[nodiscard]] std::optional<Clock::time_point> last_contact() const { return contact_; }
  [[nodiscard]] std::optional<std::chrono::system_clock::time_point> last_contact_time() const { return contact_time_; }

 private:
  Status read_token();

  const KubeAccess access_;
  const std::chrono::milliseconds token_period_;
  std::vector<IpAddress> addresses_;
  std::string token_;
  std::optional<Clock::time_point> token_read_, contact_;
  std::optional<std::chrono::system_clock::time_point> contact_time_;
};

}  // namespace casa::source

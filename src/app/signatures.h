// The check of signatures (tokens.signature in the config), off unless it is asked for: tokens from the kernel to the verifier, keys from
// their source to it, verdicts back. Owns nothing of the kernel's; the daemon tells it the time, and the addresses of its key server.
#pragma once

#include <boost/asio/io_context.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/steady_timer.hpp>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "app/config.h"
#include "datapath/datapath.h"
#include "jwt/key_source.h"
#include "jwt/verifier.h"

namespace casa::app {

class Signatures {
 public:
  struct Hooks {
    std::function<void(const jwt::Verdict&)> on_verdict;         // the kernel knows it already
    std::function<void(const std::string& problem)> on_problem;  // empty: well again
  };

  // `datapath` must outlive this, and have raw_tokens().
  Signatures(boost::asio::io_context& io, const SignatureConfig& config, datapath::Datapath& datapath, Hooks hooks);
  ~Signatures();

  // kInvalidArgument when the config does not say where the keys are.
  Status start();
  // Nothing is handed over any more.
  void stop();
  // The DNS name of the key server; empty: there is none.
  [[nodiscard]] std::string host() const;
  void set_addresses(const std::vector<IpAddress>& addresses);
  void every_second();

 private:
  void on_keys(std::shared_ptr<const jwt::KeySet> keys);
  void on_verdict(const jwt::Verdict& verdict);
  void on_source_problem(const std::string& problem);
  void wait_for_tokens();
  void drain();
  void wipe_soon();
  void tell_problem();

  boost::asio::io_context& io_;
  const SignatureConfig config_;
  datapath::Datapath& datapath_;
  const Hooks hooks_;
  Location location_;
  std::unique_ptr<jwt::KeySource> source_;
  std::unique_ptr<jwt::Verifier> verifier_;
  boost::asio::posix::stream_descriptor ring_;
  boost::asio::steady_timer wipe_timer_;
  datapath::RawTokens::Handler offer_;
  std::string source_problem_ = "no keys were read yet", kernel_problem_;
  bool has_keys_ = false, wipe_pending_ = false, stopped_ = false;
};

// No core dump of this process, and no other process of this user looks into it: it holds tokens from now on.
Status keep_memory_private();

}  // namespace casa::app

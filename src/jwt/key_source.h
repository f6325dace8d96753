// Brings the key set from where it is, and again when it changes. What cannot be read changes nothing: the last good keys stay, and the
// problem is told in a sentence. Everything happens on the io_context's one thread. Names are not looked up here: whoever owns the source
// tells it the addresses of its host (getaddrinfo has no place in a static binary).
#pragma once

#include <boost/asio/io_context.hpp>
#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/ip.h"
#include "base/location.h"
#include "jwt/key_set.h"

namespace casa::jwt {

// The defaults are what casad runs with; tests shorten the waits.
struct KeySourceOptions {
  std::string ca_file;                            // PEM; empty: the system's certificate authorities
  std::chrono::milliseconds refresh{300'000};     // of a URL, while it is well
  std::chrono::milliseconds first_retry{2000};    // after a failure; doubled with each, up to refresh
  std::chrono::milliseconds least_pause{10'000};  // between two answers, however often newer keys are asked for
  std::chrono::milliseconds timeout{10'000};      // of one answer, all of it
  std::chrono::milliseconds file_period{2000};    // a file is looked at so often
};

class KeySource {
 public:
  // Good keys, also when they are the same as before.
  using OnKeys = std::function<void(std::shared_ptr<const KeySet>)>;
  // Empty: well again.
  using OnProblem = std::function<void(const std::string&)>;

  // The callbacks come from the executor only, never from within a call.
  static std::unique_ptr<KeySource> make(boost::asio::io_context& io, const Location& location, OnKeys on_keys,
                                         OnProblem on_problem, KeySourceOptions options = {});
  virtual ~KeySource() = default;

  virtual void start() = 0;
  // No callback after it.
  virtual void stop() = 0;
  // A token names a key that is not there: perhaps there are newer ones.
  virtual void ask_for_newer() {}
  // Of the host, when location.needs_name().
  virtual void set_addresses(const std::vector<IpAddress>& /*addresses*/) {}
};

std::unique_ptr<KeySource> make_key_file(boost::asio::io_context& io, const Location& location,
                                         KeySource::OnKeys on_keys, KeySource::OnProblem on_problem,
                                         const KeySourceOptions& options);
std::unique_ptr<KeySource> make_key_url(boost::asio::io_context& io, const Location& location,
                                        KeySource::OnKeys on_keys, KeySource::OnProblem on_problem,
                                        const KeySourceOptions& options);

}  // namespace casa::jwt

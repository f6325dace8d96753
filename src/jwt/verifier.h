// Checks each token once per set of keys, on a thread of its own, so that the event path never waits for a signature. Tokens lie in a fixed
// room that is locked into memory and in no core dump, and are wiped as soon as they are checked; only hashes are kept. All calls and
// callbacks belong to the io_context's thread.
#pragma once

#include <array>
#include <boost/asio/io_context.hpp>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "casa/abi/limits.h"
#include "casa/abi/token.h"
#include "jwt/key_set.h"

namespace casa::jwt {

using Sha256 = std::array<unsigned char, CASA_SHA256_LEN>;

// CASA_SIGNATURE_UNVERIFIED: what was found before does not hold any more, and the next sighting is to be offered again.
struct Verdict {
  Sha256 sha256{};
  casa_signature signature = CASA_SIGNATURE_UNVERIFIED;
  std::optional<std::int64_t> expires;  // VALID: Unix second from which it counts as EXPIRED
  std::string why;                      // a sentence without anything of the token
};

struct VerifierOptions {
  std::size_t queue = 256;                   // tokens that wait
  std::size_t remembered = CASA_MAX_TOKENS;  // hashes
  std::function<std::int64_t()> now;         // Unix seconds; empty: the system's clock
};

struct VerifierCounts {
  std::uint64_t checked = 0, not_queued = 0, mismatched = 0;
};

class Verifier {
 public:
  using OnVerdict = std::function<void(const Verdict&)>;

  Verifier(boost::asio::io_context& io, OnVerdict on_verdict, VerifierOptions options = {});
  ~Verifier();
  Verifier(const Verifier&) = delete;
  Verifier& operator=(const Verifier&) = delete;

  // Takes back, by callbacks from within the call, what the new keys might find otherwise. The same keys change nothing.
  void set_keys(std::shared_ptr<const KeySet> keys);
  // A sighting of a token whose state the kernel does not know. False: not taken, as there are no keys yet, no room in the queue, or it is
  // too long; it may be offered again. `sha256` is over `token`; a token that is another has no verdict.
  bool offer(const Sha256& sha256, std::string_view token);
  // To be called every second: takes back what was too early and is not any more.
  void every_second();
  [[nodiscard]] const VerifierCounts& counts() const;
  // No callback after it; the room is wiped.
  void stop();

 private:
  class Impl;
  std::shared_ptr<Impl> impl_;  // shared with results under way
};

}  // namespace casa::jwt

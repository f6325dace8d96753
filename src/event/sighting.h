// A token as the daemon speaks of it: one request that carried it, with names instead of numbers; and what a connection
// speaks. Owned values. The token itself is in none of them: only its SHA-256.
#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "casa/abi/token.h"
#include "event/flow.h"
#include "event/token_class.h"

namespace casa::event {

using Sha256 = std::array<std::uint8_t, CASA_SHA256_LEN>;
std::string to_hex(const Sha256& hash);
// 64 digits in either case; nullopt for anything else.
std::optional<Sha256> parse_sha256(std::string_view hex);

struct Instance {
  std::uint64_t cgroup_id = 0;              // 0: not known
  std::shared_ptr<const std::string> path;  // below the cgroup2 mount; null: not known (yet)
};

struct Sighting {
  Flow flow;  // who, to whom, and what became of the request; last_seen is when; it has no counters
  Instance instance;
  Sha256 sha256{};
  std::uint32_t length = 0;   // of the token, bytes
  std::uint32_t request = 0;  // on its connection: number, or HTTP/2 stream
  casa_token_shape shape = CASA_TOKEN_NONE;
  bool alg_none = false, duplicate = false, known = false;  // CASA_TOKEN_* flags
  casa_app app = CASA_APP_UNKNOWN;
  casa_via via = CASA_VIA_WIRE;
  casa_signature signature = CASA_SIGNATURE_UNVERIFIED;
  EventClass event = EventClass::kNone;
  std::string method, path;  // path: its class, see path_class()

  // There is a hash, so there is a row of the ledger.
  [[nodiscard]] bool is_token() const { return shape == CASA_TOKEN_JWT || shape == CASA_TOKEN_OPAQUE; }
  [[nodiscard]] bool refused() const { return flow.verdict == CASA_DENIED; }
};

// What a connection speaks, or why it is not read (any more).
struct AppNews {
  Flow flow;
  Instance instance;
  casa_app app = CASA_APP_UNKNOWN;
  casa_via via = CASA_VIA_WIRE;
  casa_unread unread = CASA_UNREAD_NOTHING;
};

// Words of the API. Empty for what is not known or nothing.
const char* to_string(casa_app app);              // http, http2, tls, other
const char* to_string(casa_via via);              // wire, tls
const char* to_string(casa_token_shape shape);    // jwt, opaque-bearer, unhashed
const char* to_string(casa_unread unread);        // start, opaque, truncated, ambiguous
const char* to_string(casa_signature signature);  // unverified, valid, invalid, expired, unknown_key

// The workload whose kernel hooks saw it: the caller of an egress flow, the callee of an ingress one.
inline const Party& subject_of(const Flow& flow) {
  return flow.direction == CASA_EGRESS ? flow.source : flow.destination;
}

}  // namespace casa::event

// What a token's signature is worth under a key set, at a time. Pure.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "casa/abi/token.h"
#include "jwt/key_set.h"

namespace casa::jwt {

// Clocks may differ by so much.
inline constexpr std::int64_t kLeewaySeconds = 60;

struct Finding {
  casa_signature signature = CASA_SIGNATURE_UNVERIFIED;
  std::string why;                         // a sentence without anything of the token, for VALID empty
  std::optional<std::int64_t> expires;     // VALID: Unix second from which it is EXPIRED, leeway included
  std::optional<std::int64_t> valid_from;  // EXPIRED because it is too early: from when on it is not
  std::optional<Fingerprint> key;          // that the signature is good under
  bool other_keys_may_differ = false;      // another key set may find otherwise
};

// The type of the key decides what is checked, never the token alone: `alg` must be that of a key which the set has for it. RS256, ES256
// and EdDSA (Ed25519).
Finding check_token(std::string_view token, const KeySet& keys, std::int64_t now);

}  // namespace casa::jwt

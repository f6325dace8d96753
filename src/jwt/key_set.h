// The public keys of a JSON Web Key Set (RFC 7517): RSA, EC P-256 and Ed25519. Pure. What casad cannot use, or must not, is left out with
// a note; a set of which nothing is left is an error, so that whoever has a good one keeps it.
#pragma once

#include <openssl/evp.h>

#include <array>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "jwt/token.h"

namespace casa::jwt {

inline constexpr std::size_t kMaxKeySetBytes = 1u << 20;
inline constexpr std::size_t kMaxKeys = 256;

using Fingerprint = std::array<unsigned char, 32>;  // SHA-256 over the DER form of the public key

struct KeyFree {
  void operator()(EVP_PKEY* key) const { EVP_PKEY_free(key); }
};
using KeyPtr = std::unique_ptr<EVP_PKEY, KeyFree>;

struct Key {
  std::string id;  // kid; empty: none
  Algorithm algorithm{};
  KeyPtr key;
  Fingerprint fingerprint{};
};

struct KeySet {
  std::vector<Key> keys;           // by algorithm, id, fingerprint; none twice
  std::vector<std::string> notes;  // what was left out, a sentence each

  [[nodiscard]] bool has(const Fingerprint& fingerprint) const;
  // Whether the same keys are in both.
  [[nodiscard]] bool same_keys(const KeySet& other) const;
};

Result<KeySet> parse_key_set(std::string_view json);

}  // namespace casa::jwt

// A compact JWT (RFC 7519, signed: RFC 7515), read strictly: whatever two readers could read in two ways is an error. Pure. Nothing of the
// token stands in an error.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "base/error.h"
#include "casa/abi/limits.h"
#include "jwt/secret.h"

namespace casa::jwt {

inline constexpr std::size_t kMaxTokenBytes = CASA_TOKEN_MAX;

enum class Algorithm : std::uint8_t {
  kRs256,
  kEs256,
  kEdDsa,
  kNone,   // not signed at all
  kHmac,   // HS256, HS384, HS512: whoever can check it can make it
  kOther,  // a signature that casad does not check
};

struct Token {
  Algorithm algorithm = Algorithm::kOther;
  std::optional<std::string> key_id;
  std::string_view signed_part;  // into the text that was parsed
  SecretBytes signature;
  std::optional<std::int64_t> expires, not_before;  // Unix seconds, cut to what 53 bits hold
};

Result<Token> parse_token(std::string_view text);

}  // namespace casa::jwt

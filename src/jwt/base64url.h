// base64url without padding (RFC 7515, section 2), in its one canonical form: what two readers could read in two ways is an error.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

#include "jwt/secret.h"

namespace casa::jwt {

// nullopt for anything but the alphabet, for a length that no bytes have, and for bits behind the last byte. `room` is how much
// capacity the result has behind its bytes, for parsers that read past their input.
std::optional<SecretBytes> decode_base64url(std::string_view text, std::size_t room = 0);

}  // namespace casa::jwt

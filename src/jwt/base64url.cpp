#include "jwt/base64url.h"

#include <cstdint>

namespace casa::jwt {
namespace {

int value_of(char c) {
  if (c >= 'A' && c <= 'Z') return c - 'A';
  if (c >= 'a' && c <= 'z') return c - 'a' + 26;
  if (c >= '0' && c <= '9') return c - '0' + 52;
  if (c == '-') return 62;
  return c == '_' ? 63 : -1;
}

}  // namespace

std::optional<SecretBytes> decode_base64url(std::string_view text, std::size_t room) {
  if (text.size() % 4 == 1) return std::nullopt;
  SecretBytes bytes(text.size() / 4 * 3 + 3 + room);
  std::uint32_t held = 0;
  unsigned bits = 0;
  for (char c : text) {
    int value = value_of(c);
    if (value < 0) return std::nullopt;
    held = held << 6 | static_cast<std::uint32_t>(value);
    bits += 6;
    if (bits >= 8) {
      bits -= 8;
      bytes.append(static_cast<unsigned char>(held >> bits));
      held &= (1u << bits) - 1;
    }
  }
  if (held != 0) return std::nullopt;
  return bytes;
}

}  // namespace casa::jwt

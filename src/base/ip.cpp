#include "base/ip.h"

#include <arpa/inet.h>
#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cstring>

namespace casa {
namespace {
constexpr std::array<std::uint8_t, 12> kV4Mapped{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};

bool same_bits(const IpAddress& a, const IpAddress& b, unsigned bits) {
  unsigned whole = bits / 8;
  if (std::memcmp(a.bytes.data(), b.bytes.data(), whole) != 0) return false;
  unsigned rest = bits % 8;
  if (rest == 0) return true;
  auto mask = static_cast<std::uint8_t>(0xff00u >> rest);
  return ((a.bytes[whole] ^ b.bytes[whole]) & mask) == 0;
}
}  // namespace

bool IpAddress::is_v4() const { return std::equal(kV4Mapped.begin(), kV4Mapped.end(), bytes.begin()); }

bool IpAddress::is_loopback() const {
  if (is_v4()) return bytes[12] == 127;
  IpAddress one;
  one.bytes[15] = 1;
  return *this == one;
}

bool IpPrefix::contains(const IpAddress& ip) const { return same_bits(address, ip, length); }
bool IpPrefix::contains(const IpPrefix& other) const {
  return other.length >= length && same_bits(address, other.address, length);
}

std::optional<IpAddress> parse_ip(std::string_view text) {
  std::string copy(text);
  IpAddress ip;
  if (copy.find(':') == std::string::npos) {
    std::ranges::copy(kV4Mapped, ip.bytes.begin());
    if (inet_pton(AF_INET, copy.c_str(), ip.bytes.data() + 12) != 1) return std::nullopt;
  } else if (inet_pton(AF_INET6, copy.c_str(), ip.bytes.data()) != 1) {
    return std::nullopt;
  }
  return ip;
}

std::optional<IpPrefix> parse_prefix(std::string_view text) {
  auto slash = text.rfind('/');
  if (slash == std::string_view::npos) return std::nullopt;
  auto ip = parse_ip(text.substr(0, slash));
  auto digits = text.substr(slash + 1);
  unsigned length = 0;
  auto [end, ec] = std::from_chars(digits.data(), digits.data() + digits.size(), length);
  if (!ip || ec != std::errc{} || end != digits.data() + digits.size()) return std::nullopt;
  if (digits.size() > 1 && digits[0] == '0') return std::nullopt;
  bool dotted = text.find(':') == std::string_view::npos;
  if (length > (dotted ? 32u : 128u)) return std::nullopt;
  if (dotted) length += 96;
  IpAddress network = *ip;
  for (unsigned bit = length; bit < 128; ++bit)
    network.bytes[bit / 8] &= static_cast<std::uint8_t>(~(0x80u >> (bit % 8)));
  if (network != *ip) return std::nullopt;
  return IpPrefix{network, static_cast<std::uint8_t>(length)};
}

IpAddress make_ip(const void* sixteen_bytes) {
  IpAddress ip;
  std::memcpy(ip.bytes.data(), sixteen_bytes, 16);
  return ip;
}

std::string to_string(const IpAddress& ip) {
  char buffer[INET6_ADDRSTRLEN] = {};
  if (ip.is_v4()) {
    inet_ntop(AF_INET, ip.bytes.data() + 12, buffer, sizeof buffer);
  } else {
    inet_ntop(AF_INET6, ip.bytes.data(), buffer, sizeof buffer);
  }
  return buffer;
}

std::string with_port(const IpAddress& ip, std::uint16_t port) {
  return ip.is_v4() ? fmt::format("{}:{}", to_string(ip), port) : fmt::format("[{}]:{}", to_string(ip), port);
}

std::string to_string(const IpPrefix& prefix) {
  unsigned length = prefix.address.is_v4() && prefix.length >= 96 ? prefix.length - 96u : prefix.length;
  return fmt::format("{}/{}", to_string(prefix.address), length);
}

}  // namespace casa

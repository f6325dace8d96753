// Addresses and prefixes in the one form that every map key uses: 16 bytes, network order, IPv4 as ::ffff:a.b.c.d.
#pragma once

#include <array>
#include <compare>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace casa {

struct IpAddress {
  std::array<std::uint8_t, 16> bytes{};
  auto operator<=>(const IpAddress&) const = default;

  [[nodiscard]] bool is_v4() const;
  [[nodiscard]] bool is_loopback() const;  // 127.0.0.0/8 or ::1
};

struct IpPrefix {
  IpAddress address;          // bits past `length` are zero
  std::uint8_t length = 128;  // of the 128-bit form: an IPv4 /8 is 104
  auto operator<=>(const IpPrefix&) const = default;

  [[nodiscard]] bool contains(const IpAddress& ip) const;
  [[nodiscard]] bool contains(const IpPrefix& other) const;
};

// "10.0.0.1", "fd00::1" or "::ffff:10.0.0.1" (which is the IPv4 address); nullopt for anything else. No scope ids.
std::optional<IpAddress> parse_ip(std::string_view text);
// "10.0.0.0/8" or "fd00::/8"; the length is required, host bits must be zero.
std::optional<IpPrefix> parse_prefix(std::string_view text);
IpAddress make_ip(const void* sixteen_bytes);
std::string to_string(const IpAddress& ip);                      // IPv4 in dotted form
std::string with_port(const IpAddress& ip, std::uint16_t port);  // 10.0.0.1:80, [fd00::1]:80
std::string to_string(const IpPrefix& prefix);                   // IPv4 lengths as usual (/8, not /104)

}  // namespace casa

// What resolv.conf says, as values: resolv.conf(5) as glibc reads it, except that every name server is kept, not the first
// three. Pure and fuzzed: any text gives a result. A line that says nothing known is passed over without a word, as
// every resolver does.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "base/ip.h"

namespace casa::dns {

// A text is read so far, a list is kept so long; what comes after is passed over.
inline constexpr std::size_t kMaxResolvConfBytes = 64u << 10;
inline constexpr std::size_t kMaxNameservers = 32;
inline constexpr std::size_t kMaxSearchDomains = 32;
inline constexpr unsigned kMaxNdots = 15;

struct Nameserver {
  IpAddress address;
  std::uint16_t port = 53;
  auto operator<=>(const Nameserver&) const = default;
};
std::string to_string(const Nameserver& server);  // the port only where it is not 53

struct ResolvConf {
  std::vector<Nameserver> nameservers;  // in the order of the file, each once
  std::vector<std::string> search;      // lower case, without the last dot
  unsigned ndots = 1;
  bool operator==(const ResolvConf&) const = default;
};

// A name server with a scope ("fe80::1%eth0") is passed over, too: an address alone cannot say where it is.
ResolvConf parse_resolv_conf(std::string_view text);

// "10.0.0.2", "10.0.0.2:5353", "fd00::2" or "[fd00::2]:5353".
Result<Nameserver> parse_nameserver(std::string_view text);

}  // namespace casa::dns

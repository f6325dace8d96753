// One generation as the kernel will hold it: plain sorted tables, each row a key and a 32-bit payload in the words of
// casa/abi/policy.h. Pure data; equal inputs give equal images, so that golden tests and the digest mean something.
#pragma once

#include <compare>
#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "base/ip.h"
#include "casa/abi/policy.h"

namespace casa::compile {

struct PolicyKey {
  std::uint32_t subject = 0, peer = 0;
  casa_direction direction = CASA_EGRESS;
  std::uint8_t protocol = 0;
  std::uint16_t port = 0;
  auto operator<=>(const PolicyKey&) const = default;
};

// A DNS name that a workload's policy needs, lower case, without a dot in front or behind.
struct NameKey {
  std::uint32_t subject = 0;
  std::string name;
  auto operator<=>(const NameKey&) const = default;
};

struct ResolverKey {
  IpAddress address;
  std::uint16_t port = 53;
  auto operator<=>(const ResolverKey&) const = default;
};

struct MapImage {
  std::map<std::string, std::uint32_t> cgroup_paths;  // below the enforcement root
  std::map<std::uint64_t, std::uint32_t> cgroups;     // ids of those that exist now
  std::map<std::uint32_t, std::uint32_t> subjects;
  std::map<PolicyKey, std::uint32_t> policy;
  std::map<IpAddress, std::uint32_t> addresses;
  std::map<IpPrefix, std::uint32_t> prefixes;
  std::map<NameKey, std::uint32_t> names;
  std::map<ResolverKey, std::uint32_t> resolvers;
  unsigned level_min = 1, level_max = 1;  // below the enforcement root
};

// Which rows of an image may differ from those of the image before it.
struct Touched {
  std::set<IpAddress> addresses;
  std::set<std::string> cgroup_paths;
  std::set<std::uint64_t> cgroups;
  bool others = false;  // any row of the tables that are not listed here
  [[nodiscard]] bool empty() const;
};

// SHA-256 over what the policy means (cgroup ids, which differ from node to node, are left out), hex.
std::string digest(const MapImage& image);

// One row a line, sorted, for golden tests and people.
std::string to_text(const MapImage& image);

}  // namespace casa::compile

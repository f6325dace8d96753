#include "datapath/tables.h"

#include <bpf/libbpf.h>

#include <algorithm>
#include <cstring>

namespace casa::datapath {
namespace {

using compile::MapImage;
using compile::NameKey;
using compile::PolicyKey;
using compile::ResolverKey;

casa_policy_key encode_policy(const PolicyKey& k) {
  return {k.subject, k.peer, k.port, k.protocol, static_cast<casa_u8>(k.direction)};
}
PolicyKey decode_policy(const casa_policy_key& k) {
  return {k.subject, k.peer, static_cast<casa_direction>(k.direction), k.protocol, k.port};
}

casa_addr_key encode_address(const IpAddress& ip) {
  casa_addr_key key{};
  std::memcpy(key.address, ip.bytes.data(), 16);
  return key;
}
IpAddress decode_address(const casa_addr_key& key) { return make_ip(key.address); }

casa_lpm_key encode_prefix(const IpPrefix& p) {
  casa_lpm_key key{};
  key.prefix_bits = p.length;
  std::memcpy(key.address, p.address.bytes.data(), 16);
  return key;
}
IpPrefix decode_prefix(const casa_lpm_key& key) {
  return {make_ip(key.address), static_cast<std::uint8_t>(key.prefix_bits)};
}

// What an address in `prefix` would find without it.
std::uint32_t shorter_prefix(const std::map<IpPrefix, std::uint32_t>& image, const IpPrefix& prefix) {
  std::uint32_t payload = 0;
  int longest = -1;
  for (const auto& [other, identity] : image) {
    if (other == prefix || other.length <= longest || !other.contains(prefix)) continue;
    longest = other.length;
    payload = identity;
  }
  return payload;
}

template <typename T>
T same(const T& value) {
  return value;
}

casa_cgpath_key encode_path(const std::string& path) {
  casa_cgpath_key key{};
  std::memcpy(key.path, path.data(), std::min<std::size_t>(path.size(), sizeof key.path - 1));
  return key;
}
std::string decode_path(const casa_cgpath_key& key) { return {key.path, ::strnlen(key.path, sizeof key.path)}; }

}  // namespace

casa_name_key encode_name(const NameKey& k) {
  casa_name_key key{};
  key.subject = k.subject;
  key.name[0] = '.';
  std::memcpy(key.name + 1, k.name.data(), std::min<std::size_t>(k.name.size(), sizeof key.name - 2));
  return key;
}
NameKey decode_name(const casa_name_key& key) {
  return {key.subject, std::string(key.name + 1, ::strnlen(key.name + 1, sizeof key.name - 1))};
}

casa_resolver_key encode_resolver(const ResolverKey& k) {
  casa_resolver_key key{};
  std::memcpy(key.address, k.address.bytes.data(), 16);
  key.port = k.port;
  return key;
}
ResolverKey decode_resolver(const casa_resolver_key& key) { return {make_ip(key.address), key.port}; }

void Tables::bind(const EnforceObject& enforce, const WatchObject& watch) {
  const auto& maps = enforce->maps;
  has_paths_ = static_cast<bool>(watch);
  if (watch) paths_ = {{bpf_map__fd(watch->maps.casa_cgpath), "casa_cgpath"}, encode_path, decode_path};
  cgroups_ = {{bpf_map__fd(maps.casa_cgroup), "casa_cgroup"}, same<std::uint64_t>, same<std::uint64_t>};
  subjects_ = {{bpf_map__fd(maps.casa_subject), "casa_subject"}, same<std::uint32_t>, same<std::uint32_t>};
  policy_ = {{bpf_map__fd(maps.casa_policy), "casa_policy"}, encode_policy, decode_policy};
  addresses_ = {{bpf_map__fd(maps.casa_addr), "casa_addr"}, encode_address, decode_address};
  prefixes_ = {{bpf_map__fd(maps.casa_lpm), "casa_lpm"}, encode_prefix, decode_prefix, shorter_prefix};
  names_ = {{bpf_map__fd(maps.casa_name), "casa_name"}, encode_name, decode_name};
  resolvers_ = {{bpf_map__fd(maps.casa_resolver), "casa_resolver"}, encode_resolver, decode_resolver};
  auto size = [](const bpf_map* map) { return static_cast<std::size_t>(bpf_map__max_entries(map)); };
  limits_ = {size(maps.casa_cgroup), size(maps.casa_subject), size(maps.casa_policy),
             size(maps.casa_addr),   size(maps.casa_lpm),     size(maps.casa_name)};
}

template <typename Self, typename Visit>
Status Tables::each(Self& self, Visit visit) {
  if (self.has_paths_) TRY(visit(self.paths_, &MapImage::cgroup_paths, "casa_cgpath", self.limits_.cgroups));
  TRY(visit(self.cgroups_, &MapImage::cgroups, "casa_cgroup", self.limits_.cgroups));
  TRY(visit(self.subjects_, &MapImage::subjects, "casa_subject", self.limits_.subjects));
  TRY(visit(self.policy_, &MapImage::policy, "casa_policy", self.limits_.policy));
  TRY(visit(self.addresses_, &MapImage::addresses, "casa_addr", self.limits_.addresses));
  TRY(visit(self.prefixes_, &MapImage::prefixes, "casa_lpm", self.limits_.prefixes));
  TRY(visit(self.names_, &MapImage::names, "casa_name", self.limits_.names));
  return visit(self.resolvers_, &MapImage::resolvers, "casa_resolver", std::size_t{CASA_MAX_RESOLVERS});
}

Status Tables::adopt(std::uint32_t generation) {
  return each(*this, [&](auto& table, auto, const char*, std::size_t) { return table.adopt(generation); });
}

bool Tables::differs(const MapImage& next, std::uint32_t generation) {
  sync_cgroups(next, generation);
  bool different = false;
  (void)each(*this, [&](auto& table, auto member, const char*, std::size_t) -> Status {
    different = different || table.differs(next.*member);
    return {};
  });
  return different;
}

// The kernel enters and removes cgroups by itself; what it did is no difference.
void Tables::sync_cgroups(const MapImage& next, std::uint32_t generation) {
  auto payload = [&](std::uint64_t id) {
    auto value = cgroups_.map().get(id);
    return value ? (value->since <= generation ? value->cur : value->prev) : 0u;
  };
  std::vector<std::uint64_t> ids;
  for (const auto& [id, wanted] : next.cgroups)
    if (!cgroups_.applied().contains(id)) ids.push_back(id);
  for (const auto& [id, applied] : cgroups_.applied())
    if (!next.cgroups.contains(id)) ids.push_back(id);
  for (auto id : ids) cgroups_.note(id, payload(id));
}

Status Tables::check_room(const MapImage& next) {
  return each(*this, [&](auto& table, auto member, const char* name, std::size_t capacity) -> Status {
    std::size_t needed = table.size_while_staged(next.*member);
    if (needed <= capacity) return {};
    return fail(ErrorCode::kLimit,
                "kernel map {} holds {} entries; old and new generation together need {} for a moment", name, capacity,
                needed);
  });
}

Status Tables::stage(const MapImage& next, std::uint32_t target) {
  return each(*this,
              [&](auto& table, auto member, const char*, std::size_t) { return table.stage(next.*member, target); });
}

void Tables::revert(std::uint32_t generation) {
  (void)each(*this, [&](auto& table, auto, const char*, std::size_t) -> Status {
    (void)table.revert(generation);
    return {};
  });
}

// What could not be deleted means nothing in the new generation; the next adoption removes it.
void Tables::clean(const MapImage& next) {
  (void)each(*this, [&](auto& table, auto member, const char*, std::size_t) -> Status {
    (void)table.clean(next.*member);
    return {};
  });
}

std::vector<MapUse> Tables::use() const {
  std::vector<MapUse> uses;
  (void)each(*this, [&](const auto& table, auto, const char* name, std::size_t capacity) -> Status {
    uses.push_back({name, table.size(), capacity});
    return {};
  });
  return uses;
}

}  // namespace casa::datapath

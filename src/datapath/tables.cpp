#include "datapath/tables.h"

#include <bpf/libbpf.h>

#include <algorithm>
#include <cstring>

namespace casa::datapath {
namespace {

using compile::Limits;
using compile::MapImage;
using compile::NameKey;
using compile::PolicyKey;
using compile::ResolverKey;
using compile::Touched;

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

// Where a table has its rows in an image, and in Touched the names of those that may differ (or whether any may).
template <typename Image, typename Names>
struct Place {
  Image MapImage::* rows;
  Names Touched::* touched;
  const char* map;
  std::size_t capacity;
};

// The names of the rows of a table that may differ; null: any may.
template <typename Table, typename Names>
const typename Table::Names* may_differ(const Table&, const Names& touched) {
  static const typename Table::Names kNone;
  if constexpr (std::is_same_v<Names, bool>) return touched ? nullptr : &kNone;
  else return &touched;
}

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

casa_cgpath_key encode_path(const std::string& root, const std::string& path) {
  std::string name = path.starts_with('/') ? path : root + "/" + path;
  casa_cgpath_key key{};
  std::memcpy(key.path, name.data(), std::min<std::size_t>(name.size(), sizeof key.path - 1));
  return key;
}
std::string decode_path(const std::string& root, const casa_cgpath_key& key) {
  std::string name(key.path, ::strnlen(key.path, sizeof key.path));
  return name.starts_with(root + "/") ? name.substr(root.size() + 1) : name;
}

casa_resolver_key encode_resolver(const ResolverKey& k) {
  casa_resolver_key key{};
  std::memcpy(key.address, k.address.bytes.data(), 16);
  key.port = k.port;
  return key;
}
ResolverKey decode_resolver(const casa_resolver_key& key) { return {make_ip(key.address), key.port}; }

void Tables::bind(const EnforceObject& enforce, const WatchObject& watch, const std::string& root) {
  const auto& maps = enforce->maps;
  has_paths_ = static_cast<bool>(watch);
  if (watch)
    paths_ = {{bpf_map__fd(watch->maps.casa_cgpath), "casa_cgpath"},
              [root](const std::string& path) { return encode_path(root, path); },
              [root](const casa_cgpath_key& key) { return decode_path(root, key); }};
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
  const Limits& limits = self.limits_;
  if (self.has_paths_)
    TRY(visit(self.paths_, Place{&MapImage::cgroup_paths, &Touched::cgroup_paths, "casa_cgpath", limits.cgroups}));
  TRY(visit(self.cgroups_, Place{&MapImage::cgroups, &Touched::cgroups, "casa_cgroup", limits.cgroups}));
  TRY(visit(self.subjects_, Place{&MapImage::subjects, &Touched::others, "casa_subject", limits.subjects}));
  TRY(visit(self.policy_, Place{&MapImage::policy, &Touched::others, "casa_policy", limits.policy}));
  TRY(visit(self.addresses_, Place{&MapImage::addresses, &Touched::addresses, "casa_addr", limits.addresses}));
  TRY(visit(self.prefixes_, Place{&MapImage::prefixes, &Touched::others, "casa_lpm", limits.prefixes}));
  TRY(visit(self.names_, Place{&MapImage::names, &Touched::others, "casa_name", limits.names}));
  return visit(self.resolvers_,
               Place{&MapImage::resolvers, &Touched::others, "casa_resolver", std::size_t{CASA_MAX_RESOLVERS}});
}

Status Tables::adopt(std::uint32_t generation) {
  return each(*this, [&](auto& table, const auto&) { return table.adopt(generation); });
}

bool Tables::compare(const MapImage& next, const Touched* touched, std::uint32_t generation) {
  (void)each(*this, [&](auto& table, const auto& place) -> Status {
    table.compare(next.*place.rows, touched != nullptr ? may_differ(table, touched->*place.touched) : nullptr);
    return {};
  });
  cgroups_.look_at_kernel(generation);
  bool different = false;
  (void)each(*this, [&](auto& table, const auto&) -> Status {
    different = different || table.differs();
    return {};
  });
  return different;
}

bool Tables::follows(const MapImage& next, const Touched& touched) const {
  bool follows = true;
  (void)each(*this, [&](const auto& table, const auto& place) -> Status {
    follows = follows && table.follows(next.*place.rows, may_differ(table, touched.*place.touched));
    return {};
  });
  return follows;
}

Status Tables::check_room() const {
  return each(*this, [&](const auto& table, const auto& place) -> Status {
    std::size_t needed = table.size_while_staged();
    if (needed <= place.capacity) return {};
    return fail(ErrorCode::kLimit,
                "kernel map {} holds {} entries; old and new generation together need {} for a moment", place.map,
                place.capacity, needed);
  });
}

Status Tables::stage(const MapImage& next, std::uint32_t target) {
  return each(*this, [&](auto& table, const auto& place) { return table.stage(next.*place.rows, target); });
}

void Tables::revert(std::uint32_t generation) {
  (void)each(*this, [&](auto& table, const auto&) -> Status {
    (void)table.revert(generation);
    return {};
  });
}

// What could not be deleted means nothing in the new generation; the next adoption removes it.
void Tables::clean() {
  (void)each(*this, [](auto& table, const auto&) -> Status {
    (void)table.clean();
    return {};
  });
}

std::vector<MapUse> Tables::use() const {
  std::vector<MapUse> uses;
  (void)each(*this, [&](const auto& table, const auto& place) -> Status {
    uses.push_back({place.map, table.size(), place.capacity});
    return {};
  });
  return uses;
}

}  // namespace casa::datapath

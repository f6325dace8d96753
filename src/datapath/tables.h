// All the tables of a generation, brought in together: staged beside the present ones, then cleaned up or reverted. The order is
// that of staging: paths come first, so that a cgroup made from then on is entered by the kernel with the right payload for
// both generations.
#pragma once

#include "compile/compile.h"
#include "compile/map_image.h"
#include "datapath/objects.h"
#include "datapath/staged_table.h"

namespace casa::datapath {

struct MapUse {
  std::string name;
  std::size_t used = 0, capacity = 0;
};

// Keys as the kernel's maps have them, and back. A name is at most compile::kMaxNameLength long.
casa_name_key encode_name(const compile::NameKey& name);
compile::NameKey decode_name(const casa_name_key& key);
casa_resolver_key encode_resolver(const compile::ResolverKey& resolver);
compile::ResolverKey decode_resolver(const casa_resolver_key& key);

class Tables {
 public:
  // `watch` is null where the kernel cannot load it: nobody reads paths then.
  void bind(const EnforceObject& enforce, const WatchObject& watch);

  // Reads what is in force under `generation`; undoes what a crash left staged.
  Status adopt(std::uint32_t generation);
  [[nodiscard]] bool differs(const compile::MapImage& next, std::uint32_t generation);
  // kLimit when old and new rows do not fit beside one another.
  [[nodiscard]] Status check_room(const compile::MapImage& next);
  Status stage(const compile::MapImage& next, std::uint32_t target);
  void revert(std::uint32_t generation);
  void clean(const compile::MapImage& next);

  [[nodiscard]] const compile::Limits& limits() const { return limits_; }  // real map sizes
  [[nodiscard]] std::vector<MapUse> use() const;
  // In force.
  [[nodiscard]] const std::map<std::uint64_t, std::uint32_t>& cgroups() const { return cgroups_.applied(); }
  [[nodiscard]] const std::map<std::uint32_t, std::uint32_t>& subjects() const { return subjects_.applied(); }

 private:
  // visit(table, member of MapImage, map name, capacity) for each table, in staging order; stops at the first error.
  template <typename Self, typename Visit>
  static Status each(Self& self, Visit visit);
  void sync_cgroups(const compile::MapImage& next, std::uint32_t generation);

  bool has_paths_ = false;
  compile::Limits limits_;
  StagedTable<std::string, casa_cgpath_key> paths_;
  StagedTable<std::uint64_t, std::uint64_t> cgroups_;
  StagedTable<std::uint32_t, std::uint32_t> subjects_;
  StagedTable<compile::PolicyKey, casa_policy_key> policy_;
  StagedTable<IpAddress, casa_addr_key> addresses_;
  StagedTable<IpPrefix, casa_lpm_key> prefixes_;
  StagedTable<compile::NameKey, casa_name_key> names_;
  StagedTable<compile::ResolverKey, casa_resolver_key> resolvers_;
};

}  // namespace casa::datapath

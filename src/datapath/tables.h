// All the tables of a generation, brought in together: compared, staged beside the present ones, then cleaned up or reverted. The order is
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
// `root` is the enforcement root as the kernel names it ("" or "/a/b"), `path` lies below it. A row elsewhere, of another root's time, keeps
// the kernel's name, and its slash in front.
casa_cgpath_key encode_path(const std::string& root, const std::string& path);
std::string decode_path(const std::string& root, const casa_cgpath_key& key);
casa_resolver_key encode_resolver(const compile::ResolverKey& resolver);
compile::ResolverKey decode_resolver(const casa_resolver_key& key);

class Tables {
 public:
  // `watch` is null where the kernel cannot load it: nobody reads paths then. `root`: see encode_path().
  void bind(const EnforceObject& enforce, const WatchObject& watch, const std::string& root);

  // Reads what is in force under `generation`; undoes what a crash left staged.
  Status adopt(std::uint32_t generation);
  // Finds what `next` changes, in the rows touched or (null) in all; false when nothing. The steps below are about these changes.
  bool compare(const compile::MapImage& next, const compile::Touched* touched, std::uint32_t generation);
  // False when `next` must differ in other rows than these too, by the number of rows.
  [[nodiscard]] bool follows(const compile::MapImage& next, const compile::Touched& touched) const;
  // kLimit when old and new rows do not fit beside one another.
  [[nodiscard]] Status check_room() const;
  Status stage(const compile::MapImage& next, std::uint32_t target);
  void revert(std::uint32_t generation);
  void clean();

  [[nodiscard]] const compile::Limits& limits() const { return limits_; }  // real map sizes
  [[nodiscard]] std::vector<MapUse> use() const;
  // In force.
  [[nodiscard]] const std::map<std::uint64_t, std::uint32_t>& cgroups() const { return cgroups_.applied(); }
  [[nodiscard]] const std::map<std::uint32_t, std::uint32_t>& subjects() const { return subjects_.applied(); }

 private:
  // visit(table, Place) for each table, in staging order; stops at the first error.
  template <typename Self, typename Visit>
  static Status each(Self& self, Visit visit);

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

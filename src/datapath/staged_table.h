// One table of a generation: what the kernel map holds under the generation in force, and how to bring in the next one
// without a moment in between (casa/abi/policy.h tells the rule of the two payloads). Stage all tables, switch once, then
// clean up; or revert.
#pragma once

#include <functional>
#include <map>
#include <utility>
#include <vector>

#include "casa/abi/policy.h"
#include "datapath/bpf_map.h"

namespace casa::datapath {

// Name: the key in the image; Key: the same in the map.
template <typename Name, typename Key>
class StagedTable {
 public:
  using Image = std::map<Name, std::uint32_t>;
  using Encode = std::function<Key(const Name&)>;
  using Decode = std::function<Name(const Key&)>;
  // The payload that a reader falls back to when `name` itself has none (longest prefix); nothing for exact maps.
  using Fallback = std::function<std::uint32_t(const Image&, const Name&)>;

  StagedTable() = default;
  StagedTable(BpfMap<Key, casa_versioned> map, Encode encode, Decode decode, Fallback fallback = {})
      : map_(map), encode_(std::move(encode)), decode_(std::move(decode)), fallback_(std::move(fallback)) {}

  // Reads what is in force under `generation` and undoes what a crash left staged for a later one.
  Status adopt(std::uint32_t generation) {
    std::vector<std::pair<Key, casa_versioned>> entries;
    map_.each([&](const Key& key, const casa_versioned& value) { entries.emplace_back(key, value); });
    applied_.clear();
    for (const auto& [key, value] : entries) {
      std::uint32_t payload = value.since <= generation ? value.cur : value.prev;
      if (payload == 0) {
        TRY(map_.erase(key));
        continue;
      }
      if (value.since > generation) TRY(map_.put(key, {generation, payload, payload}));
      applied_.emplace(decode_(key), payload);
    }
    return {};
  }

  [[nodiscard]] bool differs(const Image& next) const { return next != applied_; }
  [[nodiscard]] std::size_t size() const { return applied_.size(); }
  // Entries that the map holds between staging and cleaning.
  [[nodiscard]] std::size_t size_while_staged(const Image& next) const {
    std::size_t fresh = 0;
    for (const auto& [name, payload] : next) fresh += applied_.contains(name) ? 0 : 1;
    return applied_.size() + fresh;
  }

  Status stage(const Image& next, std::uint32_t generation) {
    staged_.clear();
    for (const auto& [name, payload] : next) {
      auto known = applied_.find(name);
      if (known != applied_.end() && known->second == payload) continue;
      std::uint32_t before = known != applied_.end() ? known->second : fallback(applied_, name);
      TRY(put(name, {generation, payload, before}));
    }
    for (const auto& [name, payload] : applied_)
      if (!next.contains(name)) TRY(put(name, {generation, fallback(next, name), payload}));
    return {};
  }

  // After the switch: what is gone is deleted. Errors leave dead rows behind, which the next adoption removes.
  Status clean(const Image& next) {
    Status result;
    for (const auto& [name, payload] : applied_) {
      if (next.contains(name)) continue;
      if (Status erased = map_.erase(encode_(name)); !erased) result = std::move(erased);
    }
    applied_ = next;
    staged_.clear();
    return result;
  }

  // Instead of the switch: everything is as before stage().
  Status revert(std::uint32_t generation) {
    Status result;
    for (const auto& name : staged_) {
      auto known = applied_.find(name);
      Status undone = known == applied_.end() ? map_.erase(encode_(name))
                                              : map_.put(encode_(name), {generation, known->second, known->second});
      if (!undone) result = std::move(undone);
    }
    staged_.clear();
    return result;
  }

  // The kernel wrote or removed this row by itself (cgroup_mkdir, cgroup_rmdir).
  void note(const Name& name, std::uint32_t payload) {
    if (payload == 0) applied_.erase(name);
    else applied_[name] = payload;
  }
  [[nodiscard]] const Image& applied() const { return applied_; }
  [[nodiscard]] const BpfMap<Key, casa_versioned>& map() const { return map_; }

 private:
  Status put(const Name& name, const casa_versioned& value) {
    staged_.push_back(name);
    return map_.put(encode_(name), value);
  }
  std::uint32_t fallback(const Image& image, const Name& name) const { return fallback_ ? fallback_(image, name) : 0; }

  BpfMap<Key, casa_versioned> map_;
  Encode encode_;
  Decode decode_;
  Fallback fallback_;
  Image applied_;
  std::vector<Name> staged_;
};

}  // namespace casa::datapath

// One table of a generation: what the kernel map holds under the generation in force, and how to bring in the next one
// without a moment in between (casa/abi/policy.h tells the rule of the two payloads). Compare, stage all tables, switch once,
// then clean up; or revert. Only rows that differ are written, here and in the map.
#pragma once

#include <algorithm>
#include <compare>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <span>
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
  using Names = std::set<Name>;
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
    forget_changes();
    for (const auto& [key, value] : entries) {
      std::uint32_t payload = seen(value, generation);
      if (payload == 0) {
        TRY(map_.erase(key));
        continue;
      }
      if (value.since > generation) TRY(map_.put(key, {generation, payload, payload}));
      applied_.emplace(decode_(key), payload);
    }
    return {};
  }

  // Finds what `next` changes, in the rows named or (null) in all; the steps below are about these changes.
  void compare(const Image& next, const Names* names = nullptr) {
    forget_changes();
    if (names != nullptr) {
      for (const Name& name : *names) note_change(name, find(applied_, name), find(next, name));
      return;
    }
    auto old_row = applied_.begin();
    auto new_row = next.begin();
    while (old_row != applied_.end() || new_row != next.end()) {
      std::strong_ordering order = old_row == applied_.end() ? std::strong_ordering::greater
                                   : new_row == next.end()   ? std::strong_ordering::less
                                                             : old_row->first <=> new_row->first;
      const Name& name = order <= 0 ? old_row->first : new_row->first;
      std::optional<std::uint32_t> before, after;
      if (order <= 0) before = (old_row++)->second;
      if (order >= 0) after = (new_row++)->second;
      note_change(name, before, after);
    }
  }
  // False when `next` must differ in rows that are not named: more or fewer are beside these.
  [[nodiscard]] bool follows(const Image& next, const Names* names) const {
    if (names == nullptr) return true;
    auto others = [&](const Image& image) {
      auto named = std::ranges::count_if(*names, [&](const Name& name) { return image.contains(name); });
      return image.size() - static_cast<std::size_t>(named);
    };
    return others(applied_) == others(next);
  }

  // For a table that the kernel writes by itself too (cgroup_mkdir, cgroup_rmdir): what it has done of the changes already is none.
  void look_at_kernel(std::uint32_t generation) {
    for (Change& change : changes_) {
      if (change.before.has_value() == change.after.has_value()) continue;
      auto value = map_.get(encode_(change.name));
      std::uint32_t payload = value ? seen(*value, generation) : 0;
      change.before = payload != 0 ? std::optional(payload) : std::nullopt;
      apply(change.name, change.before);
    }
    std::erase_if(changes_, [](const Change& change) { return change.before == change.after; });
  }

  [[nodiscard]] bool differs() const { return !changes_.empty(); }
  [[nodiscard]] std::size_t size() const { return applied_.size(); }
  // Entries that the map holds between staging and cleaning.
  [[nodiscard]] std::size_t size_while_staged() const {
    auto fresh = std::ranges::count_if(changes_, [](const Change& change) { return !change.before; });
    return applied_.size() + static_cast<std::size_t>(fresh);
  }

  // `next`: what was compared.
  Status stage(const Image& next, std::uint32_t generation) {
    for (const auto& [name, before, after] : changes_) {
      ++staged_;
      TRY(map_.put(encode_(name),
                   {generation, after ? *after : fallback(next, name), before ? *before : fallback(applied_, name)}));
    }
    return {};
  }

  // After the switch: what is gone is deleted. Errors leave dead rows behind, which the next adoption removes.
  Status clean() {
    Status result;
    for (const auto& [name, before, after] : changes_) {
      if (!after)
        if (Status erased = map_.erase(encode_(name)); !erased) result = std::move(erased);
      apply(name, after);
    }
    forget_changes();
    return result;
  }

  // Instead of the switch: everything is as before stage().
  Status revert(std::uint32_t generation) {
    Status result;
    for (const auto& [name, before, after] : std::span(changes_).first(staged_)) {
      Status undone = before ? map_.put(encode_(name), {generation, *before, *before}) : map_.erase(encode_(name));
      if (!undone) result = std::move(undone);
    }
    forget_changes();
    return result;
  }

  [[nodiscard]] const Image& applied() const { return applied_; }

 private:
  struct Change {
    Name name;
    std::optional<std::uint32_t> before, after;  // nothing: no row
  };

  static std::uint32_t seen(const casa_versioned& value, std::uint32_t generation) {
    return value.since <= generation ? value.cur : value.prev;
  }
  static std::optional<std::uint32_t> find(const Image& image, const Name& name) {
    auto row = image.find(name);
    return row != image.end() ? std::optional(row->second) : std::nullopt;
  }

  void note_change(const Name& name, std::optional<std::uint32_t> before, std::optional<std::uint32_t> after) {
    if (before != after) changes_.push_back({name, before, after});
  }
  // With their memory: a first generation is all changes.
  void forget_changes() {
    changes_ = {};
    staged_ = 0;
  }
  void apply(const Name& name, std::optional<std::uint32_t> payload) {
    if (payload) applied_[name] = *payload;
    else applied_.erase(name);
  }
  std::uint32_t fallback(const Image& image, const Name& name) const { return fallback_ ? fallback_(image, name) : 0; }

  BpfMap<Key, casa_versioned> map_;
  Encode encode_;
  Decode decode_;
  Fallback fallback_;
  Image applied_;
  std::vector<Change> changes_;
  std::size_t staged_ = 0;  // of changes_: written, or tried
};

}  // namespace casa::datapath

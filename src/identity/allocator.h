// Gives out the numbers that the kernel's maps speak: one for each workload, service, prefix and policy. A number is the
// hash of its name where that is free, so it stays the same on every node and after every restart; collisions go to the
// next free number and are remembered in a file, for sockets that outlive the daemon still carry the old numbers.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/error.h"
#include "policy/objects.h"

namespace casa::identity {

enum class NameKind : std::uint8_t { kWorkload, kUndeclared, kService, kPrefix, kPolicy, kFqdn };

class Allocator {
 public:
  // Identities: CASA_ID_FIRST up to 2^31 - 1 (the top bit is CASA_CGROUP_SLICE); policies: 1 up to 2^24 - 1.
  std::uint32_t number_of(NameKind kind, std::string_view ns, std::string_view name);

  // Whose number it is, when it is a workload's.
  [[nodiscard]] std::optional<policy::NamespacedName> workload_of(std::uint32_t number) const;

  // `path`: one line a number; absent is empty. A line that cannot be read is an error: guessing could merge two names.
  Status load(const std::string& path);
  // Adds what was given out since; the first time writes all of it, beside, and renames. A line without an end, from a crash, is none.
  Status save(const std::string& path);
  [[nodiscard]] std::size_t size() const { return numbers_.size(); }

 private:
  [[nodiscard]] Status save_whole(const std::string& path) const;
  [[nodiscard]] Status append(const std::string& path) const;

  std::unordered_map<std::string, std::uint32_t> numbers_;     // "kind\tns\tname"
  std::unordered_map<std::uint32_t, std::string> identities_;  // in use
  std::unordered_map<std::uint32_t, std::string> policies_;
  std::vector<std::string> unsaved_;  // keys of numbers_
  bool whole_ = true;                 // the file is to be written from its start
};

}  // namespace casa::identity

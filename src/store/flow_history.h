// Bounded memory of flows: the newest kCapacity rows, oldest forgotten first. A flow that is news again (update, end)
// changes its row in place; denials of the same key within a row's minute add up. Not thread-safe: one owner.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "event/flow.h"

namespace casa::store {

struct FlowRow {
  std::uint64_t id = 0;  // increases with each new row, never reused in a daemon's life
  bool open = false;     // the flow is live
  event::Flow flow;
};

// All set conditions hold together.
struct FlowFilter {
  std::optional<std::chrono::system_clock::time_point> since, until;  // last_seen in [since, until)
  std::string ns;         // either end's namespace
  std::string workload;   // either end's workload, "name" or "namespace/name"
  std::optional<casa_verdict> verdict;
  std::optional<casa_reason> reason;
  std::optional<casa_direction> direction;
};

class FlowHistory {
 public:
  static constexpr std::size_t kCapacity = 100'000;
  explicit FlowHistory(std::size_t capacity = kCapacity);

  // Returns the row that it became.
  const FlowRow& add(const event::Flow& flow);

  struct Page {
    std::vector<FlowRow> rows;                    // newest row first
    std::optional<std::uint64_t> next_before_id;  // pass as before_id for the next page; nothing when this was the last
  };
  // At most `limit` rows whose id is below before_id (0: from the newest).
  [[nodiscard]] Page query(const FlowFilter& filter, std::size_t limit, std::uint64_t before_id) const;

  [[nodiscard]] std::size_t size() const;
  [[nodiscard]] std::uint64_t total_added() const;  // rows ever made
  [[nodiscard]] std::uint64_t forgotten() const;    // rows that made room for newer ones
};

}  // namespace casa::store

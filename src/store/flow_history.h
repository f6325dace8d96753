// Bounded memory of flows: the newest kCapacity rows, oldest forgotten first. A flow that is news again (update, end)
// changes its row in place; denials of the same key within a row's minute add up. Not thread-safe: one owner.
#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "event/flow.h"
#include "event/sighting.h"

namespace casa::store {

struct FlowRow {
  std::uint64_t id = 0;  // increases with each new row, never reused in a daemon's life
  bool open = false;     // the flow is live
  event::Flow flow;
  casa_app app = CASA_APP_UNKNOWN;           // what it speaks
  casa_unread unread = CASA_UNREAD_NOTHING;  // why it is not read (any more)
  event::EventClass token_event{};           // of the last token that has a hash; kNone: there was none
  event::Sha256 token{};                     // its hash
  std::uint64_t tokens = 0;                  // requests with a token, as far as they were read
};

// All set conditions hold together.
struct FlowFilter {
  std::optional<std::chrono::system_clock::time_point> since, until;  // last_seen in [since, until)
  std::string ns;                                                     // either end's namespace
  std::string workload;  // either end's workload, "name" or "namespace/name"
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

  // A request of a live flow carried a token, or none to a token endpoint. The row's id; 0 when no live flow is that one.
  std::uint64_t carry(const event::Sighting& sighting);
  struct Spoken {
    std::uint64_t row_id = 0;          // 0: no live flow is that one
    bool app = false, unread = false;  // that was news
  };
  Spoken speak(const event::AppNews& news);
  // Null when it was forgotten, or never was.
  [[nodiscard]] const FlowRow* find(std::uint64_t id) const;

  struct Page {
    std::vector<FlowRow> rows;                    // newest row first
    std::optional<std::uint64_t> next_before_id;  // pass as before_id for the next page; nothing when this was the last
  };
  // At most `limit` rows whose id is below before_id (0: from the newest).
  [[nodiscard]] Page query(const FlowFilter& filter, std::size_t limit, std::uint64_t before_id) const;

  [[nodiscard]] std::size_t size() const;
  [[nodiscard]] std::uint64_t total_added() const;  // rows ever made
  [[nodiscard]] std::uint64_t forgotten() const;    // rows that made room for newer ones
  // Rows ever made, by casa_verdict.
  [[nodiscard]] const std::array<std::uint64_t, 4>& made_by_verdict() const { return made_by_verdict_; }

 private:
  // What names a live flow: cookies are unique within a network namespace only before Linux 5.13.
  struct FlowKey {
    std::uint64_t socket = 0;
    IpAddress remote;
    std::uint32_t netns = 0;
    std::uint16_t remote_port = 0;
    std::uint8_t direction = 0, protocol = 0;
    bool operator==(const FlowKey&) const = default;
  };
  struct FlowKeyHash {
    std::uint64_t seed = 0;
    std::size_t operator()(const FlowKey& key) const noexcept;
  };
  static FlowKey key_of(const event::Flow& flow);
  [[nodiscard]] std::uint64_t denial_hash(const event::Flow& flow) const;

  FlowRow& append(const event::Flow& flow, bool open);
  FlowRow* live_row(const event::Flow& flow);
  const FlowRow& add_denial(const event::Flow& flow);
  void forget(const FlowRow& row);
  FlowRow& row_of(std::uint64_t id) { return rows_[(id - 1) % capacity_]; }
  [[nodiscard]] const FlowRow& row_of(std::uint64_t id) const { return rows_[(id - 1) % capacity_]; }

  std::size_t capacity_;
  std::uint64_t seed_;         // the far end chooses addresses and ports: it must not know how they hash
  std::vector<FlowRow> rows_;  // row `id` stands at (id - 1) % capacity_
  std::uint64_t last_id_ = 0;
  std::array<std::uint64_t, 4> made_by_verdict_{};
  std::unordered_map<FlowKey, std::uint64_t, FlowKeyHash> open_;  // live flow to row
  std::unordered_map<std::uint64_t, std::uint64_t> denials_;      // denial_hash to the newest row of that key
};

}  // namespace casa::store

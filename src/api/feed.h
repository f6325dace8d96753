// The news that /v1/events streams: one bounded ring for all clients, each of which only has a position in it. So a slow client costs
// nothing but what it misses, and is told how much that was. Written by the app, on the thread that reads.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "event/sighting.h"
#include "store/flow_history.h"
#include "token/alerts.h"

namespace casa::api {

struct SightingNews {
  event::Sighting sighting;
  std::uint64_t flow_id = 0;
};

// What a client wants. `kinds`: bits of 1 << (index in Feed::kKinds).
struct EventQuery {
  unsigned kinds = ~0u;
  std::string ns, workload;
};

class Feed {
 public:
  static constexpr std::size_t kCapacity = 16'384;
  static constexpr std::string_view kKinds[] = {"flow", "sighting", "alert"};
  // `run`: tells the ids of this run of the daemon from those of others.
  explicit Feed(std::string run, std::size_t capacity = kCapacity);

  void publish(const store::FlowRow& row) { add(row); }
  void publish(const event::Sighting& sighting, std::uint64_t flow_id) { add(SightingNews{sighting, flow_id}); }
  void publish(const token::Alert& alert) { add(alert); }

  // Called once, when something was published. Whoever is gone by then is forgotten.
  class Listener {
   public:
    virtual ~Listener() = default;
    virtual void wake() = 0;
  };
  void wake_once(const std::shared_ptr<Listener>& listener) const;

  // A client's way through the ring.
  class Reader {
   public:
    // `last_id`: of the last event that the client had; empty: it wants what is new from now on.
    Reader(const Feed& feed, EventQuery query, std::string_view last_id);
    // What is there for it, in the form of server-sent events: whole events, until there are `bytes` or more.
    std::string read(std::size_t bytes);
    // A comment, and how far the client is: what its filters passed over is nothing that it missed.
    [[nodiscard]] std::string heartbeat() const;

   private:
    [[nodiscard]] std::string id_of(std::uint64_t number) const;
    const Feed& feed_;
    EventQuery query_;
    std::uint64_t next_ = 0;
    bool of_another_run_ = false;
  };

 private:
  using Item = std::variant<store::FlowRow, SightingNews, token::Alert>;
  void add(Item item);
  [[nodiscard]] std::uint64_t first() const { return end_ - items_.size(); }

  std::string run_;
  std::size_t capacity_;
  std::deque<Item> items_;  // numbers first() to end_ - 1
  std::uint64_t end_ = 1;   // the next event's number
  mutable std::vector<std::weak_ptr<Listener>> listeners_;
};

}  // namespace casa::api

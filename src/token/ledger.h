// Bounded memory of tokens: a row per hash, with who presented it, where it went, and its path through the system. When it is full, the
// token that was not seen for longest is forgotten, and counted. Not thread-safe: one owner. There is no token in it, only hashes.
#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <list>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "event/sighting.h"

namespace casa::token {

using Time = std::chrono::system_clock::time_point;

// One end of a request, without its process. Ends that a name does not tell apart have their address.
struct Place {
  std::shared_ptr<const event::PeerName> who;  // null: not known
  std::optional<IpAddress> address;
  std::uint16_t port = 0;  // 0: of no meaning (a caller), or not known
  bool operator==(const Place& other) const;
};
Place caller_of(const event::Flow& flow);
Place callee_of(const event::Flow& flow);
std::string to_string(const Place& place);  // "tools/mcp-server:8080", "api.openai.com:443", "203.0.113.7:80"
bool is_workload(const Place& place);
// Both conditions hold; empty: all. `workload` is NAME or NAMESPACE/NAME.
bool matches(const Place& place, std::string_view ns, std::string_view workload);

// What is kept of one sighting.
struct Step {
  Time time;
  Place source, destination;
  std::shared_ptr<const std::string> policy, instance,
      request;                // request: "POST /oauth2/token"; the others may be null
  std::uint64_t flow_id = 0;  // row of the flow history; 0: none
  casa_direction direction = CASA_EGRESS;
  casa_verdict verdict = CASA_NO_VERDICT;
  casa_reason reason = CASA_REASON_NONE;
  event::EventClass event = event::EventClass::kUse;
  casa_via via = CASA_VIA_WIRE;
  casa_signature signature = CASA_SIGNATURE_UNVERIFIED;
  bool duplicate = false;
};
Step step_of(const event::Sighting& sighting, std::uint64_t flow_id);

struct Visit {
  Place place;
  Time first_seen, last_seen;
  std::uint64_t count = 0;
  bool egress = false;  // seen at the place itself, when that is a caller: it presented the token
};

struct TokenRow {
  std::uint64_t id = 0;  // increases with each new row
  event::Sha256 sha256{};
  casa_token_shape shape = CASA_TOKEN_OPAQUE;
  std::uint32_t length = 0;
  bool alg_none = false;
  casa_signature signature = CASA_SIGNATURE_UNVERIFIED;
  Time first_seen, last_seen;
  std::array<std::uint64_t, event::kEventClasses> counts{};  // by EventClass; neither duplicates nor refused requests
  std::uint64_t duplicates = 0, refused = 0;
  std::vector<Visit> presenters, destinations;               // in the order of their first visit
  std::uint64_t more_presenters = 0, more_destinations = 0;  // sightings whose place had no room any more
  std::uint64_t sightings = 0;

  // The path, oldest first: the first kFirstSteps and the last kLastSteps; `forgotten` of them were in between.
  [[nodiscard]] std::vector<Step> path() const;
  [[nodiscard]] std::uint64_t steps_forgotten() const { return sightings - steps.size(); }
  std::vector<Step> steps;  // as they are kept: behind the first, a ring
};

struct TokenFilter {
  std::optional<Time> since, until;  // last_seen in [since, until)
  std::string ns, workload;          // of a presenter or a destination
};

struct LedgerLimits {
  std::size_t tokens = 65'536;
  std::size_t steps = 262'144;  // of all tokens together
};

class Ledger {
 public:
  static constexpr std::size_t kFirstSteps = 64, kLastSteps = 192;
  static constexpr std::size_t kMaxPlaces = 32;  // presenters, and destinations, of one token
  explicit Ledger(LedgerLimits limits = {});
  Ledger(const Ledger&) = delete;
  Ledger& operator=(const Ledger&) = delete;

  // `sighting` has a hash. The row is valid until the next call.
  const TokenRow& add(const event::Sighting& sighting, const Step& step);
  // Null when no such token is remembered.
  const TokenRow* set_signature(const event::Sha256& sha256, casa_signature signature);
  [[nodiscard]] const TokenRow* find(const event::Sha256& sha256) const;

  struct Page {
    std::vector<const TokenRow*> rows;            // newest row first; valid until the next add()
    std::optional<std::uint64_t> next_before_id;  // pass as before_id for the next page
  };
  [[nodiscard]] Page query(const TokenFilter& filter, std::size_t limit, std::uint64_t before_id) const;

  [[nodiscard]] std::size_t size() const { return by_id_.size(); }
  [[nodiscard]] std::uint64_t total_added() const { return last_id_; }
  [[nodiscard]] std::uint64_t forgotten() const { return last_id_ - by_id_.size(); }

 private:
  struct HashOfHash {
    std::uint64_t seed = 0;
    std::size_t operator()(const event::Sha256& hash) const noexcept;
  };
  struct Entry {
    TokenRow row;
    std::list<Entry*>::iterator age;
  };
  void append(TokenRow& row, const Step& step);
  void forget_oldest();

  LedgerLimits limits_;
  std::unordered_map<event::Sha256, std::unique_ptr<Entry>, HashOfHash> by_hash_;
  std::map<std::uint64_t, const TokenRow*> by_id_;
  std::list<Entry*> ages_;  // the one that was not seen for longest first
  std::uint64_t last_id_ = 0;
  std::size_t steps_ = 0;
};

}  // namespace casa::token

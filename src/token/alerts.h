// What a person should look at, told once: what is wrong with a token or with the request that carried it, and objects that contradict one
// another. The same finding again moves its count and time. Bounded: the alert that did not recur for longest is forgotten first, and counted. Not thread-safe: one owner.
#pragma once

#include <array>
#include <cstdint>
#include <list>
#include <map>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "event/sighting.h"
#include "token/ledger.h"

namespace casa::token {

enum class AlertKind : std::uint8_t {
  kUnexpectedDestination,
  kReplay,
  kInvalidSignature,
  kAlgNone,
  kDuplicateAuthorization,
  kAmbiguousHttp,
  kObjectConflict,
};
inline constexpr std::size_t kAlertKinds = 7;
const char* to_string(AlertKind kind);  // token_unexpected_destination, ...

enum class Severity : std::uint8_t { kMedium, kHigh, kCritical };
const char* to_string(Severity severity);

struct Alert {
  std::uint64_t id = 0;  // increases with each new alert
  AlertKind kind = AlertKind::kUnexpectedDestination;
  Severity severity = Severity::kHigh;
  std::string message;  // one sentence
  Time time, last_seen;
  std::uint64_t count = 1;
  std::optional<event::Sha256> sha256;  // nothing: the token was not hashed, or none is meant
  Place workload, destination;
  bool blocked = false;  // the kernel refused the request, once at least
  // Evidence.
  std::vector<std::uint64_t> flow_ids;  // of the flow history, oldest first, the first few and the last
  std::optional<Step> first;            // the token's first sighting of all
  std::optional<Step> sighting;         // the last one that the alert is about
  Time told;                            // when it was last worth telling a listener
};

struct AlertFilter {
  std::optional<Time> since, until;  // last_seen in [since, until)
  std::string ns, workload;          // of the workload or the destination
  std::optional<AlertKind> kind;
};

class AlertBook {
 public:
  static constexpr std::size_t kCapacity = 10'000;
  static constexpr std::size_t kMaxFlows = 8;
  static constexpr std::chrono::seconds kTellAgain{60};
  explicit AlertBook(std::size_t capacity = kCapacity);

  // Alerts that are new, were blocked for the first time, or recur after a minute without being told: valid until the next call.
  using Told = std::vector<const Alert*>;
  // `row`: the token's, with this sighting in it; null when it has no hash.
  Told judge(const event::Sighting& sighting, const Step& step, const TokenRow* row);
  Told judge(const event::AppNews& news, std::uint64_t flow_id);
  // An object of that namespace is there twice, and differs. `message` names it, and which of the two is in force.
  Told conflict(const std::string& ns, std::string message, Time now);
  // The verifier's word, which comes after the sightings.
  Told judge_signature(const TokenRow& row);

  struct Page {
    std::vector<const Alert*> rows;  // newest first; valid until the next judge()
    std::optional<std::uint64_t> next_before_id;
  };
  [[nodiscard]] Page query(const AlertFilter& filter, std::size_t limit, std::uint64_t before_id) const;

  [[nodiscard]] std::size_t size() const { return alerts_.size(); }
  [[nodiscard]] std::uint64_t total_added() const { return last_id_; }
  [[nodiscard]] std::uint64_t forgotten() const { return last_id_ - alerts_.size(); }
  // Findings, recurrences included, by kind.
  [[nodiscard]] const std::array<std::uint64_t, kAlertKinds>& counts() const { return counts_; }

 private:
  struct Entry {
    Alert alert;
    std::string key;
    std::list<std::uint64_t>::iterator age;
  };
  void raise(Alert alert, std::uint64_t flow_id, Told& told);

  std::size_t capacity_;
  std::map<std::uint64_t, Entry> alerts_;
  std::unordered_map<std::string, std::uint64_t> by_key_;  // kind, token, workload, destination
  std::list<std::uint64_t> ages_;                          // the one that did not recur for longest first
  std::uint64_t last_id_ = 0;
  std::array<std::uint64_t, kAlertKinds> counts_{};
};

}  // namespace casa::token

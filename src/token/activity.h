// How many events of tokens there were, and how much of the traffic was read at all: of the node, of each namespace, workload and instance.
// Bounded; what had no room is counted. Of this run of the daemon. Not thread-safe: one owner.
#pragma once

#include <array>
#include <cstdint>
#include <list>
#include <map>
#include <memory>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "event/sighting.h"
#include "token/ledger.h"

namespace casa::token {

// A number of different things in bounded memory: exact up to kExact of them, then an estimate (HyperLogLog, standard error 1.6 %).
class Distinct {
 public:
  static constexpr std::size_t kExact = 1024;
  // `number`: evenly spread over all 64 bits, the same for the same thing.
  void add(std::uint64_t number);
  [[nodiscard]] std::uint64_t count() const;
  [[nodiscard]] bool estimated() const { return !registers_.empty(); }

 private:
  void enter(std::uint64_t number);
  std::vector<std::uint64_t> exact_;     // sorted
  std::vector<std::uint8_t> registers_;  // empty while it is exact
};

// Events of the last 60 seconds.
class LastMinute {
 public:
  void add(Time when);
  [[nodiscard]] std::uint64_t count(Time now) const;

 private:
  static constexpr std::int64_t kSeconds = 60;
  void move_to(std::int64_t second);
  std::array<std::uint32_t, kSeconds> buckets_{};  // by second modulo kSeconds
  std::int64_t newest_ = 0;
};

struct Counts {
  std::array<std::uint64_t, event::kEventClasses> events{};  // by EventClass
  std::uint64_t refused = 0;                                 // requests that the kernel stopped: in no class
  Distinct tokens;
  LastMinute minute;  // events of all classes
};

// How far the requests of connections could be read. "Not seen" is not "did not happen": what is opaque stands here.
struct Coverage {
  std::array<std::uint64_t, 5> connections{};  // by casa_app
  std::array<std::uint64_t, 5> unread{};       // by casa_unread
  bool wire = false, wire_h2 = false, tls = false;
  // "wire", "wire-h2", "tls-uprobe", "opaque", as far as they hold.
  [[nodiscard]] std::vector<std::string> kinds() const;
};

struct Scope {
  Counts counts;
  Coverage coverage;
};

using WorkloadKey = std::pair<std::string, std::string>;  // namespace, name
struct InstanceScope {
  std::uint64_t cgroup_id = 0;
  std::shared_ptr<const std::string> path;  // null: not known
  WorkloadKey workload;
  Scope scope;
};

struct ActivityLimits {
  std::size_t workloads = 16'384;
  std::size_t instances = 4096;  // the one that was not heard of for longest is forgotten first
};

class Activity {
 public:
  explicit Activity(ActivityLimits limits = {});

  void count(const event::Sighting& sighting);
  // `app`, `unread`: whether that is news of this connection.
  void cover(const event::AppNews& news, bool app, bool unread);

  [[nodiscard]] const Counts& node() const { return node_; }
  [[nodiscard]] const std::map<std::string, Counts>& namespaces() const { return namespaces_; }
  [[nodiscard]] const std::map<WorkloadKey, Scope>& workloads() const { return workloads_; }
  [[nodiscard]] const std::list<InstanceScope>& instances() const { return instances_; }
  // Null when nothing is known of it.
  [[nodiscard]] const Scope* find_workload(const std::string& ns, const std::string& name) const;
  [[nodiscard]] const Scope* find_instance(std::uint64_t cgroup_id) const;
  [[nodiscard]] std::uint64_t instances_forgotten() const { return instances_forgotten_; }
  [[nodiscard]] std::uint64_t without_room() const { return without_room_; }  // events of workloads that had none

 private:
  template <typename Change>
  void change(const event::Flow& flow, const event::Instance& instance, Change change);
  InstanceScope& instance_of(const event::Instance& instance, const WorkloadKey& workload);

  ActivityLimits limits_;
  std::uint64_t seed_;
  Counts node_;
  std::map<std::string, Counts> namespaces_;
  std::map<WorkloadKey, Scope> workloads_;
  std::list<InstanceScope> instances_;  // the one that was not heard of for longest first
  std::unordered_map<std::uint64_t, std::list<InstanceScope>::iterator> by_cgroup_;
  std::uint64_t instances_forgotten_ = 0, without_room_ = 0;
};

}  // namespace casa::token

// See activity.h.
#include "token/activity.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>

#include "token/mix.h"

namespace casa::token {
namespace {

constexpr unsigned kRegisterBits = 12;
constexpr std::size_t kRegisters = std::size_t{1} << kRegisterBits;

std::int64_t second_of(Time when) { return std::chrono::floor<std::chrono::seconds>(when).time_since_epoch().count(); }

void add_event(Counts& counts, const event::Sighting& s, std::uint64_t number) {
  if (s.is_token()) counts.tokens.add(number);
  if (s.refused()) {
    ++counts.refused;
    return;
  }
  if (s.duplicate) return;  // of a request that is counted already
  ++counts.events[static_cast<std::size_t>(s.event)];
  counts.minute.add(s.flow.last_seen);
}

// That an observer looked does not mean that it could read.
void add_reader(Coverage& coverage, casa_app app, casa_via via) {
  if (app != CASA_APP_HTTP1 && app != CASA_APP_HTTP2) return;
  if (via == CASA_VIA_TLS) coverage.tls = true;
  else if (app == CASA_APP_HTTP2) coverage.wire_h2 = true;
  else coverage.wire = true;
}

}  // namespace

void Distinct::enter(std::uint64_t number) {
  std::size_t index = number >> (64 - kRegisterBits);
  auto rank = static_cast<std::uint8_t>(std::countl_zero(number << kRegisterBits | (kRegisters - 1)) + 1);
  registers_[index] = std::max(registers_[index], rank);
}

void Distinct::add(std::uint64_t number) {
  if (estimated()) return enter(number);
  auto at = std::ranges::lower_bound(exact_, number);
  if (at != exact_.end() && *at == number) return;
  if (exact_.size() < kExact) {
    exact_.insert(at, number);
    return;
  }
  registers_.resize(kRegisters);
  for (auto known : exact_) enter(known);
  exact_ = {};
  enter(number);
}

std::uint64_t Distinct::count() const {
  if (!estimated()) return exact_.size();
  constexpr double m = kRegisters, alpha = 0.7213 / (1 + 1.079 / m);
  double sum = 0, empty = 0;
  for (auto rank : registers_) {
    sum += std::ldexp(1.0, -rank);
    empty += rank == 0;
  }
  double estimate = alpha * m * m / sum;
  if (estimate <= 2.5 * m && empty > 0) estimate = m * std::log(m / empty);
  return static_cast<std::uint64_t>(std::llround(estimate));
}

void LastMinute::move_to(std::int64_t second) {
  if (second - newest_ >= kSeconds) buckets_.fill(0);
  else
    for (auto s = newest_ + 1; s <= second; ++s) buckets_[static_cast<std::size_t>(s % kSeconds)] = 0;
  newest_ = std::max(newest_, second);
}

void LastMinute::add(Time when) {
  std::int64_t second = second_of(when);
  if (second <= newest_ - kSeconds || second < 0) return;  // older than the minute
  if (second > newest_) move_to(second);
  ++buckets_[static_cast<std::size_t>(second % kSeconds)];
}

std::uint64_t LastMinute::count(Time now) const {
  std::uint64_t sum = 0;
  std::int64_t second = second_of(now);
  for (std::int64_t s = std::max<std::int64_t>(newest_ - kSeconds + 1, 0); s <= newest_; ++s)
    if (s > second - kSeconds && s <= second) sum += buckets_[static_cast<std::size_t>(s % kSeconds)];
  return sum;
}

std::vector<std::string> Coverage::kinds() const {
  std::vector<std::string> out;
  if (wire) out.emplace_back("wire");
  if (wire_h2) out.emplace_back("wire-h2");
  if (tls) out.emplace_back("tls-uprobe");
  bool any_unread = std::ranges::any_of(unread, [](auto n) { return n != 0; });
  if (any_unread || connections[CASA_APP_TLS] != 0 || connections[CASA_APP_OTHER] != 0) out.emplace_back("opaque");
  return out;
}

Activity::Activity(ActivityLimits limits)
    : limits_{std::max<std::size_t>(limits.workloads, 1), std::max<std::size_t>(limits.instances, 1)},
      seed_(random_seed()) {}

InstanceScope& Activity::instance_of(const event::Instance& instance, const WorkloadKey& workload) {
  if (auto known = by_cgroup_.find(instance.cgroup_id); known != by_cgroup_.end()) {
    instances_.splice(instances_.end(), instances_, known->second);
    if (instance.path) known->second->path = instance.path;
    return *known->second;
  }
  if (instances_.size() == limits_.instances) {
    by_cgroup_.erase(instances_.front().cgroup_id);
    instances_.pop_front();
    ++instances_forgotten_;
  }
  instances_.push_back({instance.cgroup_id, instance.path, workload, {}});
  by_cgroup_.emplace(instance.cgroup_id, std::prev(instances_.end()));
  return instances_.back();
}

template <typename Change>
void Activity::change(const event::Flow& flow, const event::Instance& instance, Change change) {
  const auto& who = subject_of(flow).who;
  if (!who || who->kind != event::PeerName::Kind::kWorkload) return;
  WorkloadKey key{who->ns, who->name};
  auto known = workloads_.find(key);
  if (known == workloads_.end() && workloads_.size() >= limits_.workloads) {
    ++without_room_;
    return;
  }
  Counts& ns = namespaces_[who->ns];  // there are no more of them than workloads
  change(&ns, workloads_[key]);
  if (instance.cgroup_id != 0) change(nullptr, instance_of(instance, key).scope);
}

void Activity::count(const event::Sighting& s) {
  std::uint64_t head = 0;
  std::memcpy(&head, s.sha256.data(), sizeof head);
  std::uint64_t number = mix(seed_, head);
  add_event(node_, s, number);
  change(s.flow, s.instance, [&](Counts* ns, Scope& scope) {
    if (ns != nullptr) add_event(*ns, s, number);
    add_event(scope.counts, s, number);
    add_reader(scope.coverage, s.app, s.via);
  });
}

void Activity::cover(const event::AppNews& news, bool app, bool unread) {
  change(news.flow, news.instance, [&](Counts*, Scope& scope) {
    if (app && news.app != CASA_APP_UNKNOWN) ++scope.coverage.connections[news.app];
    if (unread && news.unread != CASA_UNREAD_NOTHING) ++scope.coverage.unread[news.unread];
    add_reader(scope.coverage, news.app, news.via);
  });
}

const Scope* Activity::find_workload(const std::string& ns, const std::string& name) const {
  auto it = workloads_.find({ns, name});
  return it == workloads_.end() ? nullptr : &it->second;
}

const Scope* Activity::find_instance(std::uint64_t cgroup_id) const {
  auto it = by_cgroup_.find(cgroup_id);
  return it == by_cgroup_.end() ? nullptr : &it->second->scope;
}

}  // namespace casa::token

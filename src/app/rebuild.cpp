// From what there is to what the kernel holds: all of it made anew, or, for changes of Pods and of cgroups, what is concerned.
#include <fmt/format.h>

#include <algorithm>

#include "app/daemon.h"
#include "app/notify.h"
#include "base/log.h"

namespace casa::app {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

namespace {

// Changes that come together (a storm of cgroups, a directory full of files) become one generation.
constexpr milliseconds kRebuildDelay{5};
// After changes that were followed: live flows that are no longer allowed are looked for, and reports are made, once for many.
constexpr milliseconds kSettleDelay{100};
// Of the time, a sweep gets one part in so many, and reports, which take milliseconds in a large cluster, one in so many: what they delay is
// less than one change in a hundred.
constexpr int kSweepShare = 20, kReportShare = 200;

}  // namespace

// The whole takes long in a large cluster: it waits as long as it took, and others get their turn. A change that can be followed
// takes microseconds and is not kept waiting.
void Daemon::schedule_rebuild(Scope scope) {
  if (config_.kubernetes.node_name.empty()) scope = Scope::kAll;  // a bare node has no Pods to follow
  bool widened = scope == Scope::kAll && !all_due_;
  all_due_ = all_due_ || scope == Scope::kAll;
  places_due_ = places_due_ || scope == Scope::kPlaces;
  if (!is_synced() || !dns_known_ || (rebuild_pending_ && !widened)) return;
  rebuild_pending_ = true;
  auto now = steady_clock::now();
  rebuild_timer_.expires_at(
      all_due_ ? std::max(now + kRebuildDelay, rebuilt_ + rebuild_took_)
               : std::max(now, followed_ + std::min<steady_clock::duration>(4 * follow_took_, kRebuildDelay)));
  rebuild_timer_.async_wait([this](boost::system::error_code error) {
    if (error) return;
    rebuild_pending_ = false;
    if (all_due_) return rebuild();
    if (!follow()) schedule_rebuild(Scope::kAll);
  });
}

// A daemon that starts while its policy directory is away knows nothing, and must not take that for "no policy": the
// generation that an earlier run left in the kernel stays, also one of another ABI version.
bool Daemon::may_commit() {
  bool in_force = datapath_->generation() != 0 || datapath_->stands_beside_another();
  bool blind = !files_->problem().empty() && in_force && documents_.count(false).documents == 0;
  note_problem(
      "generation",
      blind ? "the policy directory cannot be read, so the generation found in the kernel stays in force" : "");
  return !blind;
}

identity::NodeFacts Daemon::node_facts(const std::vector<IpAddress>& addresses, bool places) const {
  identity::NodeFacts node{mount_, addresses, dns_, tokens_, {}};
  if (!config_.kubernetes.node_name.empty())
    node.cluster = {config_.kubernetes.node_name, config_.kubernetes.daemon_namespace, config_.kubernetes.strict,
                    places ? identity::find_kubepods(mount_) : snapshot_.kubepods, snapshot_.pod_places};
  return node;
}

// Numbers are on disk before the kernel has them: a crash in between must not give them to somebody else.
bool Daemon::save_numbers() {
  Status saved = allocator_.save(config_.state_dir + "/identities");
  note_problem("identities", saved ? "" : saved.error().context + "; no new generation until they can be kept");
  return saved.has_value();
}

bool Daemon::note_commit(const Result<bool>& committed) {
  note_problem("commit", committed ? ""
                                   : fmt::format("{}; generation {} stays in force", committed.error().context,
                                                 datapath_->generation()));
  return committed.has_value();
}

// While it fails nothing can be followed: the changes since are in no picture.
void Daemon::rebuild() {
  auto begin = steady_clock::now();
  all_due_ = true;
  places_due_ = false;
  (void)documents_.take_changes();
  auto addresses = identity::host_addresses();
  note_problem("host addresses", addresses ? "" : addresses.error().context);
  const identity::ObjectSet& objects = documents_.objects();
  identity::NodeFacts node = node_facts(addresses ? *addresses : std::vector<IpAddress>{}, true);
  identity::Snapshot snapshot = identity::build_snapshot(objects, node, allocator_);
  compile::Compiled compiled = compile::compile(objects, snapshot, allocator_, config_.audit);
  if (!may_commit()) {
    if (datapath_->generation() != 0) attach();
    return;
  }
  if (!save_numbers()) return;
  auto committed = datapath_->commit(compiled.image);
  if (!note_commit(committed)) return;
  all_due_ = reports_stale_ = false;
  decoder_.learn(snapshot, objects, allocator_);
  snapshot_ = std::move(snapshot);
  compiled_ = std::move(compiled);
  digest_.reset();
  follow_names();
  follow_tls();
  if (status_writer_) status_writer_->look_again();
  tell_problems();
  if (takes_force(*committed)) {
    spdlog::info("generation {} is in force: {} policies, {} workloads, {} policy entries", datapath_->generation(),
                 compiled_.policies.size(), snapshot_.workloads.size(), compiled_.image.policy.size());
    end_what_is_refused();
  }
  rebuilt_ = steady_clock::now();
  rebuild_took_ = rebuilt_ - begin;
  ++times_anew_;
}

// False: all has to be made anew.
bool Daemon::follow() {
  auto begin = steady_clock::now();
  bool places = std::exchange(places_due_, false);
  auto changes = documents_.take_changes();
  if (!changes || !may_commit()) return false;
  tell_problems();
  if (changes->empty() && !places) {
    if (reports_stale_) settle_soon();
    return true;
  }
  const identity::ObjectSet& objects = documents_.objects();
  auto followed = identity::follow(*changes, places, objects, node_facts({}, places), allocator_, snapshot_);
  if (!followed) return false;
  compile::Touched touched = compile::follow(objects, snapshot_, allocator_, config_.audit, *followed, compiled_);
  if (!save_numbers()) return false;
  auto committed = datapath_->commit(compiled_.image, touched);
  if (!note_commit(committed)) return false;
  decoder_.learn(snapshot_, *followed);
  digest_.reset();
  if (followed->rules) follow_names();
  if (followed->rules || !followed->paths.empty() || !followed->cgroups.empty()) follow_tls();
  reports_stale_ = true;
  if (takes_force(*committed)) sweep_due_ = true;
  settle_soon();
  followed_ = steady_clock::now();
  follow_took_ = followed_ - begin;
  ++times_followed_;
  spdlog::debug("generation {} is in force: {} changes followed", datapath_->generation(), changes->size());
  return true;
}

void Daemon::settle_soon() {
  if (settling_) return;
  settling_ = true;
  settle_timer_.expires_after(std::max<steady_clock::duration>(kSettleDelay, kSweepShare * sweep_took_));
  settle_timer_.async_wait([this](boost::system::error_code error) {
    if (error) return;
    settling_ = false;
    auto begin = steady_clock::now();
    if (attached_ && std::exchange(sweep_due_, false)) end_what_is_refused();
    auto swept = steady_clock::now();
    sweep_took_ = swept - begin;
    if (swept >= reports_after_) {
      refresh_reports();
      auto end = steady_clock::now();
      reports_after_ = end + kReportShare * (end - swept);
    }
    if (reports_stale_) settle_soon();
  });
}

void Daemon::refresh_reports() {
  // What is to be followed yet, or made anew, is in the objects already, but not in the picture: reports of it come after that.
  if (!reports_stale_ || all_due_ || documents_.has_changes()) return;
  reports_stale_ = false;
  compile::refresh(documents_.objects(), snapshot_, allocator_, config_.audit, compiled_);
  if (status_writer_) status_writer_->look_again();
}

void Daemon::tell_problems() {
  std::size_t index = 0;
  std::map<std::string, std::string> found;
  for (auto& problem : documents_.problems()) found.emplace(fmt::format("document {}", ++index), std::move(problem));
  for (auto& problem : snapshot_.problems) found.emplace(fmt::format("object {}", ++index), problem);
  for (auto it = problems_.begin(); it != problems_.end();)
    it = (it->first.starts_with("document ") || it->first.starts_with("object ")) && !found.contains(it->first)
             ? problems_.erase(it)
             : std::next(it);
  for (auto& [key, problem] : found) note_problem(key, std::move(problem));
  tell_conflicts();
}

// Whether live flows may be allowed no longer: something else is in force, or it is this run's programs that hold it now.
bool Daemon::takes_force(bool changed) {
  attach();
  if (!attached_ || !(changed || fresh_attachment_)) return false;
  fresh_attachment_ = false;
  generation_time_ = std::chrono::system_clock::now();
  return true;
}

void Daemon::end_what_is_refused() {
  sweep(false);
  end_unjudged();
}

}  // namespace casa::app

#include "app/tls_observers.h"

#include <fmt/format.h>
#include <sys/stat.h>

#include <algorithm>
#include <array>

#include "base/log.h"
#include "observe/elf_functions.h"

namespace casa::app {

using std::chrono::milliseconds;

namespace {

// After exec() the linker maps the libraries. It tells us when it has (_dl_debug_state), but for the first process that runs it: the probe
// comes while it is at work. So each process is looked at a few times more, and never again without news.
constexpr std::array<milliseconds, 5> kSettling = {milliseconds{0}, milliseconds{5}, milliseconds{20},
                                                   milliseconds{100}, milliseconds{500}};
// What a workload can make us do: so many looks at once, then other work has its turn; so many processes and files.
constexpr std::size_t kLooksPerRound = 32, kMaxWaiting = 16384, kMaxProcesses = 32768, kMaxFiles = 512;
constexpr milliseconds kRoundPause{2}, kProbePause{5};
constexpr std::uint32_t kLinkerKind = 1u << 31;

}  // namespace

TlsObservers::TlsObservers(boost::asio::io_context& io, datapath::Datapath& datapath, NoteProblem note,
                           Clock::duration linger)
    : datapath_(datapath), note_(std::move(note)), linger_(linger), timer_(io) {}

bool TlsObservers::start() {
  if (observer_ || tried_) return static_cast<bool>(observer_);
  tried_ = true;
  auto loaded = datapath_.observe_tls();
  note_("tls observer", loaded ? "" : loaded.error().context + "; tokens inside TLS are not seen");
  if (loaded) observer_ = std::move(*loaded);
  return static_cast<bool>(observer_);
}

void TlsObservers::wish(std::map<std::uint32_t, Wish> wishes) {
  if (wishes == wishes_) return;
  if (wishes.empty()) {
    stop();
    return;
  }
  auto before = std::exchange(wishes_, std::move(wishes));
  if (!start()) return;
  std::map<std::uint32_t, std::uint32_t> kinds;
  for (const auto& [subject, wish] : wishes_) kinds.emplace(subject, wish.kinds);
  Status set = observer_->set_subjects(kinds);
  note_("tls observer", set ? "" : set.error().context);
  std::vector<int> gone;
  for (const auto& [pid, process] : processes_)
    if (!wishes_.contains(process.subject)) gone.push_back(pid);
  for (int pid : gone) forget(pid);
  // From here on the kernel tells of new processes; now those that are there.
  for (const auto& [subject, wish] : wishes_) {
    auto known = before.find(subject);
    if (known != before.end() && known->second == wish) continue;
    for (const auto& dir : wish.cgroup_dirs)
      for (int pid : observe::processes_below(dir)) look_later(pid, subject, false);
  }
}

// Nobody wishes anything any more. The rest goes with the last probe.
void TlsObservers::stop() {
  wishes_.clear();
  due_.clear();
  processes_.clear();
  if (observer_) (void)observer_->set_subjects({});
  for (auto& [id, file] : files_) {
    file.processes = 0;
    file.unused_since = Clock::now() - linger_;
  }
  note_("tls observer", "");
  remove_unused();
  wait();
}

void TlsObservers::look_again() {
  if (!observer_) return;
  std::map<int, std::uint32_t> there;
  for (const auto& [subject, wish] : wishes_)
    for (const auto& dir : wish.cgroup_dirs)
      for (int pid : observe::processes_below(dir)) there.emplace(pid, subject);
  std::vector<int> gone;
  for (const auto& [pid, process] : processes_)
    if (!there.contains(pid)) gone.push_back(pid);
  for (int pid : gone) forget(pid);
  for (const auto& [pid, subject] : there) look_later(pid, subject, false);
}

void TlsObservers::on_process(const casa_event& news) {
  if (!observer_ || !wishes_.contains(news.subject)) return;
  int pid = static_cast<int>(news.pid);
  if (news.flags == CASA_PROCESS_EXIT || news.flags == CASA_PROCESS_EXEC)
    forget(pid);  // what it ran it does not run any more
  if (news.flags != CASA_PROCESS_EXIT) look_later(pid, news.subject, news.flags == CASA_PROCESS_EXEC);
}

void TlsObservers::look_later(int pid, std::uint32_t subject, bool settling) {
  auto now = Clock::now();
  for (auto delay : kSettling) {
    if (due_.size() >= kMaxWaiting) break;
    due_.emplace(now + delay, std::pair{pid, subject});
    if (!settling) break;
  }
  wait();
}

void TlsObservers::wait(Clock::duration pause) {
  auto next = Clock::time_point::max();
  if (!due_.empty()) next = std::max(due_.begin()->first, Clock::now() + pause);
  for (const auto& [id, file] : files_)
    if (file.processes == 0)
      next = std::min(next, file.leaving ? Clock::now() + kProbePause : file.unused_since + linger_);
  if (next == Clock::time_point::max()) return;
  timer_.expires_at(next);
  timer_.async_wait([this](boost::system::error_code error) {
    if (!error) work();
  });
}

void TlsObservers::work() {
  auto now = Clock::now();
  std::size_t looks = 0;
  for (; looks < kLooksPerRound && !due_.empty() && due_.begin()->first <= now; ++looks) {
    auto [pid, subject] = due_.begin()->second;
    due_.erase(due_.begin());
    look_at(pid, subject);
  }
  remove_unused();
  wait(looks == kLooksPerRound ? kRoundPause : Clock::duration{});
}

void TlsObservers::look_at(int pid, std::uint32_t subject) {
  auto wish = wishes_.find(subject);
  if (!observer_ || wish == wishes_.end()) return;
  if (processes_.size() >= kMaxProcesses && !processes_.contains(pid)) return;
  auto files = observe::files_of_process(pid);
  if (!files) {
    if (files.error().code == ErrorCode::kNotFound) forget(pid);
    else
      note_("tls observer", files.error().context + "; tokens inside its TLS are not seen (CAP_SYS_PTRACE is needed)");
    return;
  }
  Process next{subject, {}};
  for (const auto& file : *files) {
    auto id = use(file, wish->second.kinds);
    if (id && next.files.insert(*id).second) ++files_[*id].processes;
  }
  forget(pid);
  processes_.emplace(pid, std::move(next));
}

// A file is looked into once, until its bytes change: then the probes stand in the wrong places.
std::optional<TlsObservers::FileId> TlsObservers::use(const observe::ProcessFile& file, std::uint32_t wanted) {
  struct stat st{};
  if (::fstat(file.fd.get(), &st) != 0) return std::nullopt;
  FileId id{st.st_dev, st.st_ino};
  if (!files_.contains(id) && files_.size() >= kMaxFiles) {
    note_("tls observer files",
          fmt::format("more than {} files are run by observed processes; {} is not observed", kMaxFiles, file.path));
    return std::nullopt;
  }
  File& entry = files_[id];
  if (entry.processes == 0) entry.unused_since = Clock::now();
  if (entry.leaving || entry.changed.tv_sec != st.st_mtim.tv_sec || entry.changed.tv_nsec != st.st_mtim.tv_nsec) {
    entry.probes.clear();
    entry.looked = 0;
    entry.leaving = false;
    entry.changed = st.st_mtim;
  }
  if (file.role == observe::FileRole::kLinker) wanted = kLinkerKind;
  if (file.role == observe::FileRole::kTlsLibrary) wanted &= CASA_TLS_OPENSSL;
  if (file.role == observe::FileRole::kExecutable) wanted &= CASA_TLS_NODE | CASA_TLS_GO;
  wanted &= ~entry.looked;
  if (wanted == 0) return id;
  entry.looked |= wanted;
  Status put = put_probes(file, wanted, entry);
  if (!put && put.error().code != ErrorCode::kInvalidArgument)
    note_("tls observer files", fmt::format("{}: {}", file.path, put.error().context));
  return id;
}

Status TlsObservers::put_probes(const observe::ProcessFile& file, std::uint32_t wanted, File& entry) {
  using datapath::TlsObserver;
  auto attach = [&](std::uint32_t kind, std::span<const std::string_view> exported,
                    std::span<const std::string_view> go) -> Status {
    TRY_ASSIGN(observe::ElfFunctions found, observe::find_functions(file.fd.get(), exported, go));
    if (found.functions.empty()) return {};
    TRY_ASSIGN(datapath::TlsProbes probes, observer_->attach(file.fd.get(), kind, found.functions));
    spdlog::debug("tls observer: {} probes on {}", probes.size(), file.path);
    std::ranges::move(probes, std::back_inserter(entry.probes));
    return {};
  };
  if (wanted & kLinkerKind) TRY(attach(0, TlsObserver::linker_functions(), {}));
  for (std::uint32_t kind : {CASA_TLS_OPENSSL, CASA_TLS_NODE})
    if (wanted & kind) TRY(attach(kind, TlsObserver::openssl_functions(), {}));
  if (wanted & CASA_TLS_GO) TRY(attach(CASA_TLS_GO, {}, TlsObserver::go_functions()));
  return {};
}

void TlsObservers::forget(int pid) {
  auto known = processes_.find(pid);
  if (known == processes_.end()) return;
  for (const auto& id : known->second.files) release(id);
  processes_.erase(known);
}

void TlsObservers::release(const FileId& id) {
  auto file = files_.find(id);
  if (file == files_.end() || --file->second.processes != 0) return;
  file->second.unused_since = Clock::now();
  wait();
}

// The next process of a workload runs the same files as a rule; taking probes off and putting them on again costs more than keeping them.
// Taking one off waits until no CPU is inside it, so it is one in each round.
void TlsObservers::remove_unused() {
  auto now = Clock::now();
  for (auto it = files_.begin(); it != files_.end();) {
    File& file = it->second;
    if (file.processes != 0 || now - file.unused_since < linger_) {
      ++it;
      continue;
    }
    file.leaving = true;
    if (!file.probes.empty()) {
      file.probes.pop_back();
      return;
    }
    it = files_.erase(it);
  }
  if (wishes_.empty() && files_.empty()) {
    observer_.reset();
    tried_ = false;
  }
}

TlsObservers::Observed TlsObservers::observed() const {
  Observed sum{processes_.size(), files_.size(), 0};
  for (const auto& [id, file] : files_) sum.probes += file.probes.size();
  return sum;
}

std::map<std::uint32_t, TlsObservers::Wish> make_wishes(const identity::CgroupMount& mount,
                                                        const identity::Snapshot& snapshot,
                                                        const std::map<std::uint32_t, std::uint32_t>& kinds) {
  std::map<std::uint32_t, TlsObservers::Wish> wishes;
  for (const auto& [name, workload] : snapshot.workloads) {
    auto wanted = kinds.find(workload.identity);
    if (wanted == kinds.end() || wanted->second == 0) continue;
    auto& wish = wishes[workload.identity];
    wish.kinds = wanted->second;
    for (const auto& instance : workload.instances) wish.cgroup_dirs.push_back(mount.root + "/" + instance.path);
  }
  return wishes;
}

}  // namespace casa::app

// News from the kernel: the ring, the totals of denials, the sweep over live flows.
#include <fmt/format.h>

#include <cstring>

#include "app/daemon.h"
#include "app/unjudged.h"
#include "base/log.h"

namespace casa::app {

namespace asio = boost::asio;
using std::chrono::milliseconds;
using std::chrono::seconds;

namespace {

constexpr milliseconds kRingInterval{10};
constexpr std::size_t kRecordsPerRound = 4096;
constexpr unsigned kIdleRounds = 100;   // a second of nothing: sleep until the kernel wakes us
constexpr unsigned kSweepSeconds = 10;  // counters of live flows
constexpr unsigned kRetrySeconds = 5;   // a commit or attachment that failed
constexpr seconds kFailureSeconds{60};
constexpr std::size_t kMaxGaps = 16;
constexpr seconds kUdpIdle{600};  // a UDP conversation without a packet for so long has ended

std::string bytes_of(const casa_udp_key& key) { return {reinterpret_cast<const char*>(&key), sizeof key}; }

}  // namespace

void Daemon::watch_ring() {
  ring_fd_ = std::make_unique<asio::posix::stream_descriptor>(io_, ::dup(datapath_->ring_fd()));
  ring_timer_.expires_after(kRingInterval);
  ring_timer_.async_wait([this](boost::system::error_code error) {
    if (!error) drain_ring();
  });
}

void Daemon::drain_ring() {
  std::size_t handled =
      datapath_->drain(kRecordsPerRound, [this](const datapath::Datapath::Record& record) { handle_record(record); });
  idle_rounds_ = handled == 0 ? idle_rounds_ + 1 : 0;
  if (idle_rounds_ >= kIdleRounds && datapath_->sleep_on_ring()) {
    wait_for_ring();
    return;
  }
  // A full round has more waiting: other work gets its turn in between, no time is lost.
  ring_timer_.expires_after(handled == kRecordsPerRound ? milliseconds{0} : kRingInterval);
  ring_timer_.async_wait([this](boost::system::error_code error) {
    if (!error) drain_ring();
  });
}

void Daemon::wait_for_ring() {
  ring_fd_->async_wait(asio::posix::descriptor_base::wait_read, [this](boost::system::error_code error) {
    if (error) return;
    idle_rounds_ = 0;
    drain_ring();
  });
}

void Daemon::handle_record(const datapath::Datapath::Record& news) {
  const casa_event& record = news.event;
  if (record.kind == CASA_EVENT_CGROUP) {
    schedule_rebuild(Scope::kPlaces);
    return;
  }
  if (news.token != nullptr) {
    handle_token(*news.token);
    end_refused(record);
    return;
  }
  if (record.kind == CASA_EVENT_PROCESS) {
    tls_observers_->on_process(record);
    return;
  }
  if (record.kind == CASA_EVENT_DENIED) end_refused(record);
  if (record.kind == CASA_EVENT_FLOW_END && record.protocol == static_cast<std::uint8_t>(policy::Protocol::kUdp)) {
    closed_udp_.insert(record.cookie);
    return;
  }
  if (auto flow = decoder_.decode(record, news.name)) keep(*flow);
}

// A dropped packet alone leaves the application waiting; it is to know at once.
void Daemon::end_refused(const casa_event& record) {
  if (!(record.flags & (CASA_EVENT_ESTABLISHED | CASA_EVENT_PEER_WAITS)) || record.verdict != CASA_DENIED) return;
  Status ended = datapath_->end_connection(record);
  if (!ended && ended.error().code != ErrorCode::kNotFound)
    note_problem("ending refused connections", ended.error().context);
}

// The conversations of UDP sockets that were closed in the last second: one walk for all of them.
void Daemon::end_udp_flows() {
  if (closed_udp_.empty()) return;
  std::set<std::uint64_t> closed = std::exchange(closed_udp_, {});
  for (const auto& flow : datapath_->udp_flows()) {
    if (!closed.contains(flow.key.cookie)) continue;
    keep(decoder_.decode_udp(flow.key, flow.state, event::News::kEnd));
    datapath_->forget_udp_flow(flow.key);
    udp_seen_.erase(bytes_of(flow.key));
  }
}

void Daemon::every_second() {
  second_timer_.expires_after(seconds{1});
  second_timer_.async_wait([this](boost::system::error_code error) {
    if (error) return;
    collect_denials();
    end_udp_flows();
    if (signatures_) signatures_->every_second();
    // What is not in force is not said to be.
    if (status_writer_ && attached_ && !problems_.contains("commit") && !problems_.contains("identities"))
      status_writer_->follow(compiled_, snapshot_, std::chrono::steady_clock::now());
    look_after_attachment();
    look_for_failures();
    if (++seconds_ % kSweepSeconds == 0) {
      sweep(true);
      sweep_udp();
      keep_names();
    }
    every_second();
  });
}

// What the kernel side could not keep: a problem until a minute has passed without another one. Each is counted since the
// maps were made.
void Daemon::look_for_failures() {
  auto now = std::chrono::steady_clock::now();
  auto stats = datapath_->stats();
  auto look = [&](const char* key, std::size_t counter, auto&& sentence) {
    bool again = stats[counter] > stats_seen_[counter];
    if (again) {
      failed_at_[key] = now;
      note_problem(key, sentence(stats[counter]));
    } else if (auto it = failed_at_.find(key); it != failed_at_.end() && now - it->second >= kFailureSeconds) {
      failed_at_.erase(it);
      note_problem(key, "");
    }
    return again;
  };
  if (look("cgroup map", CASA_STAT_FAIL_CGROUP_INSERT, [&](std::uint64_t count) {
        return fmt::format(
            "{} cgroups could not be entered into the kernel's table, which holds {}; raise limits.cgroups", count,
            datapath_->limits().cgroups);
      }))
    schedule_rebuild(Scope::kAll);
  look("socket storage", CASA_STAT_REASON_BASE + CASA_REASON_FAULT, [](std::uint64_t count) {
    return fmt::format(
        "{} attempts were refused (fault) because the kernel gave no memory for the socket's storage; this host is "
        "short "
        "of memory, or net.core.optmem_max is too small",
        count);
  });
  look("UDP conversations", CASA_STAT_REASON_BASE + CASA_REASON_MAP_FULL, [](std::uint64_t count) {
    return fmt::format("{} datagrams were refused (map_full) because the kernel's table took no further conversation",
                       count);
  });
  if (stats[CASA_STAT_EVENTS_LOST] > stats_seen_[CASA_STAT_EVENTS_LOST]) tls_observers_->look_again();
  stats_seen_ = stats;
}

// The links went with the directory. `from`: when they were last seen there, if this run saw them.
void Daemon::begin_gap(std::optional<std::chrono::system_clock::time_point> from) {
  if (gaps_.size() == kMaxGaps) gaps_.erase(gaps_.begin());
  gaps_.push_back({from, std::nullopt});
  datapath_->count_root_replacement();
  note_problem("attach",
               fmt::format("the enforcement root {} was removed or made anew: nothing below it is enforced until the "
                           "programs are attached there again",
                           mount_.root));
}

// What no event tells: the enforcement root made anew (its links are gone with the old one), cgroups on a kernel without
// the watch, and what failed and may succeed now.
void Daemon::look_after_attachment() {
  if (attached_ && datapath_->is_attached()) {
    seen_attached_ = std::chrono::system_clock::now();
  } else if (attached_) {
    attached_ = false;
    begin_gap(seen_attached_);
  }
  if (!attached_ && !gaps_.empty() && datapath_->generation() != 0) {
    attach();
    if (attached_) schedule_rebuild(Scope::kAll);
  }
  const auto& features = datapath_->features();
  auto watch = features.find("cgroup watch");
  bool blind = watch != features.end() && watch->second != "on";
  note_problem("cgroup watch",
               blind ? watch->second + "; new cgroups are looked for every second, not enforced from the start" : "");
  bool failed = is_synced() && (!attached_ || problems_.contains("commit") || problems_.contains("identities"));
  if (blind || (failed && seconds_ % kRetrySeconds == 0)) schedule_rebuild(Scope::kAll);
}

void Daemon::collect_denials() {
  for (const auto& denial : datapath_->denials())
    if (auto flow = decoder_.pending(denial.key, denial.value)) keep(*flow);
}

// `counters`: also tell how far the live flows are; otherwise only what is no longer allowed is looked for.
void Daemon::sweep(bool counters) {
  Status swept = datapath_->sweep([&](const casa_event& record) {
    end_refused(record);
    bool refused = record.verdict == CASA_DENIED;
    if (!refused && !counters) return;
    auto flow = decoder_.decode(record);
    if (!flow) return;
    // The row of the flow itself ends with its socket.
    if (refused) flow->news = event::News::kDenied;
    keep(*flow);
  });
  if (!swept && swept.error().code != ErrorCode::kUnsupported) note_problem("sweep", swept.error().context);
}

// After a change of generation: connections that are refused now and that the sweep does not know (unjudged.h).
void Daemon::end_unjudged() {
  auto sockets = datapath::list_tcp_sockets();
  note_problem("listing sockets", sockets ? "" : sockets.error().context);
  if (!sockets) return;
  auto subjects = subjects_of_cgroups(mount_, snapshot_, compiled_.image);
  std::set<std::pair<std::uint32_t, IpAddress>> named;
  for (const auto& entry : datapath_->learnt()) named.emplace(entry.key.subject, make_ip(entry.key.address));
  for (const auto& refused : find_refused(*sockets, subjects, compiled_.image, named)) {
    Status ended = datapath::destroy_tcp_socket(refused.socket.ends, refused.socket.cookie);
    if (!ended) continue;  // gone already, by the sweep or by itself
    casa_event record{};
    record.kind = CASA_EVENT_DENIED;
    record.time_ns = record.start_ns = event::monotonic_ns();
    record.cookie = refused.socket.cookie;
    record.subject = refused.question.subject;
    record.peer = refused.question.peer;
    record.count = 1;
    std::memcpy(record.local, refused.socket.ends.local.bytes.data(), 16);
    std::memcpy(record.remote, refused.socket.ends.remote.bytes.data(), 16);
    record.local_port = refused.socket.ends.local_port;
    record.remote_port = refused.socket.ends.remote_port;
    record.verdict = CASA_DENIED;
    record.reason = static_cast<casa_u8>(refused.decision.reason);
    record.direction = static_cast<casa_u8>(refused.question.direction);
    record.protocol = refused.question.protocol;
    keep(decoder_.decode_found(record));
  }
}

void Daemon::sweep_udp() {
  auto now = std::chrono::steady_clock::now();
  std::map<std::string, UdpSeen> still;
  for (const auto& flow : datapath_->udp_flows()) {
    std::string key = bytes_of(flow.key);
    std::uint64_t packets = std::uint64_t{flow.state.tx_packets} + flow.state.rx_packets;
    auto known = udp_seen_.find(key);
    UdpSeen seen = known != udp_seen_.end() && known->second.packets == packets ? known->second : UdpSeen{packets, now};
    bool ended = now - seen.at >= kUdpIdle;
    if (ended || seen.at == now)
      keep(decoder_.decode_udp(flow.key, flow.state, ended ? event::News::kEnd : event::News::kUpdate));
    if (ended) datapath_->forget_udp_flow(flow.key);
    else still.emplace(std::move(key), seen);
  }
  udp_seen_ = std::move(still);
}

}  // namespace casa::app

// The ring of flow rows, its two indexes (live flows, denials of the last minute) and the one scan that answers
// queries. See flow_history.h. A row's place follows from its id, so a cursor is just an id and stays right while rows
// are added.
#include "store/flow_history.h"

#include <algorithm>
#include <functional>
#include <random>
#include <string_view>

namespace casa::store {
namespace {

using event::Flow;
using event::News;
using event::Party;
using event::PeerName;

constexpr std::chrono::seconds kDenialWindow{60};

std::uint64_t mix(std::uint64_t state, std::uint64_t value) {
  // The finalizer of splitmix64 over a running state.
  std::uint64_t z = (state ^ value) + 0x9e3779b97f4a7c15u;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  return z ^ (z >> 31);
}

std::uint64_t mix(std::uint64_t state, const std::string& text) {
  return mix(state, std::hash<std::string_view>{}(text));
}

std::uint64_t mix(std::uint64_t state, const PeerName& who) {
  return mix(mix(mix(mix(state, static_cast<std::uint64_t>(who.kind)), who.ns), who.name), who.fqdn);
}

bool same_peer(const PeerName& a, const PeerName& b) {
  return &a == &b || (a.kind == b.kind && a.ns == b.ns && a.name == b.name && a.fqdn == b.fqdn);
}

std::string_view asked_name(const Flow& flow) { return flow.asked_name ? *flow.asked_name : std::string_view(); }

bool same_denial(const Flow& a, const Flow& b) {
  return asked_name(a) == asked_name(b) && b.news == News::kDenied && a.verdict == b.verdict && a.reason == b.reason &&
         a.direction == b.direction && a.protocol == b.protocol && a.destination.port == b.destination.port &&
         same_peer(*a.source.who, *b.source.who) && same_peer(*a.destination.who, *b.destination.who);
}

// News of one end: what is known now, but a process once seen stays.
void update_party(Party& party, const Party& news) {
  Party merged = news;
  if (news.pid == 0 && party.pid != 0) {
    merged.pid = party.pid;
    merged.comm = party.comm;
  }
  party = std::move(merged);
}

// Counters are totals of the flow, so the larger is the later one, whatever the order of arrival (ring and sweep
// differ).
void update_counters(Flow& flow, const Flow& news) {
  flow.news = news.news;
  flow.last_seen = std::max(flow.last_seen, news.last_seen);
  flow.bytes_sent = std::max(flow.bytes_sent, news.bytes_sent);
  flow.bytes_received = std::max(flow.bytes_received, news.bytes_received);
  flow.packets_sent = std::max(flow.packets_sent, news.packets_sent);
  flow.packets_received = std::max(flow.packets_received, news.packets_received);
}

void restart(Flow& flow, const Flow& news) {
  update_counters(flow, news);
  update_party(flow.source, news.source);
  update_party(flow.destination, news.destination);
  flow.reason = news.reason;
  flow.policy = news.policy;
}

void close_row(FlowRow& row, std::chrono::system_clock::time_point when) {
  row.open = false;
  row.flow.news = News::kEnd;
  row.flow.last_seen = std::max(row.flow.last_seen, when);
}

// A FlowFilter with its workload taken apart once.
class Matcher {
 public:
  explicit Matcher(const FlowFilter& filter) : filter_(filter), workload_name_(filter.workload) {
    if (auto slash = workload_name_.find('/'); slash != std::string_view::npos) {
      workload_ns_ = workload_name_.substr(0, slash);
      workload_name_.remove_prefix(slash + 1);
    }
  }

  [[nodiscard]] bool matches(const Flow& flow) const {
    if (filter_.verdict && flow.verdict != *filter_.verdict) return false;
    if (filter_.reason && flow.reason != *filter_.reason) return false;
    if (filter_.direction && flow.direction != *filter_.direction) return false;
    if (filter_.since && flow.last_seen < *filter_.since) return false;
    if (filter_.until && flow.last_seen >= *filter_.until) return false;
    const PeerName &source = *flow.source.who, &destination = *flow.destination.who;
    if (!filter_.ns.empty() && source.ns != filter_.ns && destination.ns != filter_.ns) return false;
    return filter_.workload.empty() || is_workload(source) || is_workload(destination);
  }

 private:
  [[nodiscard]] bool is_workload(const PeerName& who) const {
    return who.kind == PeerName::Kind::kWorkload && who.name == workload_name_ &&
           (!workload_ns_ || who.ns == *workload_ns_);
  }

  const FlowFilter& filter_;
  std::string_view workload_name_;
  std::optional<std::string_view> workload_ns_;
};

}  // namespace

std::size_t FlowHistory::FlowKeyHash::operator()(const FlowKey& key) const noexcept {
  std::uint64_t halves[2];
  std::copy_n(key.remote.bytes.begin(), 16, reinterpret_cast<std::uint8_t*>(halves));
  std::uint64_t rest = std::uint64_t{key.netns} << 32 | std::uint64_t{key.remote_port} << 16 |
                       std::uint64_t{key.direction} << 8 | key.protocol;
  return mix(mix(mix(mix(seed, key.socket), halves[0]), halves[1]), rest);
}

FlowHistory::FlowHistory(std::size_t capacity)
    : capacity_(std::max<std::size_t>(capacity, 1)), seed_(std::random_device{}()), open_(0, FlowKeyHash{seed_}) {
  rows_.reserve(capacity_);  // address space only; pages come with the rows
}

FlowHistory::FlowKey FlowHistory::key_of(const Flow& flow) {
  // The source opened the conversation, so the far end of an ingress flow is its source.
  const Party& remote = flow.direction == CASA_INGRESS ? flow.source : flow.destination;
  return {flow.socket,  remote.address, flow.netns, remote.port, static_cast<std::uint8_t>(flow.direction),
          flow.protocol};
}

std::uint64_t FlowHistory::denial_hash(const Flow& flow) const {
  std::uint64_t numbers = std::uint64_t{flow.destination.port} << 32 | static_cast<std::uint64_t>(flow.reason) << 24 |
                          static_cast<std::uint64_t>(flow.verdict) << 16 |
                          static_cast<std::uint64_t>(flow.direction) << 8 | flow.protocol;
  std::uint64_t name = std::hash<std::string_view>{}(asked_name(flow));
  return mix(mix(mix(mix(seed_, numbers), name), *flow.source.who), *flow.destination.who);
}

const FlowRow& FlowHistory::add(const Flow& flow) {
  if (flow.news == News::kDenied) return add_denial(flow);
  bool ends = flow.news == News::kEnd;
  FlowKey key = key_of(flow);
  auto it = open_.find(key);
  if (it == open_.end()) {
    FlowRow& row = append(flow, !ends);
    if (!ends) open_.emplace(key, row.id);
    return row;
  }
  FlowRow& row = row_of(it->second);
  if (ends) {
    update_counters(row.flow, flow);
    close_row(row, flow.last_seen);
    open_.erase(it);
    return row;
  }
  if (row.flow.verdict == flow.verdict) {
    if (flow.news == News::kStart) restart(row.flow, flow);
    else update_counters(row.flow, flow);
    return row;
  }
  close_row(row, flow.last_seen);
  casa_app app = row.app;
  casa_unread unread = row.unread;
  open_.erase(it);  // before append(), which may forget this very row
  FlowRow& next = append(flow, true);
  next.app = app;
  next.unread = unread;
  open_.emplace(key, next.id);
  return next;
}

const FlowRow& FlowHistory::add_denial(const Flow& flow) {
  std::uint64_t hash = denial_hash(flow);
  if (auto it = denials_.find(hash); it != denials_.end()) {
    FlowRow& row = row_of(it->second);
    // Two keys may share a hash: then the newer one gets a row of its own, and nothing is mixed up.
    if (same_denial(flow, row.flow) && flow.time < row.flow.time + kDenialWindow) {
      Flow& sum = row.flow;
      sum.count += flow.count;
      sum.time = std::min(sum.time, flow.time);
      sum.last_seen = std::max(sum.last_seen, flow.last_seen);
      sum.bytes_sent += flow.bytes_sent;
      sum.bytes_received += flow.bytes_received;
      sum.packets_sent += flow.packets_sent;
      sum.packets_received += flow.packets_received;
      // The first attempt may have been found without its process (a socket older than the programs).
      if (sum.source.pid == 0 && flow.source.pid != 0) sum.source = flow.source;
      return row;
    }
  }
  FlowRow& row = append(flow, false);
  denials_[hash] = row.id;
  return row;
}

FlowRow& FlowHistory::append(const Flow& flow, bool open) {
  std::uint64_t id = last_id_ + 1;
  if (rows_.size() < capacity_) {
    rows_.push_back(FlowRow{id, open, flow});
  } else {
    FlowRow& oldest = row_of(id);
    forget(oldest);
    oldest = FlowRow{id, open, flow};
  }
  last_id_ = id;
  if (static_cast<std::size_t>(flow.verdict) < made_by_verdict_.size())
    ++made_by_verdict_[static_cast<std::size_t>(flow.verdict)];
  return row_of(id);
}

// Takes the row out of the indexes, when they still mean this one.
void FlowHistory::forget(const FlowRow& row) {
  if (row.open) open_.erase(key_of(row.flow));
  if (row.flow.news != News::kDenied) return;
  auto it = denials_.find(denial_hash(row.flow));
  if (it != denials_.end() && it->second == row.id) denials_.erase(it);
}

FlowRow* FlowHistory::live_row(const Flow& flow) {
  auto it = flow.socket == 0 ? open_.end() : open_.find(key_of(flow));
  return it == open_.end() ? nullptr : &row_of(it->second);
}

std::uint64_t FlowHistory::carry(const event::Sighting& sighting) {
  FlowRow* row = live_row(sighting.flow);
  if (row == nullptr) return 0;
  if (sighting.shape != CASA_TOKEN_NONE) ++row->tokens;
  if (sighting.is_token()) {
    row->token = sighting.sha256;
    row->token_event = sighting.event;
  }
  row->flow.last_seen = std::max(row->flow.last_seen, sighting.flow.last_seen);
  return row->id;
}

FlowHistory::Spoken FlowHistory::speak(const event::AppNews& news) {
  FlowRow* row = live_row(news.flow);
  if (row == nullptr) return {0, true, true};
  Spoken spoken{row->id, news.app != CASA_APP_UNKNOWN && news.app != row->app,
                news.unread != CASA_UNREAD_NOTHING && news.unread != row->unread};
  if (spoken.app) row->app = news.app;
  if (spoken.unread) row->unread = news.unread;
  return spoken;
}

const FlowRow* FlowHistory::find(std::uint64_t id) const {
  return id == 0 || id > last_id_ || id <= last_id_ - rows_.size() ? nullptr : &row_of(id);
}

FlowHistory::Page FlowHistory::query(const FlowFilter& filter, std::size_t limit, std::uint64_t before_id) const {
  Page page;
  if (limit == 0) return page;
  Matcher matcher(filter);
  std::uint64_t oldest = last_id_ - rows_.size() + 1;
  std::uint64_t id = before_id == 0 || before_id > last_id_ ? last_id_ : before_id - 1;
  for (; id >= oldest && id != 0; --id) {
    const FlowRow& row = row_of(id);
    if (!matcher.matches(row.flow)) continue;
    if (page.rows.size() == limit) {
      page.next_before_id = page.rows.back().id;
      break;
    }
    page.rows.push_back(row);
  }
  return page;
}

std::size_t FlowHistory::size() const { return rows_.size(); }
std::uint64_t FlowHistory::total_added() const { return last_id_; }
std::uint64_t FlowHistory::forgotten() const { return last_id_ - rows_.size(); }

}  // namespace casa::store

#include "event/decoder.h"

#include <fmt/format.h>

#include <cstring>
#include <ctime>
#include <utility>

namespace casa::event {
namespace {

// As many as the kernel's table holds, and some that it has forgotten.
constexpr std::size_t kMaxDenialKeys = 4 * CASA_MAX_DENIALS;

std::string bytes_of(const casa_denial_key& key) { return {reinterpret_cast<const char*>(&key), sizeof key}; }

casa_denial_key key_of(const casa_event& r) {
  casa_denial_key key{};
  key.subject = r.subject;
  key.peer = r.peer;
  key.port = r.direction == CASA_EGRESS ? r.remote_port : r.local_port;
  key.protocol = r.protocol;
  key.direction = r.direction;
  key.reason = r.reason;
  return key;
}

std::int64_t now_ns(clockid_t clock) {
  timespec ts{};
  ::clock_gettime(clock, &ts);
  return ts.tv_sec * 1'000'000'000ll + ts.tv_nsec;
}

News news_of(std::uint8_t kind) {
  switch (kind) {
    case CASA_EVENT_FLOW_END: return News::kEnd;
    case CASA_EVENT_FLOW_UPDATE: return News::kUpdate;
    case CASA_EVENT_DENIED: return News::kDenied;
    default: return News::kStart;
  }
}

}  // namespace

std::uint64_t monotonic_ns() { return static_cast<std::uint64_t>(now_ns(CLOCK_MONOTONIC)); }

std::string asked_name(const casa_named_event& record) {
  constexpr std::size_t kLongestLabel = 24;
  std::string text, label;
  auto end_label = [&](std::size_t length) {
    if (!text.empty()) text += '.';
    text += length > kLongestLabel ? fmt::format("({})", length) : label;
    label.clear();
  };
  auto add = [&](char c) {
    bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '_';
    label += plain ? c : '?';
  };
  const char *at = record.name, *end = record.name + sizeof record.name;
  if (record.name_form == CASA_NAME_TEXT) {
    for (++at; at != end && *at != '\0'; ++at) {
      if (*at == '.') end_label(label.size());
      else add(*at);
    }
    if (!label.empty()) end_label(label.size());
  } else if (record.name_form == CASA_NAME_WIRE) {
    while (at != end && *at != '\0') {
      std::size_t length = static_cast<unsigned char>(*at++);
      if (length > 63) return text;
      for (std::size_t left = length; left > 0 && at != end; --left) add(*at++);
      end_label(length);  // as it claims to be, if the record has not all of it
    }
  }
  return text;
}

Decoder::Decoder() {
  add_name(CASA_ID_HOST, {PeerName::Kind::kHost, "", "host", "", "", ""});
  add_name(CASA_ID_WORLD, {PeerName::Kind::kWorld, "", "", "", "", ""});
  add_name(CASA_ID_NOBODY, {PeerName::Kind::kNobody, "", "", "", "", ""});
  add_name(CASA_ID_UNKNOWN, {PeerName::Kind::kUnknown, "", "", "", "", ""});
  add_name(CASA_ID_DNS, {PeerName::Kind::kDns, "", "", "", "", ""});
  unknown_ = names_.at(CASA_ID_UNKNOWN);
}

void Decoder::add_name(std::uint32_t identity, PeerName name) {
  auto& slot = names_[identity];
  if (slot && slot->ns == name.ns && slot->name == name.name && slot->workload_kind == name.workload_kind) return;
  slot = std::make_shared<const PeerName>(std::move(name));
}

void Decoder::add_instances(const std::vector<identity::CgroupInstance>& places, const Instances& before) {
  for (const auto& place : places) {
    auto known = before.find(place.id);
    bool same = known != before.end() && *known->second == place.path;
    instances_.emplace(place.id, same ? known->second : std::make_shared<const std::string>(place.path));
  }
}

void Decoder::add_workload(const identity::NamespacedName& name, const identity::Workload& w, const Instances& before) {
  add_name(w.identity, {PeerName::Kind::kWorkload, name.ns, name.name, w.kind, "", ""});
  add_instances(w.instances, before);
}

void Decoder::learn(const identity::Snapshot& snapshot, const identity::Followed& followed) {
  Instances before;
  for (auto id : followed.cgroups)
    if (auto known = instances_.extract(id)) before.insert(std::move(known));
  for (const auto& name : followed.workloads)
    if (auto w = snapshot.workloads.find(name); w != snapshot.workloads.end()) add_workload(name, w->second, before);
}

void Decoder::learn(const identity::Snapshot& snapshot, const identity::ObjectSet& objects,
                    identity::Allocator& allocator) {
  Instances before = std::exchange(instances_, {});
  for (const auto& [name, w] : snapshot.workloads) add_workload(name, w, before);
  for (const auto& [ns, mas] : snapshot.mas_namespaces) {
    add_name(mas.undeclared, {PeerName::Kind::kWorkload, ns, "(undeclared)", "Cgroup", "", ""});
    add_instances(mas.instances, before);
  }
  for (const auto& [name, service] : snapshot.services)
    if (!service.implicit)
      add_name(service.identity, {PeerName::Kind::kService, name.ns, name.name, "", name.name, ""});
  auto add_policy = [&](const policy::Meta& meta) {
    auto& slot = policies_[allocator.number_of(identity::NameKind::kPolicy, meta.ns, meta.name)];
    if (!slot) slot = std::make_shared<const std::string>(meta.ns + "/" + meta.name);
  };
  auto add_fqdn = [&](const std::optional<policy::LlmEndpoint>& llm) {
    if (llm)
      add_name(allocator.number_of(identity::NameKind::kFqdn, "", llm->fqdn),
               {PeerName::Kind::kFqdn, "", "", "", "", llm->fqdn});
  };
  objects.each<policy::CasaPolicy>([&](const policy::CasaPolicy& p) {
    add_policy(p.meta);
    add_fqdn(p.llm_endpoint);
    for (const auto& source : p.allowed_sources)
      if (const auto* prefix = std::get_if<IpPrefix>(&source.from))
        add_name(allocator.number_of(identity::NameKind::kPrefix, "", to_string(*prefix)),
                 {PeerName::Kind::kCidr, "", to_string(*prefix), "", "", ""});
  });
  objects.each<policy::MultiAgentSystem>([&](const policy::MultiAgentSystem& m) {
    add_policy(m.meta);
    add_fqdn(m.llm);
  });
  for (const auto& [name, service] : snapshot.services)
    for (const auto& port : service.ports)
      for (const auto& backend : port.backends)
        if (backend.workload.name.empty() && backend.identity >= CASA_ID_FIRST)
          add_name(backend.identity, {PeerName::Kind::kService, name.ns, name.name, "", name.name, ""});
}

std::shared_ptr<const PeerName> Decoder::name_of(std::uint32_t identity) const {
  auto it = names_.find(identity);
  return it == names_.end() ? unknown_ : it->second;
}

std::shared_ptr<const std::string> Decoder::policy_of(std::uint32_t rule) const {
  auto it = policies_.find(rule);
  return it == policies_.end() ? nullptr : it->second;
}

std::chrono::system_clock::time_point Decoder::wall_time(std::uint64_t monotonic_ns) const {
  std::int64_t age = now_ns(CLOCK_MONOTONIC) - static_cast<std::int64_t>(monotonic_ns);
  return std::chrono::system_clock::time_point(std::chrono::duration_cast<std::chrono::system_clock::duration>(
      std::chrono::nanoseconds(now_ns(CLOCK_REALTIME) - age)));
}

Flow Decoder::flow_of(const casa_event& r) const {
  Flow flow;
  flow.news = news_of(r.kind);
  flow.socket = r.cookie;
  flow.time = wall_time(r.start_ns);
  flow.last_seen = wall_time(r.time_ns);
  flow.verdict = static_cast<casa_verdict>(r.verdict);
  flow.reason = static_cast<casa_reason>(r.reason);
  flow.direction = static_cast<casa_direction>(r.direction);
  flow.protocol = r.protocol;
  flow.policy = policy_of(r.rule);
  flow.count = r.count;
  Party subject{name_of(r.subject), r.pid, {}, make_ip(r.local), r.local_port};
  std::memcpy(subject.comm.data(), r.comm, CASA_COMM_LEN);
  Party peer{name_of(r.peer), r.peer_pid, {}, make_ip(r.remote), r.remote_port};
  std::memcpy(peer.comm.data(), r.peer_comm, CASA_COMM_LEN);
  bool egress = r.direction == CASA_EGRESS;
  flow.source = egress ? subject : peer;
  flow.destination = egress ? std::move(peer) : std::move(subject);
  flow.bytes_sent = egress ? r.tx_bytes : r.rx_bytes;
  flow.bytes_received = egress ? r.rx_bytes : r.tx_bytes;
  flow.packets_sent = egress ? r.tx_packets : r.rx_packets;
  flow.packets_received = egress ? r.rx_packets : r.tx_packets;
  return flow;
}

std::optional<Flow> Decoder::decode(const casa_event& r, const casa_named_event* name) {
  if (r.kind == CASA_EVENT_CGROUP || r.kind < CASA_EVENT_FLOW_START || r.kind > CASA_EVENT_CGROUP) return std::nullopt;
  Flow flow = flow_of(r);
  if (name != nullptr) {
    if (std::string text = asked_name(*name); !text.empty())
      flow.asked_name = std::make_shared<const std::string>(std::move(text));
  }
  if (r.kind != CASA_EVENT_DENIED) return flow;
  if (denials_.size() >= kMaxDenialKeys) denials_.clear();
  KnownDenial& known = denials_[bytes_of(key_of(r))];
  // A smaller total: the kernel forgot the key and counts anew.
  std::uint32_t fresh = r.count >= known.total ? r.count - known.total : r.count;
  known.total = r.count;
  flow.count = fresh;
  known.last = flow;
  if (fresh == 0) return std::nullopt;
  return flow;
}

void Decoder::start_from(const casa_denial_key& key, const casa_denial& value) {
  denials_[bytes_of(key)].total = value.total;
}

std::optional<Flow> Decoder::pending(const casa_denial_key& key, const casa_denial& value) {
  auto it = denials_.find(bytes_of(key));
  if (it == denials_.end() || value.total <= it->second.total || !it->second.last.source.who) return std::nullopt;
  Flow flow = it->second.last;
  flow.count = value.total - it->second.total;
  it->second.total = value.total;
  flow.time = flow.last_seen = std::chrono::system_clock::now();
  return flow;
}

Flow Decoder::decode_udp(const casa_udp_key& key, const casa_sk& s, News news) {
  casa_event r{};
  r.kind = news == News::kEnd ? CASA_EVENT_FLOW_END : CASA_EVENT_FLOW_UPDATE;
  r.time_ns = static_cast<std::uint64_t>(now_ns(CLOCK_MONOTONIC));
  r.cookie = key.cookie;
  r.start_ns = s.start_ns;
  r.tx_bytes = s.tx_bytes;
  r.rx_bytes = s.rx_bytes;
  r.tx_packets = s.tx_packets;
  r.rx_packets = s.rx_packets;
  r.subject = s.subject;
  r.peer = s.peer;
  r.rule = s.rule;
  r.gen = s.gen;
  r.pid = s.pid;
  r.peer_pid = s.peer_pid;
  r.count = 1;
  std::memcpy(r.local, s.local, 16);
  std::memcpy(r.remote, s.remote, 16);
  r.local_port = s.local_port;
  r.remote_port = s.remote_port;
  r.verdict = s.verdict;
  r.reason = s.reason;
  r.direction = s.direction;
  r.protocol = static_cast<std::uint8_t>(policy::Protocol::kUdp);
  std::memcpy(r.comm, s.comm, CASA_COMM_LEN);
  std::memcpy(r.peer_comm, s.peer_comm, CASA_COMM_LEN);
  return flow_of(r);
}

}  // namespace casa::event

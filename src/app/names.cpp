// Names: what resolv.conf says of this node, what the daemon's own resolver finds, and what the kernel has learnt.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <ctime>

#include "app/daemon.h"
#include "base/log.h"

namespace casa::app {
namespace {

// What an answer brings serves its TTL, and until the resolver has surely asked again.
constexpr std::uint32_t kGraceSeconds = 60;

std::uint32_t monotonic_seconds() { return static_cast<std::uint32_t>(event::monotonic_ns() / 1'000'000'000); }

std::uint32_t seconds_left(const casa_learnt_slot& slot) {
  std::uint32_t now = monotonic_seconds();
  return slot.expires > now ? slot.expires - now : 0;
}

}  // namespace

Status Daemon::start_dns() {
  auto inspection = datapath_->features().find("inspection");
  dns_.inspected = inspection != datapath_->features().end() && inspection->second == "on";
  auto requests = datapath_->features().find("requests");
  tokens_.read = requests != datapath_->features().end() && requests->second == "on";
  dns_.resolvers = config_.resolvers;
  dns_.cluster_domain = config_.cluster_domain;
  resolver_ = std::make_unique<dns::Resolver>(
      io_,
      [this](const std::string& fqdn, const std::vector<dns::Record>& records) {
        learn(fqdn, records, kGraceSeconds);
        if (own_names().contains(fqdn)) tell_servers();
      },
      [](const std::string&) {});
  resolv_conf_ = std::make_unique<dns::ResolvConfWatch>(
      io_, config_.resolv_conf, [this](const dns::ResolvConf& conf) { on_resolv_conf(conf); },
      [this](const std::string& problem) {
        note_problem("resolv.conf", config_.resolvers.empty() ? problem : "");
        if (!dns_known_) on_resolv_conf({});
      });
  resolver_->set_names(own_names());
  return resolv_conf_->start();
}

void Daemon::on_resolv_conf(const dns::ResolvConf& conf) {
  dns_known_ = true;
  dns_.search = conf.search;
  if (config_.resolvers.empty()) {
    dns_.resolvers.clear();
    for (const auto& server : conf.nameservers) dns_.resolvers.push_back(server.address);
  }
  std::vector<dns::Nameserver> servers;
  servers.reserve(dns_.resolvers.size());
  for (const auto& ip : dns_.resolvers) servers.push_back({ip, 53});
  resolver_->set_servers(std::move(servers));
  schedule_rebuild(Scope::kAll);
}

// For every workload that may call the name. A lifetime is only ever made longer by this.
void Daemon::learn(const std::string& fqdn, const std::vector<dns::Record>& records, std::uint32_t least_seconds) {
  auto name = compiled_.names.find(fqdn);
  if (name == compiled_.names.end()) return;
  std::string problem;
  for (const auto& record : records) {
    auto ttl = std::clamp<std::int64_t>(record.ttl.count(), 0, CASA_LEARNT_SECONDS_MAX) + least_seconds;
    for (auto subject : name->second.subjects) {
      casa_learn_call call{};
      call.key.subject = subject;
      std::copy(record.address.bytes.begin(), record.address.bytes.end(), call.key.address);
      call.identity = name->second.identity;
      call.ttl = static_cast<std::uint32_t>(ttl);
      call.sources = CASA_LEARNT_RESOLVER;
      if (Status learnt = datapath_->learn(call); !learnt) problem = learnt.error().context;
    }
  }
  note_problem("name " + fqdn, problem);
}

// Of the servers that casad itself asks: whoever gives the keys, the API server.
std::set<std::string> Daemon::own_names() const {
  std::set<std::string> names;
  if (signatures_ && !signatures_->host().empty()) names.insert(signatures_->host());
  if (!api_host_.empty()) names.insert(api_host_);
  return names;
}

void Daemon::tell_servers() {
  auto states = resolver_->states();
  auto addresses_of = [&](const std::string& host) {
    std::vector<IpAddress> addresses;
    for (const auto& record : states[host].good) addresses.push_back(record.address);
    return addresses;
  };
  if (signatures_ && !signatures_->host().empty()) signatures_->set_addresses(addresses_of(signatures_->host()));
  if (api_host_.empty()) return;
  kubernetes_->set_addresses(addresses_of(api_host_));
  status_writer_->set_addresses(addresses_of(api_host_));
}

// After a change of generation: other names, or other workloads that may call them.
void Daemon::follow_names() {
  std::set<std::string> names;
  for (const auto& [fqdn, peer] : compiled_.names)
    if (!peer.subjects.empty()) names.insert(fqdn);
  names.merge(own_names());
  resolver_->set_names(names);
  keep_names();
}

// The last good addresses serve on for as long as the daemon does, through whatever the resolvers answer since.
void Daemon::keep_names() {
  for (const auto& [fqdn, state] : resolver_->states()) {
    std::vector<dns::Record> records = state.good;
    for (auto& record : records) record.ttl = {};
    learn(fqdn, records, kGraceSeconds);
  }
}

std::vector<api::EndpointView> Daemon::named_endpoints() const {
  std::map<std::uint32_t, std::string> workloads;
  for (const auto& [name, w] : snapshot_.workloads) workloads.emplace(w.identity, name.ns + "/" + name.name);
  auto states = resolver_->states();
  auto learnt = datapath_->learnt();
  std::vector<api::EndpointView> views;
  for (const auto& [fqdn, peer] : compiled_.names) {
    api::EndpointView view;
    view.fqdn = fqdn;
    view.protocol = "tcp";
    view.used_by = {peer.used_by.begin(), peer.used_by.end()};
    for (auto subject : peer.subjects) view.callers.push_back(workloads[subject]);
    for (const auto& entry : learnt) {
      for (const auto& slot : entry.value.slots) {
        if (slot.identity != peer.identity) continue;
        api::EndpointView::NamedAddress address{
            to_string(make_ip(entry.key.address)), {}, seconds_left(slot), workloads[entry.key.subject]};
        if (slot.sources & CASA_LEARNT_ANSWER) address.sources.emplace_back("answer");
        if (slot.sources & CASA_LEARNT_RESOLVER) address.sources.emplace_back("resolver");
        view.resolved.push_back(std::move(address));
      }
    }
    std::ranges::sort(view.resolved, {}, [](const auto& a) { return std::tie(a.workload, a.address); });
    bool live = std::ranges::any_of(view.resolved, [](const auto& a) { return a.seconds_left > 0; });
    view.state = live ? "resolved" : view.resolved.empty() ? "never resolved" : "no address in force";
    if (auto state = states.find(fqdn); state != states.end()) view.last_error = state->second.last_error;
    for (auto port : peer.ports) {
      view.port = port;
      views.push_back(view);
    }
  }
  return views;
}

// By FQDN: what there is to say after the name.
std::map<std::string, std::string> Daemon::name_states() const {
  std::map<std::string, std::string> texts;
  for (const auto& view : named_endpoints()) {
    std::set<std::string> addresses;
    for (const auto& address : view.resolved)
      if (address.seconds_left > 0) addresses.insert(address.address);
    std::string text = view.state == "never resolved" ? "has never resolved" : "has no address in force";
    if (!addresses.empty()) text = fmt::format("is {} now", fmt::join(addresses, ", "));
    if (!view.last_error.empty()) text += fmt::format(" ({})", view.last_error);
    texts[view.fqdn] = std::move(text);
  }
  return texts;
}

}  // namespace casa::app

// News of tokens from the ring: each sighting to its flow's row, to the ledger, the counts and the alerts.
#include "app/daemon.h"
#include "base/log.h"
#include "casa/abi/tls.h"

namespace casa::app {
namespace {

std::uint32_t tls_kinds(policy::TlsObserver observer) {
  switch (observer) {
    case policy::TlsObserver::kOpenssl: return CASA_TLS_OPENSSL;
    case policy::TlsObserver::kNode: return CASA_TLS_NODE;
    case policy::TlsObserver::kGo: return CASA_TLS_GO;
    case policy::TlsObserver::kAuto: return CASA_TLS_KINDS;
  }
  return 0;
}

}  // namespace

void Daemon::handle_token(const casa_token_event& record) {
  if (auto sighting = decoder_.decode_sighting(record, config_.event_classes)) {
    std::uint64_t flow_id = history_.carry(*sighting);
    feed_.publish(*sighting, flow_id);
    for (const auto* alert : tracker_.see(*sighting, flow_id)) tell(*alert);
    return;
  }
  if (auto news = decoder_.decode_app(record)) {
    auto spoken = history_.speak(*news);
    for (const auto* alert : tracker_.see(*news, spoken.row_id, spoken.app, spoken.unread)) tell(*alert);
  }
}

// What policies wish for, with the instances that there are now.
void Daemon::follow_tls() {
  std::map<std::uint32_t, std::uint32_t> kinds;
  for (const auto& [subject, observers] : compiled_.tls_observers)
    for (policy::TlsObserver observer : observers) kinds[subject] |= tls_kinds(observer);
  tls_observers_->wish(make_wishes(mount_, snapshot_, kinds));
}

void Daemon::set_signature(const event::Sha256& sha256, casa_signature signature) {
  for (const auto* alert : tracker_.set_signature(sha256, signature)) tell(*alert);
}

void Daemon::tell(const token::Alert& alert) {
  spdlog::warn("alert {} {}: {}", alert.id, token::to_string(alert.kind), alert.message);
  feed_.publish(alert);
  if (status_writer_) status_writer_->tell(alert, std::chrono::steady_clock::now());
}

// Counters of a live flow are no event: a stream of them would push everything else out.
void Daemon::keep(const event::Flow& flow) {
  const auto& row = history_.add(flow);
  if (flow.news != event::News::kUpdate) feed_.publish(row);
}

}  // namespace casa::app

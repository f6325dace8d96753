// News of tokens from the ring: each sighting to its flow's row, to the ledger, the counts and the alerts.
#include "app/daemon.h"
#include "base/log.h"

namespace casa::app {

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

void Daemon::set_signature(const event::Sha256& sha256, casa_signature signature) {
  for (const auto* alert : tracker_.set_signature(sha256, signature)) tell(*alert);
}

void Daemon::tell(const token::Alert& alert) {
  spdlog::warn("alert {} {}: {}", alert.id, token::to_string(alert.kind), alert.message);
  feed_.publish(alert);
}

// Counters of a live flow are no event: a stream of them would push everything else out.
void Daemon::keep(const event::Flow& flow) {
  const auto& row = history_.add(flow);
  if (flow.news != event::News::kUpdate) feed_.publish(row);
}

}  // namespace casa::app

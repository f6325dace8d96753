// Everything that is known of tokens, in one place: the ledger, the alerts, the counts. One call per news.
#pragma once

#include "token/activity.h"
#include "token/alerts.h"
#include "token/ledger.h"

namespace casa::token {

class Tracker {
 public:
  // `flow_id`: the row of the flow history that the request belongs to; 0: none. The alerts that are worth telling.
  AlertBook::Told see(const event::Sighting& sighting, std::uint64_t flow_id) {
    Step step = step_of(sighting, flow_id);
    const TokenRow* row = sighting.is_token() ? &ledger_.add(sighting, step) : nullptr;
    activity_.count(sighting);
    return alerts_.judge(sighting, step, row);
  }

  AlertBook::Told see(const event::AppNews& news, std::uint64_t flow_id, bool app, bool unread) {
    activity_.cover(news, app, unread);
    return alerts_.judge(news, flow_id);
  }

  // What a verifier found. A token that the ledger does not know (any more) is nobody's.
  AlertBook::Told set_signature(const event::Sha256& sha256, casa_signature signature) {
    const TokenRow* row = ledger_.set_signature(sha256, signature);
    return row == nullptr ? AlertBook::Told{} : alerts_.judge_signature(*row);
  }

  AlertBook::Told conflict(const std::string& ns, std::string message, Time now) {
    return alerts_.conflict(ns, std::move(message), now);
  }

  [[nodiscard]] const Ledger& ledger() const { return ledger_; }
  [[nodiscard]] const AlertBook& alerts() const { return alerts_; }
  [[nodiscard]] const Activity& activity() const { return activity_; }

 private:
  Ledger ledger_;
  AlertBook alerts_;
  Activity activity_;
};

}  // namespace casa::token

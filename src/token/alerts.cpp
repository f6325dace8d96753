// See alerts.h. What is found of one sighting is in judge(); everything else keeps the book.
#include "token/alerts.h"

#include <fmt/format.h>

#include <algorithm>

namespace casa::token {
namespace {

using event::PeerName;
using event::Sighting;
using std::chrono::seconds;

constexpr seconds kFirstMinute{60};

// Where no policy's endpoint can be: outside of the system of agents.
bool is_external(const Place& place) {
  if (!place.who) return false;
  switch (place.who->kind) {
    case PeerName::Kind::kFqdn:
    case PeerName::Kind::kWorld:
    case PeerName::Kind::kCidr: return true;
    default: return false;
  }
}

// Reasons below CASA_REASON_FIRST_DENY are rules that allow.
bool is_allowed_endpoint(casa_reason reason) {
  return reason != CASA_REASON_NONE && static_cast<int>(reason) < CASA_REASON_FIRST_DENY;
}

// A destination that is known by nothing (an observer of TLS has no socket) cannot be judged.
bool is_known(const Place& place) {
  return place.who && (place.who->kind != PeerName::Kind::kUnknown || place.address || place.port != 0);
}

bool went_there_in_its_first_minute(const TokenRow* row, const Place& destination) {
  if (row == nullptr) return false;
  auto known = std::ranges::find(row->destinations, destination, &Visit::place);
  return known != row->destinations.end() && known->first_seen <= row->first_seen + kFirstMinute;
}

// The workload that presented the token before this one did; null when this one was the first.
const Visit* other_presenter(const TokenRow& row, const Place& presenter) {
  auto first = std::ranges::find_if(row.presenters, [](const Visit& v) { return v.egress && is_workload(v.place); });
  return first == row.presenters.end() || first->place == presenter ? nullptr : &*first;
}

// "token 1a2b3c4d5e6f" for people; the whole hash stands beside it.
std::string called(const std::optional<event::Sha256>& sha256) {
  return sha256 ? "the token " + event::to_hex(*sha256).substr(0, 12) : "a token that was not hashed";
}

Alert make(AlertKind kind, Severity severity, const Step& step, const TokenRow* row) {
  Alert alert;
  alert.kind = kind;
  alert.severity = severity;
  alert.time = alert.last_seen = step.time;
  if (row != nullptr) alert.sha256 = row->sha256;
  // The subject: the caller, unless only the callee's side was seen.
  alert.workload = step.source;
  alert.destination = step.destination;
  if (row != nullptr && !row->steps.empty()) alert.first = row->steps.front();
  alert.sighting = step;
  return alert;
}

std::string key_of(const Alert& alert) {
  std::string key(1, static_cast<char>(alert.kind));
  auto add = [&](std::string_view part) {
    key += part;
    key += '\0';
  };
  if (alert.sha256) key.append(reinterpret_cast<const char*>(alert.sha256->data()), alert.sha256->size());
  add("");
  for (const Place* place : {&alert.workload, &alert.destination}) {
    add(place->who ? event::to_string(place->who->kind) : "");
    add(to_string(*place));
  }
  if (alert.kind == AlertKind::kObjectConflict) add(alert.message);
  return key;
}

const char* why_signature(casa_signature signature) {
  switch (signature) {
    case CASA_SIGNATURE_INVALID: return "whose signature is not its issuer's";
    case CASA_SIGNATURE_EXPIRED: return "that has expired, or is not valid yet";
    case CASA_SIGNATURE_UNKNOWN_KEY: return "that is signed with a key which its issuer does not publish";
    case CASA_SIGNATURE_VALID:
    case CASA_SIGNATURE_UNVERIFIED: break;
  }
  return nullptr;
}

Alert signature_alert(const Step& step, const TokenRow* row, casa_signature signature) {
  Alert alert = make(AlertKind::kInvalidSignature,
                     signature == CASA_SIGNATURE_INVALID ? Severity::kHigh : Severity::kMedium, step, row);
  const char* why = why_signature(signature);
  alert.message =
      fmt::format("{} presented {} {} to {}.", to_string(step.source), called(alert.sha256),
                  why == nullptr ? "whose signature has not been found valid" : why, to_string(step.destination));
  return alert;
}

Alert destination_alert(const Step& step, const TokenRow* row, bool blocked) {
  bool external = is_external(step.destination);
  Alert alert =
      make(AlertKind::kUnexpectedDestination, external && !blocked ? Severity::kCritical : Severity::kHigh, step, row);
  alert.blocked = blocked;
  alert.message =
      fmt::format("{} {} {} to {}, which {}.", to_string(step.source), blocked ? "was kept from sending" : "sent",
                  called(alert.sha256), to_string(step.destination),
                  external ? "is outside of the system"
                           : "is no allowed endpoint and not where the token went in its first minute");
  return alert;
}

}  // namespace

const char* to_string(AlertKind kind) {
  switch (kind) {
    case AlertKind::kUnexpectedDestination: return "token_unexpected_destination";
    case AlertKind::kReplay: return "token_replay";
    case AlertKind::kInvalidSignature: return "token_invalid_signature";
    case AlertKind::kAlgNone: return "token_alg_none";
    case AlertKind::kDuplicateAuthorization: return "duplicate_authorization";
    case AlertKind::kAmbiguousHttp: return "ambiguous_http";
    case AlertKind::kObjectConflict: break;
  }
  return "object_conflict";
}

const char* to_string(Severity severity) {
  switch (severity) {
    case Severity::kMedium: return "medium";
    case Severity::kHigh: return "high";
    case Severity::kCritical: break;
  }
  return "critical";
}

AlertBook::AlertBook(std::size_t capacity) : capacity_(std::max<std::size_t>(capacity, 1)) {}

AlertBook::Told AlertBook::judge(const Sighting& s, const Step& step, const TokenRow* row) {
  Told told;
  if (s.shape == CASA_TOKEN_NONE) return told;
  bool egress = s.flow.direction == CASA_EGRESS;
  bool stopped = s.refused() && s.flow.reason == CASA_REASON_TOKEN_UNEXPECTED_DESTINATION;
  bool unexpected = egress && is_known(step.destination) &&
                    (is_external(step.destination) || (!s.refused() && !is_allowed_endpoint(s.flow.reason) &&
                                                       !went_there_in_its_first_minute(row, step.destination)));
  if (stopped || unexpected) raise(destination_alert(step, row, s.refused()), step.flow_id, told);
  if (egress && row != nullptr && is_workload(step.source)) {
    if (const Visit* first = other_presenter(*row, step.source)) {
      Alert alert = make(AlertKind::kReplay, Severity::kHigh, step, row);
      alert.message = fmt::format("{} presented {} to {}, which {} had presented first.", to_string(step.source),
                                  called(alert.sha256), to_string(step.destination), to_string(first->place));
      raise(std::move(alert), step.flow_id, told);
    }
  }
  bool refused_signature = s.refused() && s.flow.reason == CASA_REASON_TOKEN_INVALID_SIGNATURE;
  if (refused_signature || why_signature(s.signature) != nullptr) {
    Alert alert = signature_alert(step, row, s.signature);
    alert.blocked = refused_signature;
    raise(std::move(alert), step.flow_id, told);
  }
  if (s.alg_none) {
    Alert alert = make(AlertKind::kAlgNone, Severity::kHigh, step, row);
    alert.message = fmt::format("{} presented {} to {}, whose header says that it is not signed (alg none).",
                                to_string(step.source), called(alert.sha256), to_string(step.destination));
    raise(std::move(alert), step.flow_id, told);
  }
  if (s.duplicate) {
    Alert alert = make(AlertKind::kDuplicateAuthorization, Severity::kMedium, step, row);
    alert.message = fmt::format(
        "{} sent {} a request with more than one Authorization header: two readers may take two different tokens from "
        "it.",
        to_string(step.source), to_string(step.destination));
    raise(std::move(alert), step.flow_id, told);
  }
  return told;
}

AlertBook::Told AlertBook::judge(const event::AppNews& news, std::uint64_t flow_id) {
  Told told;
  if (news.unread != CASA_UNREAD_AMBIGUOUS) return told;
  Alert alert;
  alert.kind = AlertKind::kAmbiguousHttp;
  alert.severity = Severity::kMedium;
  alert.time = alert.last_seen = news.flow.last_seen;
  alert.workload = caller_of(news.flow);
  alert.destination = callee_of(news.flow);
  alert.blocked = news.flow.verdict == CASA_DENIED;
  alert.message =
      fmt::format("{} sent {} HTTP that two readers would read in two ways; its connection is not read any further.",
                  to_string(alert.workload), to_string(alert.destination));
  raise(std::move(alert), flow_id, told);
  return told;
}

AlertBook::Told AlertBook::conflict(const std::string& ns, std::string message, Time now) {
  Told told;
  Alert alert;
  alert.kind = AlertKind::kObjectConflict;
  alert.severity = Severity::kMedium;
  alert.time = alert.last_seen = now;
  alert.workload.who = std::make_shared<const PeerName>(PeerName{.kind = PeerName::Kind::kNobody, .ns = ns});
  alert.message = std::move(message);
  raise(std::move(alert), 0, told);
  return told;
}

AlertBook::Told AlertBook::judge_signature(const TokenRow& row) {
  Told told;
  if (row.steps.empty() || why_signature(row.signature) == nullptr) return told;
  // The first one of all is the one who should answer for it.
  const Step& step = row.steps.front();
  raise(signature_alert(step, &row, row.signature), step.flow_id, told);
  return told;
}

void AlertBook::raise(Alert alert, std::uint64_t flow_id, Told& told) {
  ++counts_[static_cast<std::size_t>(alert.kind)];
  std::string key = key_of(alert);
  if (auto known = by_key_.find(key); known != by_key_.end()) {
    Entry& entry = alerts_.at(known->second);
    ages_.splice(ages_.end(), ages_, entry.age);
    Alert& a = entry.alert;
    bool tell = (alert.blocked && !a.blocked) || alert.last_seen >= a.told + kTellAgain;
    ++a.count;
    a.last_seen = std::max(a.last_seen, alert.last_seen);
    a.blocked = a.blocked || alert.blocked;
    a.severity = alert.severity;
    a.message = std::move(alert.message);
    if (alert.sighting) a.sighting = std::move(alert.sighting);
    if (flow_id != 0 && std::ranges::find(a.flow_ids, flow_id) == a.flow_ids.end()) {
      if (a.flow_ids.size() == kMaxFlows) a.flow_ids.pop_back();
      a.flow_ids.push_back(flow_id);
    }
    if (tell) {
      a.told = a.last_seen;
      told.push_back(&a);
    }
    return;
  }
  if (alerts_.size() == capacity_) {
    auto oldest = alerts_.find(ages_.front());
    ages_.pop_front();
    by_key_.erase(oldest->second.key);
    std::erase(told, &oldest->second.alert);
    alerts_.erase(oldest);
  }
  alert.id = ++last_id_;
  alert.told = alert.time;
  if (flow_id != 0) alert.flow_ids.push_back(flow_id);
  by_key_.emplace(key, alert.id);
  auto age = ages_.insert(ages_.end(), alert.id);
  auto [entry, added] = alerts_.emplace(last_id_, Entry{std::move(alert), std::move(key), age});
  told.push_back(&entry->second.alert);
}

AlertBook::Page AlertBook::query(const AlertFilter& filter, std::size_t limit, std::uint64_t before_id) const {
  Page page;
  if (limit == 0) return page;
  auto fits = [&](const Alert& a) {
    if (filter.kind && a.kind != *filter.kind) return false;
    if (filter.since && a.last_seen < *filter.since) return false;
    if (filter.until && a.last_seen >= *filter.until) return false;
    if (filter.ns.empty() && filter.workload.empty()) return true;
    return matches(a.workload, filter.ns, filter.workload) || matches(a.destination, filter.ns, filter.workload);
  };
  auto it = before_id == 0 ? alerts_.end() : alerts_.lower_bound(before_id);
  while (it != alerts_.begin()) {
    --it;
    const Alert& alert = it->second.alert;
    if (!fits(alert)) continue;
    if (page.rows.size() == limit) {
      page.next_before_id = page.rows.back()->id;
      break;
    }
    page.rows.push_back(&alert);
  }
  return page;
}

}  // namespace casa::token

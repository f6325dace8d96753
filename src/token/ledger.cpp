// See ledger.h.
#include "token/ledger.h"

#include <algorithm>
#include <cstring>
#include <random>

#include "token/mix.h"

namespace casa::token {

using event::PeerName;
using event::Sighting;

namespace {

const IpAddress kNoAddress{};

// Names that stand for more than one machine.
bool needs_address(const PeerName& who) {
  switch (who.kind) {
    case PeerName::Kind::kWorkload:
    case PeerName::Kind::kService:
    case PeerName::Kind::kFqdn: return false;
    default: return true;
  }
}

Place place_of(const event::Party& party, std::uint16_t port) {
  Place place{party.who, std::nullopt, port};
  if (party.who && needs_address(*party.who) && party.address != kNoAddress) place.address = party.address;
  return place;
}

// Whether there was no room for a new place.
bool visit(std::vector<Visit>& visits, const Place& place, const Step& step, bool egress) {
  auto known = std::ranges::find(visits, place, &Visit::place);
  if (known == visits.end()) {
    if (visits.size() == Ledger::kMaxPlaces) return true;
    visits.push_back({place, step.time, step.time, 1, egress});
    return false;
  }
  known->last_seen = std::max(known->last_seen, step.time);
  known->egress = known->egress || egress;
  ++known->count;
  return false;
}

bool row_matches(const TokenRow& row, const TokenFilter& filter) {
  if (filter.since && row.last_seen < *filter.since) return false;
  if (filter.until && row.last_seen >= *filter.until) return false;
  if (filter.ns.empty() && filter.workload.empty()) return true;
  auto fits = [&](const Visit& v) { return matches(v.place, filter.ns, filter.workload); };
  return std::ranges::any_of(row.presenters, fits) || std::ranges::any_of(row.destinations, fits);
}

}  // namespace

bool Place::operator==(const Place& other) const {
  if (port != other.port || address != other.address) return false;
  if (who == other.who) return true;
  return who && other.who && who->kind == other.who->kind && who->ns == other.who->ns && who->name == other.who->name &&
         who->fqdn == other.who->fqdn;
}

Place caller_of(const event::Flow& flow) { return place_of(flow.source, 0); }
Place callee_of(const event::Flow& flow) { return place_of(flow.destination, flow.destination.port); }

std::string to_string(const Place& place) {
  std::string name = "unknown";
  if (place.address) {
    if (place.port != 0) return with_port(*place.address, place.port);
    name = to_string(*place.address);
  } else if (place.who && !place.who->fqdn.empty()) {
    name = place.who->fqdn;
  } else if (place.who && !place.who->name.empty()) {
    name = place.who->ns.empty() ? place.who->name : place.who->ns + "/" + place.who->name;
  } else if (place.who) {
    name = event::to_string(place.who->kind);
  }
  return place.port == 0 ? name : name + ":" + std::to_string(place.port);
}

bool is_workload(const Place& place) { return place.who && place.who->kind == PeerName::Kind::kWorkload; }

bool matches(const Place& place, std::string_view ns, std::string_view workload) {
  if (!place.who) return false;
  if (!ns.empty() && place.who->ns != ns) return false;
  if (workload.empty()) return true;
  if (!is_workload(place)) return false;
  auto slash = workload.find('/');
  if (slash == std::string_view::npos) return place.who->name == workload;
  return place.who->ns == workload.substr(0, slash) && place.who->name == workload.substr(slash + 1);
}

Step step_of(const Sighting& s, std::uint64_t flow_id) {
  Step step;
  step.time = s.flow.last_seen;
  step.source = caller_of(s.flow);
  step.destination = callee_of(s.flow);
  step.policy = s.flow.policy;
  step.instance = s.instance.path;
  step.request = std::make_shared<const std::string>(s.path.empty() ? s.method : s.method + " " + s.path);
  step.flow_id = flow_id;
  step.direction = s.flow.direction;
  step.verdict = s.flow.verdict;
  step.reason = s.flow.reason;
  step.event = s.event;
  step.via = s.via;
  step.signature = s.signature;
  step.duplicate = s.duplicate;
  return step;
}

std::vector<Step> TokenRow::path() const {
  std::vector<Step> out(steps);
  if (sightings > steps.size()) {
    auto ring = static_cast<std::ptrdiff_t>((sightings - Ledger::kFirstSteps) % Ledger::kLastSteps);
    auto first = out.begin() + Ledger::kFirstSteps;
    std::rotate(first, first + ring, out.end());
  }
  return out;
}

std::size_t Ledger::HashOfHash::operator()(const event::Sha256& hash) const noexcept {
  std::uint64_t head = 0;
  std::memcpy(&head, hash.data(), sizeof head);
  return mix(seed, head);
}

Ledger::Ledger(LedgerLimits limits)
    : limits_{std::max<std::size_t>(limits.tokens, 1), std::max(limits.steps, kFirstSteps + kLastSteps)},
      by_hash_(0, HashOfHash{random_seed()}) {}

const TokenRow& Ledger::add(const Sighting& s, const Step& step) {
  auto& slot = by_hash_[s.sha256];
  if (!slot) {
    slot = std::make_unique<Entry>();
    slot->age = ages_.insert(ages_.end(), slot.get());
    TokenRow& fresh = slot->row;
    fresh.id = ++last_id_;
    fresh.sha256 = s.sha256;
    fresh.length = s.length;
    fresh.first_seen = fresh.last_seen = step.time;
    by_id_.emplace(fresh.id, &fresh);
  }
  Entry& entry = *slot;
  ages_.splice(ages_.end(), ages_, entry.age);
  TokenRow& row = entry.row;
  // JWT: only a whole token has that shape, and alg none is its own word.
  if (s.shape == CASA_TOKEN_JWT) row.shape = CASA_TOKEN_JWT;
  row.alg_none = row.alg_none || s.alg_none;
  if (s.signature != CASA_SIGNATURE_UNVERIFIED) row.signature = s.signature;
  row.last_seen = std::max(row.last_seen, step.time);
  if (s.duplicate) ++row.duplicates;
  else if (s.refused()) ++row.refused;
  else ++row.counts[static_cast<std::size_t>(s.event)];
  if (visit(row.presenters, step.source, step, s.flow.direction == CASA_EGRESS)) ++row.more_presenters;
  if (visit(row.destinations, step.destination, step, false)) ++row.more_destinations;
  append(row, step);
  while (by_id_.size() > limits_.tokens || (steps_ > limits_.steps && by_id_.size() > 1)) forget_oldest();
  return row;
}

void Ledger::append(TokenRow& row, const Step& step) {
  Step kept = step;
  if (!row.steps.empty() && row.steps.back().request && *row.steps.back().request == *kept.request)
    kept.request = row.steps.back().request;
  if (row.steps.size() < kFirstSteps + kLastSteps) {
    row.steps.push_back(std::move(kept));
    ++steps_;
  } else {
    row.steps[kFirstSteps + (row.sightings - kFirstSteps) % kLastSteps] = std::move(kept);
  }
  ++row.sightings;
}

void Ledger::forget_oldest() {
  Entry* oldest = ages_.front();
  ages_.pop_front();
  steps_ -= oldest->row.steps.size();
  by_id_.erase(oldest->row.id);
  by_hash_.erase(event::Sha256(oldest->row.sha256));
}

const TokenRow* Ledger::set_signature(const event::Sha256& sha256, casa_signature signature) {
  auto it = by_hash_.find(sha256);
  if (it == by_hash_.end()) return nullptr;
  it->second->row.signature = signature;
  return &it->second->row;
}

const TokenRow* Ledger::find(const event::Sha256& sha256) const {
  auto it = by_hash_.find(sha256);
  return it == by_hash_.end() ? nullptr : &it->second->row;
}

Ledger::Page Ledger::query(const TokenFilter& filter, std::size_t limit, std::uint64_t before_id) const {
  Page page;
  if (limit == 0) return page;
  auto it = before_id == 0 ? by_id_.end() : by_id_.lower_bound(before_id);
  while (it != by_id_.begin()) {
    --it;
    if (!row_matches(*it->second, filter)) continue;
    if (page.rows.size() == limit) {
      page.next_before_id = page.rows.back()->id;
      break;
    }
    page.rows.push_back(it->second);
  }
  return page;
}

}  // namespace casa::token

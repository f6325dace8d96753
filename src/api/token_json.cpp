// See json.h: tokens, their steps, alerts.
#include "api/json.h"
#include "base/text.h"

namespace casa::api {
namespace {

using token::Place;
using token::Step;
using token::TokenRow;
using token::Visit;

// Members of an object.
void write_place(JsonWriter& out, const Place& place) {
  if (place.who) write_who(out, *place.who);
  else out.field("kind", "unknown");
  if (place.address) out.field("address", to_string(*place.address));
  if (place.port != 0) out.field("port", place.port);
}

void write_place(JsonWriter& out, std::string_view name, const Place& place) {
  out.key(name).begin_object();
  write_place(out, place);
  out.end_object();
}

void write_visits(JsonWriter& out, std::string_view name, const std::vector<Visit>& visits) {
  out.key(name).begin_array();
  for (const auto& visit : visits) {
    out.begin_object();
    write_place(out, visit.place);
    out.field("firstSeen", format_time(visit.first_seen))
        .field("lastSeen", format_time(visit.last_seen))
        .field("count", visit.count)
        .end_object();
  }
  out.end_array();
}

void write_step(JsonWriter& out, const Step& step) {
  out.begin_object().field("time", format_time(step.time)).field("event", event::to_string(step.event));
  if (step.request && !step.request->empty()) out.field("request", *step.request);
  write_place(out, "source", step.source);
  write_place(out, "destination", step.destination);
  out.field("direction", event::to_string(step.direction));
  if (step.verdict != CASA_NO_VERDICT) out.field("verdict", event::to_string(step.verdict));
  if (step.reason != CASA_REASON_NONE) out.field("reason", event::to_string(step.reason));
  if (step.policy && !step.policy->empty()) out.field("policy", *step.policy);
  if (step.instance) out.field("instance", *step.instance);
  if (step.flow_id != 0) out.field("flow", std::to_string(step.flow_id));
  out.field("via", event::to_string(step.via)).field("signature", event::to_string(step.signature));
  if (step.duplicate) out.field("duplicate", true);
  out.end_object();
}

void write_row(JsonWriter& out, const TokenRow& row) {
  auto count = [&](event::EventClass event) { return row.counts[static_cast<std::size_t>(event)]; };
  out.begin_object()
      .field("sha256", event::to_hex(row.sha256))
      .field("shape", event::to_string(row.shape))
      .field("length", row.length)
      .field("algNone", row.alg_none)
      .field("signature", event::to_string(row.signature))
      .field("firstSeen", format_time(row.first_seen))
      .field("lastSeen", format_time(row.last_seen))
      .key("counts")
      .begin_object()
      .field("issuance", count(event::EventClass::kIssuance))
      .field("exchange", count(event::EventClass::kExchange))
      .field("introspection", count(event::EventClass::kIntrospection))
      .field("use", count(event::EventClass::kUse))
      .field("refused", row.refused)
      .field("duplicate", row.duplicates)
      .end_object();
  if (!row.presenters.empty()) write_place(out, "firstPresenter", row.presenters.front().place);
  write_visits(out, "presenters", row.presenters);
  write_visits(out, "destinations", row.destinations);
  if (row.more_presenters != 0) out.field("morePresenters", row.more_presenters);
  if (row.more_destinations != 0) out.field("moreDestinations", row.more_destinations);
  out.field("sightings", row.sightings);
}

// Members of an object.
void write_counts(JsonWriter& out, const token::Counts& counts, Time now) {
  auto count = [&](event::EventClass event) { return counts.events[static_cast<std::size_t>(event)]; };
  out.field("issuances", count(event::EventClass::kIssuance))
      .field("exchanges", count(event::EventClass::kExchange))
      .field("introspections", count(event::EventClass::kIntrospection))
      .field("uses", count(event::EventClass::kUse))
      .field("refused", counts.refused)
      .field("perMinute", counts.minute.count(now))
      .field("distinctTokens", counts.tokens.count())
      .field("distinctTokensEstimated", counts.tokens.estimated());
}

template <typename Store>
void write_kept(JsonWriter& out, const Store& store) {
  out.field("stored", store.size()).field("total", store.total_added()).field("forgotten", store.forgotten());
}

}  // namespace

void write_coverage(JsonWriter& out, const token::Coverage& coverage) {
  out.key("tokenCoverage").begin_object().key("connections").begin_object();
  for (auto app : {CASA_APP_HTTP1, CASA_APP_HTTP2, CASA_APP_TLS, CASA_APP_OTHER})
    out.field(event::to_string(app), coverage.connections[app]);
  out.end_object().key("unread").begin_object();
  for (auto why : {CASA_UNREAD_START, CASA_UNREAD_OPAQUE, CASA_UNREAD_TRUNCATED, CASA_UNREAD_AMBIGUOUS})
    out.field(event::to_string(why), coverage.unread[why]);
  out.end_object();
  write_strings(out, "kinds", coverage.kinds());
  out.end_object();
}

void write_token_stats(JsonWriter& out, const token::Tracker& tracker, Time now) {
  const auto& activity = tracker.activity();
  out.key("tokens").begin_object().key("total").begin_object();
  write_counts(out, activity.node(), now);
  out.end_object().key("byNamespace").begin_array();
  for (const auto& [ns, counts] : activity.namespaces()) {
    out.begin_object().field("namespace", ns);
    write_counts(out, counts, now);
    out.end_object();
  }
  out.end_array().key("byWorkload").begin_array();
  for (const auto& [key, scope] : activity.workloads()) {
    out.begin_object().field("namespace", key.first).field("workload", key.second);
    write_counts(out, scope.counts, now);
    out.end_object();
  }
  out.end_array().key("byInstance").begin_array();
  for (const auto& instance : activity.instances()) {
    out.begin_object().field("namespace", instance.workload.first).field("workload", instance.workload.second);
    if (instance.path) out.field("cgroup", *instance.path);
    out.field("cgroupId", std::to_string(instance.cgroup_id));
    write_counts(out, instance.scope.counts, now);
    out.end_object();
  }
  out.end_array().key("ledger").begin_object();
  write_kept(out, tracker.ledger());
  out.end_object()
      .field("instancesForgotten", activity.instances_forgotten())
      .field("withoutRoom", activity.without_room())
      .end_object()
      .key("alerts")
      .begin_object();
  write_kept(out, tracker.alerts());
  out.key("byKind").begin_object();
  for (std::size_t i = 0; i < token::kAlertKinds; ++i)
    out.field(token::to_string(static_cast<token::AlertKind>(i)), tracker.alerts().counts()[i]);
  out.end_object().end_object();
}

void write(JsonWriter& out, const TokenRow& row) {
  write_row(out, row);
  out.end_object();
}

void write_token_with_path(JsonWriter& out, const TokenRow& row) {
  write_row(out, row);
  out.key("path").begin_array();
  for (const auto& step : row.path()) write_step(out, step);
  out.end_array().field("stepsForgotten", row.steps_forgotten()).end_object();
}

void write(JsonWriter& out, const token::Alert& alert) {
  out.begin_object()
      .field("id", std::to_string(alert.id))
      .field("kind", token::to_string(alert.kind))
      .field("severity", token::to_string(alert.severity))
      .field("message", alert.message)
      .field("time", format_time(alert.time))
      .field("lastSeen", format_time(alert.last_seen))
      .field("count", alert.count)
      .field("blocked", alert.blocked);
  if (alert.sha256) out.field("sha256", event::to_hex(*alert.sha256));
  write_place(out, "workload", alert.workload);
  write_place(out, "destination", alert.destination);
  out.key("evidence").begin_object().key("flows").begin_array();
  for (auto id : alert.flow_ids) out.value(std::to_string(id));
  out.end_array();
  if (alert.first) {
    out.key("firstSighting");
    write_step(out, *alert.first);
  }
  if (alert.sighting) {
    out.key("sighting");
    write_step(out, *alert.sighting);
  }
  out.end_object().end_object();
}

void write(JsonWriter& out, const SightingNews& news) {
  const event::Sighting& s = news.sighting;
  out.begin_object()
      .field("time", format_time(s.flow.last_seen))
      .field("event", event::to_string(s.event))
      .field("request", s.path.empty() ? s.method : s.method + " " + s.path);
  if (s.is_token()) out.field("sha256", event::to_hex(s.sha256));
  if (s.shape != CASA_TOKEN_NONE) {
    out.field("shape", event::to_string(s.shape));
    if (s.length != 0) out.field("length", s.length);
    out.field("algNone", s.alg_none).field("signature", event::to_string(s.signature));
  }
  write_party(out, "source", s.flow.source);
  write_party(out, "destination", s.flow.destination);
  out.field("direction", event::to_string(s.flow.direction));
  if (s.flow.verdict != CASA_NO_VERDICT) out.field("verdict", event::to_string(s.flow.verdict));
  if (s.flow.reason != CASA_REASON_NONE) out.field("reason", event::to_string(s.flow.reason));
  if (s.flow.policy && !s.flow.policy->empty()) out.field("policy", *s.flow.policy);
  if (s.instance.path) out.field("instance", *s.instance.path);
  if (news.flow_id != 0) out.field("flow", std::to_string(news.flow_id));
  if (s.app != CASA_APP_UNKNOWN) out.field("appProtocol", event::to_string(s.app));
  out.field("via", event::to_string(s.via));
  if (s.duplicate) out.field("duplicate", true);
  out.end_object();
}

}  // namespace casa::api

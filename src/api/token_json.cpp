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

}  // namespace

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

}  // namespace casa::api

// See json.h: a flow and its two ends.
#include "api/json.h"
#include "base/text.h"

namespace casa::api {
namespace {

using event::PeerName;

const IpAddress kUnknownAddress{};

void write_counter(JsonWriter& out, std::string_view name, std::uint64_t sent, std::uint64_t received) {
  out.key(name).begin_object().field("sent", sent).field("received", received).end_object();
}

}  // namespace

// "kind" is the workload's own kind where the end is one; else what the identity is.
void write_who(JsonWriter& out, const PeerName& who) {
  bool workload = who.kind == PeerName::Kind::kWorkload;
  if (!who.ns.empty()) out.field("namespace", who.ns);
  if (!who.name.empty()) {
    if (workload) out.field("workload", who.name);
    else if (who.kind == PeerName::Kind::kCidr) out.field("cidr", who.name);
    else out.field("name", who.name);
  }
  out.field("kind",
            workload && !who.workload_kind.empty() ? who.workload_kind : std::string(event::to_string(who.kind)));
  if (!who.fqdn.empty()) out.field("fqdn", who.fqdn);
  if (!who.service.empty()) out.field("service", who.service);
}

void write_party(JsonWriter& out, std::string_view name, const event::Party& party) {
  out.key(name).begin_object();
  if (party.who) write_who(out, *party.who);
  auto comm = event::comm_of(party);
  if (party.pid != 0 || !comm.empty()) {
    out.key("process").begin_object();
    if (party.pid != 0) out.field("pid", party.pid);
    if (!comm.empty()) out.field("comm", comm);
    out.end_object();
  }
  if (party.address != kUnknownAddress) out.field("address", to_string(party.address));
  if (party.port != 0) out.field("port", party.port);
  out.end_object();
}

void write(JsonWriter& out, const store::FlowRow& row) {
  const event::Flow& flow = row.flow;
  out.begin_object()
      .field("id", std::to_string(row.id))
      .field("time", format_time(flow.time))
      .field("lastSeen", format_time(flow.last_seen))
      .field("state", row.open ? "open" : "closed");
  if (flow.verdict != CASA_NO_VERDICT) out.field("verdict", event::to_string(flow.verdict));
  if (flow.reason != CASA_REASON_NONE) out.field("reason", event::to_string(flow.reason));
  out.field("direction", event::to_string(flow.direction)).field("protocol", event::protocol_name(flow.protocol));
  if (row.app != CASA_APP_UNKNOWN) out.field("appProtocol", event::to_string(row.app));
  if (row.unread != CASA_UNREAD_NOTHING) out.field("unread", event::to_string(row.unread));
  out.field("count", flow.count);
  write_party(out, "source", flow.source);
  write_party(out, "destination", flow.destination);
  if (flow.policy && !flow.policy->empty()) out.field("policy", *flow.policy);
  if (flow.asked_name) out.field("askedName", *flow.asked_name);
  // A denied attempt moves nothing, and is not counted.
  bool counted = (flow.bytes_sent | flow.bytes_received | flow.packets_sent | flow.packets_received) != 0;
  if (counted || flow.news != event::News::kDenied) {
    write_counter(out, "bytes", flow.bytes_sent, flow.bytes_received);
    write_counter(out, "packets", flow.packets_sent, flow.packets_received);
  }
  if (row.token_event != event::EventClass::kNone)
    out.key("token")
        .begin_object()
        .field("sha256", event::to_hex(row.token))
        .field("event", event::to_string(row.token_event))
        .end_object();
  if (row.tokens != 0) out.field("tokens", row.tokens);
  out.end_object();
}

}  // namespace casa::api

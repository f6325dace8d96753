// The words of a flow: kernel numbers as people read them in the API, the CLI, metrics and docs. Pure; a number that
// has no word here (a kernel newer than this daemon) still gets one, so that nothing is hidden.
#include "event/flow.h"

#include <netinet/in.h>

#include <algorithm>

namespace casa::event {

const char* to_string(PeerName::Kind kind) {
  switch (kind) {
    case PeerName::Kind::kWorkload: return "workload";
    case PeerName::Kind::kService: return "service";
    case PeerName::Kind::kHost: return "host";
    case PeerName::Kind::kWorld: return "world";
    case PeerName::Kind::kCidr: return "cidr";
    case PeerName::Kind::kNobody: return "nobody";
    case PeerName::Kind::kDns: return "dns";
    case PeerName::Kind::kFqdn: return "fqdn";
    case PeerName::Kind::kUnknown: break;
  }
  return "unknown";
}

std::string_view comm_of(const Party& party) {
  auto end = std::find(party.comm.begin(), party.comm.end(), '\0');
  return {party.comm.data(), static_cast<std::size_t>(end - party.comm.begin())};
}

const char* to_string(casa_verdict verdict) {
  switch (verdict) {
    case CASA_ALLOWED: return "ALLOWED";
    case CASA_DENIED: return "DENIED";
    case CASA_AUDIT: return "AUDIT";
    case CASA_NO_VERDICT: break;
  }
  return "NONE";
}

const char* to_string(casa_reason reason) {
  switch (reason) {
#define CASA_REASON_WORD(number, name, word) \
  case CASA_REASON_##name: return word;
    CASA_REASONS(CASA_REASON_WORD)
#undef CASA_REASON_WORD
  }
  return "unknown_reason";
}

const char* to_string(casa_direction direction) { return direction == CASA_INGRESS ? "ingress" : "egress"; }

std::string protocol_name(std::uint8_t protocol) {
  switch (protocol) {
    case IPPROTO_TCP: return "tcp";
    case IPPROTO_UDP: return "udp";
    case IPPROTO_ICMP: return "icmp";
    case IPPROTO_ICMPV6: return "icmpv6";
    case IPPROTO_SCTP: return "sctp";
    case IPPROTO_RAW: return "raw";
    default: return std::to_string(protocol);
  }
}

}  // namespace casa::event

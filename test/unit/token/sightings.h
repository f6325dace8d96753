// Made sightings, for the tests of this room.
#pragma once

#include "event/sighting.h"
#include "token/tracker.h"

namespace casa::test {

using namespace std::chrono_literals;
using event::EventClass;
using event::PeerName;
using event::Sighting;

inline const token::Time kNoon = token::Time(std::chrono::hours(24 * 365 * 50));

inline event::Party party(PeerName::Kind kind, const char* ns, const char* name, const char* address,
                          std::uint16_t port) {
  event::Party p;
  p.who = std::make_shared<const PeerName>(PeerName{kind, ns, name, "", "", ""});
  p.address = *parse_ip(address);
  p.port = port;
  return p;
}
inline event::Party workload(const char* ns, const char* name, std::uint16_t port = 8080) {
  return party(PeerName::Kind::kWorkload, ns, name, "10.0.0.2", port);
}
inline event::Party world(const char* address) { return party(PeerName::Kind::kWorld, "", "", address, 443); }

inline event::Sha256 hash_of(std::uint64_t number) {
  event::Sha256 hash{};
  for (int i = 0; i < 8; ++i) hash[static_cast<std::size_t>(i)] = static_cast<std::uint8_t>(number >> (8 * i));
  return hash;
}

inline Sighting sighting(std::uint64_t token, token::Time time = kNoon) {
  Sighting s;
  s.flow.socket = 1;
  s.flow.time = s.flow.last_seen = time;
  s.flow.verdict = CASA_ALLOWED;
  s.flow.reason = CASA_REASON_ENDPOINT_ALLOWED;
  s.flow.source = workload("team-a", "agent", 40000);
  s.flow.destination = workload("tools", "mcp");
  s.instance = {4711, std::make_shared<const std::string>("team-a.slice/agent.service")};
  s.sha256 = hash_of(token);
  s.shape = CASA_TOKEN_JWT;
  s.length = 800;
  s.app = CASA_APP_HTTP1;
  s.event = EventClass::kUse;
  s.method = "POST";
  s.path = "/mcp";
  return s;
}

}  // namespace casa::test

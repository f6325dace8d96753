// One flow as the daemon speaks of it: a kernel record whose numbers have become names. Owned values; what many flows
// share (a workload's names) is one shared object.
#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "base/ip.h"
#include "casa/abi/event.h"
#include "casa/abi/types.h"

namespace casa::event {

// Who is at one end, as far as the identity tells it.
struct PeerName {
  enum class Kind : std::uint8_t { kWorkload, kService, kHost, kWorld, kCidr, kNobody, kUnknown, kDns, kFqdn };
  Kind kind = Kind::kUnknown;
  std::string ns;             // workload, service
  std::string name;           // workload: its name; service: its name; cidr: the prefix
  std::string workload_kind;  // Deployment, StatefulSet, Pod, Unit, Cgroup
  std::string service;        // the Service it is reached by, when that is one
  std::string fqdn;
};
const char* to_string(
    PeerName::Kind kind);  // "workload", "service", "host", "world", "cidr", "nobody", "unknown", "dns", "fqdn"

struct Party {
  std::shared_ptr<const PeerName> who;  // never null
  std::uint32_t pid = 0;                // 0: not known
  std::array<char, CASA_COMM_LEN> comm{};
  IpAddress address;
  std::uint16_t port = 0;
};
std::string_view comm_of(const Party& party);

enum class News : std::uint8_t { kStart, kUpdate, kEnd, kDenied };

struct Flow {
  News news = News::kStart;
  std::uint64_t socket = 0;  // kernel socket cookie; with direction, protocol and the remote end it names the flow
  std::chrono::system_clock::time_point time;       // when it started (DENIED: first attempt of this record)
  std::chrono::system_clock::time_point last_seen;  // of this news
  casa_verdict verdict = CASA_NO_VERDICT;
  casa_reason reason = CASA_REASON_NONE;
  casa_direction direction = CASA_EGRESS;
  std::uint8_t protocol = 0;  // IP protocol number
  Party source;               // who opened the conversation
  Party destination;
  std::shared_ptr<const std::string> policy;         // "team-a/agent" whose rule decided; null when none did
  std::shared_ptr<const std::string> asked_name;     // DENIED: the DNS or server name that was refused; null when none
  std::uint64_t bytes_sent = 0, bytes_received = 0;  // source to destination, and back
  std::uint64_t packets_sent = 0, packets_received = 0;
  std::uint32_t count = 1;  // attempts (DENIED)
  std::uint32_t netns = 0;
};

const char* to_string(casa_verdict verdict);       // ALLOWED, DENIED, AUDIT
const char* to_string(casa_reason reason);         // the word of casa/abi/types.h
const char* to_string(casa_direction direction);   // egress, ingress
std::string protocol_name(std::uint8_t protocol);  // tcp, udp, icmp, icmpv6, sctp, raw, or the number

}  // namespace casa::event

// Answers "may A call B?" from a compiled generation, without traffic. decide() is the kernel's verdict (bpf/lib/decide.h)
// over the same rows; a test runs both on the same questions.
#pragma once

#include <string>
#include <vector>

#include "compile/compile.h"

namespace casa::compile {

struct Question {
  std::uint32_t subject = 0, peer = 0;
  casa_direction direction = CASA_EGRESS;
  std::uint8_t protocol = 0;
  std::uint16_t port = 0;
  bool same_host = false;
};
struct Decision {
  casa_verdict verdict = CASA_NO_VERDICT;  // none: the subject is not under enforcement
  casa_reason reason = CASA_REASON_NONE;
  PolicyKey row;  // of the rule that allowed
};
Decision decide(const MapImage& image, const Question& question);

// The identity of an address that is no socket of this host.
std::uint32_t identity_of(const MapImage& image, const IpAddress& ip);

struct Step {
  std::string where;
  Decision decision;
  std::string policy, field, text;
};
struct Explanation {
  casa_verdict verdict = CASA_NO_VERDICT;
  std::vector<Step> steps;
  std::vector<std::string> suggestions;
};

// `from`: "ns/name" of a workload or of one of its Pods, "host", or an address; `to`: "ns/name:port" (a Service, a workload, or a Pod),
// "host:port", "address:port", "[v6]:port" or "dns.name:port". protocol: "tcp" or "udp". name_states: of each FQDN that policies allow,
// what is known of its addresses, as the end of a sentence that begins with the name. objects: where Pods are looked up by name.
Result<Explanation> explain(const Compiled& compiled, const identity::Snapshot& snapshot, const std::string& from,
                            const std::string& to, const std::string& protocol,
                            const std::map<std::string, std::string>& name_states = {},
                            const identity::ObjectSet& objects = {});

// One sentence for each thing that is always allowed.
std::vector<std::string> baseline();

}  // namespace casa::compile

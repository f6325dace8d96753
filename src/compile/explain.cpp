#include "compile/explain.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>

#include "base/text.h"
#include "policy/names.h"

namespace casa::compile {
namespace {

using identity::Snapshot;

template <typename Map, typename Key>
std::uint32_t value_or_zero(const Map& map, const Key& key) {
  auto it = map.find(key);
  return it == map.end() ? 0 : it->second;
}

casa_reason denial_reason(const MapImage& image, const Question& q, std::uint32_t flags) {
  if (flags & CASA_SUBJECT_UNDECLARED) return CASA_REASON_UNDECLARED_CGROUP;
  if (flags & CASA_SUBJECT_INVALID) return CASA_REASON_POLICY_INVALID;
  if (flags & CASA_SUBJECT_NO_POLICY) return CASA_REASON_NO_POLICY;
  if (q.peer == CASA_ID_NOBODY) return CASA_REASON_NO_LISTENER;
  if (q.peer == CASA_ID_UNKNOWN) return CASA_REASON_PEER_UNKNOWN;
  if (q.peer == CASA_ID_DNS) return CASA_REASON_DNS_NAME_NOT_ALLOWED;
  constexpr auto kTcp = static_cast<std::uint8_t>(policy::Protocol::kTcp);
  if (value_or_zero(image.policy, PolicyKey{q.subject, q.peer, q.direction, 0, 0}) != 0) {
    bool over_tcp =
        q.protocol != kTcp && value_or_zero(image.policy, PolicyKey{q.subject, q.peer, q.direction, kTcp, q.port}) != 0;
    return over_tcp ? CASA_REASON_UDP_NOT_ALLOWED : CASA_REASON_PORT_NOT_ALLOWED;
  }
  if (q.direction == CASA_INGRESS) return CASA_REASON_SOURCE_NOT_ALLOWED;
  if (q.port == 53) return CASA_REASON_RESOLVER_NOT_TRUSTED;
  return q.peer == CASA_ID_WORLD ? CASA_REASON_EXTERNAL_NOT_ALLOWED : CASA_REASON_PEER_NOT_ALLOWED;
}

// One end of the call: what it is called, who it may be, and where it would listen.
struct End {
  std::string text;
  std::uint32_t identity = 0;
  const identity::Workload* workload = nullptr;
  std::uint16_t port = 0;
  std::string fqdn = {};
};

class Explainer {
 public:
  Explainer(const Compiled& compiled, const Snapshot& snapshot, std::uint8_t protocol,
            const std::map<std::string, std::string>& name_states)
      : compiled_(compiled), snapshot_(snapshot), protocol_(protocol), name_states_(name_states) {}

  Result<Explanation> run(const std::string& from, const std::string& to) {
    TRY_ASSIGN(End source, parse_source(from));
    TRY_ASSIGN(std::vector<End> destinations, parse_destination(to));
    bool denied = false, audited = false, decided = false;
    for (const auto& destination : destinations) {
      for (auto direction : {CASA_EGRESS, CASA_INGRESS}) {
        auto step = one_end(source, destination, direction);
        if (!step) continue;
        decided = true;
        denied = denied || step->decision.verdict == CASA_DENIED;
        audited = audited || step->decision.verdict == CASA_AUDIT;
        out_.steps.push_back(std::move(*step));
      }
    }
    out_.verdict = denied ? CASA_DENIED : audited ? CASA_AUDIT : CASA_ALLOWED;
    if (!decided)
      out_.steps.push_back(
          {"both ends", {}, "", "", "neither end is a workload under enforcement, so casad does not interfere"});
    return std::move(out_);
  }

 private:
  Result<End> parse_source(const std::string& text) {
    if (text == "host") return End{"the host", CASA_ID_HOST, nullptr, 0};
    if (auto ip = parse_ip(text))
      return End{text, identity_of(compiled_.image, *ip), workload_of(identity_of(compiled_.image, *ip)), 0};
    auto slash = text.find('/');
    if (slash == std::string::npos)
      return fail(ErrorCode::kInvalidArgument, "from '{}' is not understood: write NAMESPACE/NAME, host, or an address",
                  text);
    auto it = snapshot_.workloads.find({text.substr(0, slash), text.substr(slash + 1)});
    if (it == snapshot_.workloads.end())
      return fail(ErrorCode::kNotFound, "there is no workload {}{}", text, did_you_mean(text));
    return End{text, it->second.identity, &it->second, 0};
  }

  std::string did_you_mean(const std::string& text) const {
    std::vector<std::string> names;
    for (const auto& [name, w] : snapshot_.workloads) names.push_back(name.ns + "/" + name.name);
    std::vector<std::string_view> views(names.begin(), names.end());
    auto near = nearest_name(text, views);
    return near.empty() ? "; see /v1/workloads" : fmt::format("; did you mean {}?", near);
  }

  const identity::Workload* workload_of(std::uint32_t identity) const {
    for (const auto& [name, w] : snapshot_.workloads)
      if (w.identity == identity) return &w;
    return nullptr;
  }

  Result<std::vector<End>> parse_destination(const std::string& text) {
    auto colon = text.rfind(':');
    auto port =
        colon == std::string::npos ? std::nullopt : parse_number(std::string_view(text).substr(colon + 1), 65535);
    if (!port || *port == 0)
      return fail(ErrorCode::kInvalidArgument,
                  "to '{}' is not understood: write NAMESPACE/NAME:PORT or HOST:PORT with a port from 1 to 65535",
                  text);
    std::string host = text.substr(0, colon);
    if (host.size() > 2 && host.front() == '[' && host.back() == ']') host = host.substr(1, host.size() - 2);
    auto number = static_cast<std::uint16_t>(*port);
    if (auto slash = host.find('/'); slash != std::string::npos)
      return named(text, {host.substr(0, slash), host.substr(slash + 1)}, number);
    if (host == "host" || host == "localhost") return std::vector<End>{{"the host", CASA_ID_HOST, nullptr, number}};
    if (auto ip = parse_ip(host)) {
      if (ip->is_loopback())
        return fail(ErrorCode::kInvalidArgument,
                    "{} is whoever listens there: casad goes by the listening process, so write NAMESPACE/NAME:PORT, "
                    "or host:PORT",
                    text);
      std::uint32_t identity = identity_of(compiled_.image, *ip);
      return std::vector<End>{{text, identity, workload_of(identity), number}};
    }
    if (host.find('.') == std::string::npos)
      return fail(ErrorCode::kInvalidArgument, "to '{}' is not understood: write NAMESPACE/NAME:PORT or HOST:PORT",
                  text);
    std::string fqdn;
    if (std::string bad = policy::check_fqdn(host, fqdn); !bad.empty())
      return fail(ErrorCode::kInvalidArgument, "to '{}' is not understood: {}", text, bad);
    auto name = compiled_.names.find(fqdn);
    return std::vector<End>{{text, name == compiled_.names.end() ? std::uint32_t{CASA_ID_WORLD} : name->second.identity,
                             nullptr, number, fqdn}};
  }

  Result<std::vector<End>> named(const std::string& text, const NamespacedName& name, std::uint16_t port) {
    std::vector<End> ends;
    auto service = snapshot_.services.find(name);
    if (service != snapshot_.services.end() && !service->second.implicit) {
      for (const auto& p : service->second.ports) {
        if (p.port != port || static_cast<std::uint8_t>(p.protocol) != protocol_) continue;
        for (const auto& backend : p.backends)
          ends.push_back({fmt::format("{} (target port {})", text, backend.port), backend.identity,
                          workload_of(backend.identity), backend.port});
      }
      if (!ends.empty()) return ends;
    }
    auto w = snapshot_.workloads.find(name);
    if (w == snapshot_.workloads.end())
      return fail(ErrorCode::kNotFound, "there is no Service or workload {}/{}{}", name.ns, name.name,
                  did_you_mean(name.ns + "/" + name.name));
    ends.push_back({text, w->second.identity, &w->second, port});
    return ends;
  }

  std::optional<Step> one_end(const End& source, const End& destination, casa_direction direction) {
    const End& subject = direction == CASA_EGRESS ? source : destination;
    const End& peer = direction == CASA_EGRESS ? destination : source;
    if (subject.workload == nullptr) return std::nullopt;
    Question q{subject.identity, peer.identity,    direction,
               protocol_,        destination.port, source.identity == destination.identity};
    Decision d = decide(compiled_.image, q);
    if (d.verdict == CASA_NO_VERDICT) return std::nullopt;
    Step step;
    step.where = fmt::format("{} of {}/{}", direction == CASA_EGRESS ? "egress" : "ingress", subject.workload->name.ns,
                             subject.workload->name.name);
    step.decision = d;
    if (auto it = compiled_.sources.find(d.row);
        d.reason != CASA_REASON_BASELINE_LOOPBACK && it != compiled_.sources.end()) {
      step.policy = it->second.policy.ns + "/" + it->second.policy.name;
      step.field = it->second.field;
    }
    describe(step, subject, peer, direction, destination.port);
    return step;
  }

  void describe(Step& step, const End& subject, const End& peer, casa_direction direction, std::uint16_t port) {
    std::string name = subject.workload->name.ns + "/" + subject.workload->name.name;
    if (step.decision.verdict == CASA_ALLOWED) {
      step.text = step.policy.empty() ? "always allowed: a workload may talk to itself on this host"
                                      : fmt::format("{} of policy {} allows it", step.field, step.policy);
      if (step.decision.reason == CASA_REASON_LLM_ALLOWED) {
        step.text += ", over TLS whose server name is " + peer.fqdn;
        if (auto state = name_states_.find(peer.fqdn); state != name_states_.end())
          step.text += fmt::format("; {} {}", peer.fqdn, state->second);
      }
      return;
    }
    auto policies = compiled_.policies_of.find(subject.workload->name);
    std::string which = policies == compiled_.policies_of.end()
                            ? "no policy names it"
                            : fmt::format("none of its policies ({}) allows it", fmt::join(policies->second, ", "));
    step.text = fmt::format("{} {} {} on port {}: {}", name,
                            direction == CASA_EGRESS ? "may not call" : "may not be called by", peer.text, port, which);
    if (direction == CASA_EGRESS && peer.workload != nullptr)
      suggest(fmt::format("add to a CASAPolicy of {}:\n  allowedEndpoints:\n  - {{name: {}, namespace: {}, port: {}}}",
                          name, peer.workload->name.name, peer.workload->name.ns, port));
    else if (direction == CASA_EGRESS && !peer.fqdn.empty())
      suggest(fmt::format("add to a CASAPolicy of {}, which may have one:\n  llmEndpoint: {{fqdn: {}, port: {}}}", name,
                          peer.fqdn, port));
    else if (direction == CASA_EGRESS && peer.identity == CASA_ID_WORLD)
      suggest(fmt::format("{} is outside: what is there is reached by its name only, through llmEndpoint", peer.text));
    else if (direction == CASA_INGRESS && peer.workload == nullptr)
      suggest(fmt::format("add to a CASAPolicy of {}:\n  allowedSources:\n  - {}", name,
                          peer.identity == CASA_ID_HOST
                              ? fmt::format("{{host: true, port: {}}}", port)
                              : fmt::format("{{cidr: <prefix of {}>, port: {}}}", peer.text, port)));
  }

  void suggest(std::string text) {
    if (std::ranges::find(out_.suggestions, text) == out_.suggestions.end())
      out_.suggestions.push_back(std::move(text));
  }

  const Compiled& compiled_;
  const Snapshot& snapshot_;
  const std::uint8_t protocol_;
  const std::map<std::string, std::string>& name_states_;
  Explanation out_;
};

}  // namespace

std::uint32_t identity_of(const MapImage& image, const IpAddress& ip) {
  if (std::uint32_t identity = value_or_zero(image.addresses, ip)) return identity;
  std::uint32_t best = CASA_ID_WORLD;
  int longest = -1;
  for (const auto& [prefix, identity] : image.prefixes) {
    if (!prefix.contains(ip) || prefix.length <= longest) continue;
    longest = prefix.length;
    best = identity;
  }
  return best;
}

Decision decide(const MapImage& image, const Question& q) {
  std::uint32_t flags = value_or_zero(image.subjects, q.subject);
  if (!(flags & CASA_SUBJECT_MANAGED) || (flags & CASA_SUBJECT_EXEMPT)) return {};
  if (q.same_host && q.peer == q.subject && !(flags & CASA_SUBJECT_UNDECLARED))
    return {CASA_ALLOWED, CASA_REASON_BASELINE_LOOPBACK, {}};
  for (std::uint16_t port : {q.port, std::uint16_t{0}}) {
    PolicyKey key{q.subject, q.peer, q.direction, q.protocol, port};
    if (std::uint32_t payload = value_or_zero(image.policy, key))
      return {CASA_ALLOWED, static_cast<casa_reason>(payload & 0xff), key};
  }
  return {flags & CASA_SUBJECT_AUDIT ? CASA_AUDIT : CASA_DENIED, denial_reason(image, q, flags), {}};
}

Result<Explanation> explain(const Compiled& compiled, const Snapshot& snapshot, const std::string& from,
                            const std::string& to, const std::string& protocol,
                            const std::map<std::string, std::string>& name_states) {
  if (protocol != "tcp" && protocol != "udp")
    return fail(ErrorCode::kInvalidArgument, "protocol '{}' is not understood: write tcp or udp", protocol);
  return Explainer(compiled, snapshot,
                   static_cast<std::uint8_t>(protocol == "tcp" ? policy::Protocol::kTcp : policy::Protocol::kUdp),
                   name_states)
      .run(from, to);
}

std::vector<std::string> baseline() {
  return {
      "a workload may talk to itself over loopback: every instance's processes on this host",
      "replies belong to their flow: what was allowed one way is answered the other way",
      "ICMP errors and neighbour discovery that the kernel itself sends and receives for allowed flows",
      "DNS to trusted resolvers, for the names that its policies need: A and AAAA of its llmEndpoint and its Services, "
      "PTR of "
      "its Services' addresses",
      "a connection to an allowed port where nobody listens reaches the kernel's own refusal (ECONNREFUSED)",
  };
}

}  // namespace casa::compile

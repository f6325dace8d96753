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
            const std::map<std::string, std::string>& name_states, const identity::ObjectSet& objects)
      : compiled_(compiled), snapshot_(snapshot), protocol_(protocol), name_states_(name_states), objects_(objects) {}

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
    auto end = workload_or_pod({text.substr(0, slash), text.substr(slash + 1)}, text);
    if (!end) return fail(ErrorCode::kNotFound, "there is no workload or Pod {}{}", text, did_you_mean(text));
    return *end;
  }

  // A Pod may do what its workload may.
  std::optional<End> workload_or_pod(const NamespacedName& name, const std::string& text) const {
    if (auto w = snapshot_.workloads.find(name); w != snapshot_.workloads.end())
      return End{text, w->second.identity, &w->second, 0};
    const auto* pod = objects_.find<policy::Pod>(name);
    if (pod == nullptr) return std::nullopt;
    identity::Owner owner = identity::owner_of(*pod);
    auto w = snapshot_.workloads.find(snapshot_.names.of(owner.name, owner.kind));
    if (w == snapshot_.workloads.end()) return std::nullopt;  // it came after the generation in force
    return End{fmt::format("{} (a Pod of {}/{})", text, w->first.ns, w->first.name), w->second.identity, &w->second, 0};
  }

  std::string did_you_mean(const std::string& text) const {
    std::vector<std::string> names;
    names.reserve(snapshot_.workloads.size());
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
    if (host == "host" || host == "localhost")
      return std::vector<End>{{fmt::format("the host on port {}", number), CASA_ID_HOST, nullptr, number}};
    if (auto ip = parse_ip(host)) {
      if (compiled_.image.resolvers.contains({*ip, number}))
        return std::vector<End>{{text, CASA_ID_DNS, nullptr, number}};
      if (ip->is_loopback())
        return fail(ErrorCode::kInvalidArgument,
                    "{} is whoever listens there: casad goes by the listening process, so write NAMESPACE/NAME:PORT, "
                    "or host:PORT",
                    text);
      std::uint32_t identity = identity_of(compiled_.image, *ip);
      return std::vector<End>{{text, identity, workload_of(identity), number}};
    }
    if (auto service = service_of(host)) return named(text, *service, number);
    if (host.find('.') == std::string::npos)
      return fail(ErrorCode::kInvalidArgument, "to '{}' is not understood: write NAMESPACE/NAME:PORT or HOST:PORT",
                  text);
    std::string fqdn;
    if (std::string bad = policy::check_fqdn(host, fqdn); !bad.empty())
      return fail(ErrorCode::kInvalidArgument, "to '{}' is not understood: {}", text, bad);
    return std::vector<End>{{text, CASA_ID_WORLD, nullptr, number, fqdn}};
  }

  // mcp.tools.svc and mcp.tools.svc.cluster.local are the Service tools/mcp.
  std::optional<NamespacedName> service_of(std::string_view host) const {
    std::string domain = "." + snapshot_.dns.cluster_domain;
    if (host.ends_with(domain)) host.remove_suffix(domain.size());
    if (!host.ends_with(".svc")) return std::nullopt;
    host.remove_suffix(4);
    auto dot = host.find('.');
    if (dot == std::string_view::npos || host.find('.', dot + 1) != std::string_view::npos) return std::nullopt;
    return NamespacedName{std::string(host.substr(dot + 1)), std::string(host.substr(0, dot))};
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
    auto end = workload_or_pod(name, text);
    if (!end)
      return fail(ErrorCode::kNotFound, "there is no Service, workload or Pod {}/{}{}", name.ns, name.name,
                  did_you_mean(name.ns + "/" + name.name));
    end->port = port;
    ends.push_back(std::move(*end));
    return ends;
  }

  // A name is a peer for those only whose policies have it: nobody else's DNS answers teach its addresses.
  End seen_by(const End& subject, End peer) const {
    auto name = compiled_.names.find(peer.fqdn);
    if (name != compiled_.names.end() && name->second.subjects.contains(subject.identity))
      peer.identity = name->second.identity;
    return peer;
  }

  std::optional<Step> one_end(const End& source, const End& destination, casa_direction direction) {
    const End& subject = direction == CASA_EGRESS ? source : destination;
    const End peer = seen_by(subject, direction == CASA_EGRESS ? destination : source);
    if (subject.workload == nullptr) return std::nullopt;
    Question q{subject.identity, peer.identity,    direction,
               protocol_,        destination.port, source.identity == destination.identity};
    Decision d = decide(compiled_.image, q);
    if (d.verdict == CASA_NO_VERDICT) return std::nullopt;
    // Whoever asks for a name meets its refusal before an address is called.
    if (!peer.fqdn.empty() && d.reason == CASA_REASON_EXTERNAL_NOT_ALLOWED) d.reason = CASA_REASON_DNS_NAME_NOT_ALLOWED;
    Step step;
    step.where = fmt::format("{} of {}", direction == CASA_EGRESS ? "egress" : "ingress", text_of(subject));
    step.decision = d;
    if (auto it = compiled_.sources.find(d.row);
        d.reason != CASA_REASON_BASELINE_LOOPBACK && it != compiled_.sources.end()) {
      step.policy = it->second.policy.ns + "/" + it->second.policy.name;
      step.field = it->second.field;
    }
    if (d.verdict == CASA_ALLOWED) {
      step.text = why_allowed(step, subject, peer);
    } else {
      step.text = why_denied(step, subject, peer, direction, destination.port);
      suggest_rule(step, subject, peer, direction, destination.port);
    }
    return step;
  }

  static std::string text_of(const End& end) { return end.workload->name.ns + "/" + end.workload->name.name; }

  std::string why_allowed(const Step& step, const End& subject, const End& peer) const {
    if (step.decision.reason == CASA_REASON_BASELINE_LOOPBACK)
      return "always allowed: a workload may talk to itself on this host";
    if (step.decision.reason == CASA_REASON_BASELINE_DNS)
      return fmt::format(
          "{} is a trusted resolver: {} may ask it for the names that its policies need, and for no other", peer.text,
          text_of(subject));
    std::string text = fmt::format("{} of policy {} allows it", step.field, step.policy);
    if (step.decision.reason != CASA_REASON_LLM_ALLOWED) return text;
    text += fmt::format(", at the addresses that DNS gives, over TLS whose server name is {}", peer.fqdn);
    auto state = name_states_.find(peer.fqdn);
    return state == name_states_.end() ? text : fmt::format("{}; {} {}", text, peer.fqdn, state->second);
  }

  std::string why_denied(const Step& step, const End& subject, const End& peer, casa_direction direction,
                         std::uint16_t port) const {
    auto policies = compiled_.policies_of.find(subject.workload->name);
    std::string listed =
        policies == compiled_.policies_of.end() ? "" : fmt::format("{}", fmt::join(policies->second, ", "));
    std::string text = direction == CASA_INGRESS
                           ? fmt::format("{} may not be called by {} on port {}", text_of(subject), peer.text, port)
                       : peer.fqdn.empty() ? fmt::format("{} may not call {}", text_of(subject), peer.text)
                                           : fmt::format("{} may not call {}:{}", text_of(subject), peer.fqdn, port);
    if (step.decision.reason == CASA_REASON_UDP_NOT_ALLOWED) text += " over UDP";
    text += ": ";
    switch (step.decision.reason) {
      case CASA_REASON_POLICY_INVALID:
        return text + fmt::format("one of its policies ({}) failed, so it may do nothing", listed);
      case CASA_REASON_UDP_NOT_ALLOWED:
        text += "on this port its policies allow TCP only";
        return peer.fqdn.empty() ? text : text + ". A client that tries QUIC (HTTP/3) first goes on with TCP";
      case CASA_REASON_RESOLVER_NOT_TRUSTED:
        return text + "it is no trusted resolver, and no other DNS server may be asked";
      case CASA_REASON_PORT_NOT_ALLOWED:
        if (!peer.fqdn.empty())
          return text +
                 fmt::format("its policies ({}) allow this name, on port {} only", listed, ports_of(subject, peer));
        break;
      case CASA_REASON_DNS_NAME_NOT_ALLOWED:
        if (peer.identity == CASA_ID_DNS) return text + "it is a trusted resolver, but its policies need no DNS name";
        text += listed.empty() ? "no policy names it"
                               : fmt::format("none of its policies ({}) has this llmEndpoint", listed);
        return text +
               ". The query for the name is refused already; a connection to an address of it is "
               "external_not_allowed";
      default: break;
    }
    return text + (listed.empty() ? "no policy names it" : fmt::format("none of its policies ({}) allows it", listed));
  }

  // On which ports the subject may call this name.
  std::string ports_of(const End& subject, const End& peer) const {
    std::vector<std::uint16_t> ports;
    const PolicyKey first{subject.identity, peer.identity, CASA_EGRESS, 0, 0};
    for (auto it = compiled_.image.policy.lower_bound(first);
         it != compiled_.image.policy.end() && it->first.subject == subject.identity && it->first.peer == peer.identity;
         ++it)
      if (it->first.direction == CASA_EGRESS && it->first.port != 0) ports.push_back(it->first.port);
    return fmt::format("{}", fmt::join(ports, ", "));
  }

  void suggest_rule(const Step& step, const End& subject, const End& peer, casa_direction direction,
                    std::uint16_t port) {
    std::string name = text_of(subject);
    bool egress = direction == CASA_EGRESS;
    if (step.decision.reason == CASA_REASON_POLICY_INVALID)
      suggest(fmt::format("mend the policies of {}: /v1/policies and `casad check` say what is wrong", name));
    else if (step.decision.reason == CASA_REASON_UDP_NOT_ALLOWED)
      suggest(peer.fqdn.empty() ? "use TCP, or name a Service whose port is UDP in allowedEndpoints"
                                : "use TCP: no policy can open UDP to a name");
    else if (step.decision.reason == CASA_REASON_RESOLVER_NOT_TRUSTED)
      suggest("ask a resolver that this node trusts: those of its resolv.conf, or of dns.resolvers in casad's config");
    else if (egress && peer.workload != nullptr)
      suggest(fmt::format("add to a CASAPolicy of {}:\n  allowedEndpoints:\n  - {{name: {}, namespace: {}, port: {}}}",
                          name, peer.workload->name.name, peer.workload->name.ns, port));
    else if (egress && !peer.fqdn.empty())
      suggest(
          fmt::format("add to a CASAPolicy of {} (each can name one; a workload may have several policies):\n"
                      "  llmEndpoint: {{fqdn: {}, port: {}}}",
                      name, peer.fqdn, port));
    else if (egress && peer.identity == CASA_ID_WORLD)
      suggest(fmt::format("{} is outside: what is there is reached by its name only, through llmEndpoint", peer.text));
    else if (!egress && peer.workload == nullptr)
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
  const identity::ObjectSet& objects_;
  Explanation out_;
};

}  // namespace

std::uint32_t identity_of(const MapImage& image, const IpAddress& ip) {
  if (std::uint32_t identity = value_or_zero(image.addresses, ip)) return identity & ~CASA_ADDR_HERE;
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
                            const std::map<std::string, std::string>& name_states, const identity::ObjectSet& objects) {
  if (protocol != "tcp" && protocol != "udp")
    return fail(ErrorCode::kInvalidArgument, "protocol '{}' is not understood: write tcp or udp", protocol);
  return Explainer(compiled, snapshot,
                   static_cast<std::uint8_t>(protocol == "tcp" ? policy::Protocol::kTcp : policy::Protocol::kUdp),
                   name_states, objects)
      .run(from, to);
}

std::vector<std::string> baseline() {
  return {
      "a workload may talk to itself over loopback: every instance's processes on this host",
      "replies belong to their flow: what was allowed one way is answered the other way",
      "ICMP errors and neighbour discovery that the kernel itself sends and receives for allowed flows",
      ("DNS to trusted resolvers, for the names that its policies need: A and AAAA of its llmEndpoint and its "
       "Services, "
       "PTR of its Services' addresses"),
      "a connection to an allowed port where nobody listens reaches the kernel's own refusal (ECONNREFUSED)",
      ("the probes of a Pod: from its node's own addresses, to the ports that its livenessProbe, readinessProbe and "
       "startupProbe name"),
      ("a Pod with Istio's proxy: to istiod (15010, 15012, 15014); and who may call any of its ports may call the "
       "proxy's 15006, to which such calls are redirected"),
  };
}

}  // namespace casa::compile

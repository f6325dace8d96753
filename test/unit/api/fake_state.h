// A State with one or more of everything, every optional field set somewhere and absent somewhere. Also for the CLI's tests.
#pragma once

#include <netinet/in.h>

#include <algorithm>

#include "api/state.h"
#include "base/text.h"

namespace casa::test {

inline api::Time at(const char* text) { return *parse_time(text, {}); }

inline event::Party party(event::PeerName who, const char* address = nullptr, std::uint16_t port = 0,
                          std::uint32_t pid = 0, std::string_view comm = {}) {
  event::Party p;
  p.who = std::make_shared<const event::PeerName>(std::move(who));
  if (address != nullptr) p.address = *parse_ip(address);
  p.port = port;
  p.pid = pid;
  std::copy_n(comm.begin(), std::min(comm.size(), p.comm.size() - 1), p.comm.begin());
  return p;
}

inline event::PeerName workload(const char* ns, const char* name) {
  return {event::PeerName::Kind::kWorkload, ns, name, "Deployment", "", ""};
}

inline event::Flow flow(std::uint64_t socket, casa_verdict verdict, casa_reason reason, api::Time time) {
  event::Flow f;
  f.news = verdict == CASA_DENIED ? event::News::kDenied : event::News::kStart;
  f.socket = socket;
  f.time = f.last_seen = time;
  f.verdict = verdict;
  f.reason = reason;
  f.protocol = IPPROTO_TCP;
  f.source = party(workload("team-a", "agent"), "10.1.0.1", 40000, 4242, "python3");
  auto server = workload("tools", "mcp-server");
  server.service = "tools/mcp-server";
  f.destination = party(server, "10.1.0.2", 8080);
  return f;
}

// On the flow of socket 1. Each byte of the hash is `token`; 0: the token was not hashed.
inline event::Sighting sighting(std::uint8_t token, api::Time time) {
  event::Sighting s;
  s.flow = flow(1, CASA_ALLOWED, CASA_REASON_ENDPOINT_ALLOWED, time);
  s.flow.news = event::News::kUpdate;
  s.instance = {4711, std::make_shared<const std::string>("team-a.slice/agent.service")};
  s.sha256.fill(token);
  s.shape = token == 0 ? CASA_TOKEN_UNHASHED : CASA_TOKEN_JWT;
  s.length = 800;
  s.app = CASA_APP_HTTP1;
  s.event = event::EventClass::kUse;
  s.method = "POST";
  s.path = "/mcp";
  return s;
}

class FakeState : public api::State {
 public:
  FakeState() {
    auto now = std::chrono::system_clock::now();
    auto allowed = flow(1, CASA_ALLOWED, CASA_REASON_ENDPOINT_ALLOWED, now - std::chrono::hours(2));
    allowed.policy = std::make_shared<const std::string>("team-a/agent");
    allowed.bytes_sent = 100;
    allowed.packets_sent = 2;
    history.add(allowed);
    auto denied = flow(2, CASA_DENIED, CASA_REASON_EXTERNAL_NOT_ALLOWED, now - std::chrono::minutes(30));
    denied.destination = party({event::PeerName::Kind::kWorld, "", "", "", "", "evil.example"}, "2001:db8::1", 443);
    denied.count = 3;
    history.add(denied);
    auto ingress = flow(3, CASA_AUDIT, CASA_REASON_SOURCE_NOT_ALLOWED, now - std::chrono::minutes(1));
    ingress.direction = CASA_INGRESS;
    ingress.source = party({event::PeerName::Kind::kCidr, "", "10.0.0.0/8", "", "", ""}, "10.9.9.9", 5555);
    history.add(ingress);
    auto unknown = flow(4, CASA_DENIED, CASA_REASON_NO_LISTENER, now);
    unknown.destination = party({event::PeerName::Kind::kNobody, "", "", "", "", ""});
    history.add(unknown);
    history.carry(sighting(0xab, allowed.time));
    tracker.see(sighting(0xab, now - std::chrono::minutes(20)), 1);
    tracker.see(sighting(0xcd, now - std::chrono::minutes(10)), 1);
    auto stolen = sighting(0xab, now - std::chrono::minutes(5));
    stolen.flow.source = party(workload("team-a", "rogue"), "10.1.0.3", 40001);
    stolen.flow.destination = party({event::PeerName::Kind::kWorld, "", "", "", "", ""}, "203.0.113.7", 80);
    stolen.flow.policy = std::make_shared<const std::string>("team-a/rogue");
    stolen.flow.verdict = CASA_AUDIT;
    stolen.alg_none = stolen.duplicate = true;
    tracker.see(stolen, 0);
    auto app = event::AppNews{stolen.flow, stolen.instance, CASA_APP_HTTP1, CASA_VIA_WIRE, CASA_UNREAD_AMBIGUOUS};
    tracker.see(app, 0, true, true);
    app.flow = allowed;
    history.speak(app);
  }

  [[nodiscard]] api::StatusView status() const override {
    api::StatusView view;
    view.version = "0.1.0";
    view.started = at("2026-11-24T01:51:33.123Z");
    view.ready = ready;
    view.phase = ready ? "enforcing" : "starting";
    if (!ready)
      view.problems = {"the policy directory /etc/casad/policies.d cannot be read: No such file or directory"};
    view.generation = ready ? 7 : 0;
    if (ready) view.generation_time = at("2026-11-24T01:51:34Z");
    view.policy_digest = "ab12";
    view.cgroup_root = "/sys/fs/cgroup";
    view.bpffs = "/sys/fs/bpf/casad";
    view.sources = {{"directory", "/etc/casad/policies.d", "", 3, 5, 1, at("2026-11-24T01:51:33Z"), {}},
                    {"kubernetes", "in-cluster", "", 7, 7, 0, {}, at("2026-11-24T01:51:34Z")},
                    {"directory", "/gone", "it is gone", 0, 0, 0, {}, {}}};
    view.sources[1].resources = {{"CASAPolicies", "watching", 2, ""},
                                 {"Services", "forbidden", 5, "does not allow to list Services"}};
    view.counts = {{"policies", 2}, {"workloads", 2}};
    view.maps = {{"casa_policy", 10, 1000}};
    view.features = {{"sweep", "on"}, {"tcx", "off: kernel 6.1"}};
    view.enforcement_gaps = {{{}, at("2026-11-24T01:51:33Z")}, {at("2026-11-24T01:52:33Z"), {}}};
    return view;
  }
  [[nodiscard]] std::vector<api::PolicyView> policies() const override {
    return {{"CASAPolicy",
             "team-a",
             "agent",
             "Deployment/agent",
             "enforce",
             "Active",
             "",
             at("2026-11-24T01:51:33Z"),
             "agent.yaml",
             {"tools/mcp-server:8080"},
             {"host:8080"},
             "api.openai.com:443"},
            {"MultiAgentSystem", "team-a", "mas", "", "", "Pending", "no such workload", {}, "", {}, {}, ""}};
  }
  [[nodiscard]] std::vector<api::WorkloadView> workloads() const override {
    std::vector<api::WorkloadView> views{
        {"team-a",
         "agent",
         "Deployment",
         256,
         "enforce",
         "enforced",
         {"team-a/agent"},
         {{"team-a.slice/agent.service", (1ULL << 60) + 1, at("2026-11-24T01:51:33Z")}, {"x", 0, {}}},
         {"y"},
         {"10.1.0.1"}}};
    for (std::size_t i = 0; i < many_workloads; ++i)
      views.push_back(
          {"zoo", "w" + std::to_string(1000 + i), "", 0, "audit", "waiting for its cgroup", {}, {}, {}, {}});
    return views;
  }
  [[nodiscard]] std::vector<api::EndpointView> endpoints() const override {
    return {{"tools", "mcp-server", 8080, "tcp", "resolved", {"tools/mcp-server"}, {"10.1.0.2:8080"}, {"team-a/agent"}},
            {"tools", "mcp-server", 9090, "udp", "no such service", {}, {}, {}},
            {"",
             "",
             443,
             "tcp",
             "resolved",
             {},
             {},
             {"team-a/agent"},
             "api.llm.example",
             {"team-a/agent"},
             {{"2001:db8::7", {"answer", "resolver"}, 28, "team-a/agent"}, {"203.0.113.7", {"resolver"}, 0, ""}},
             "192.0.2.53 did not answer"},
            {"", "", 443, "tcp", "never resolved", {}, {}, {"team-b/failed"}, "nobody.llm.example", {}, {}, ""}};
  }
  [[nodiscard]] api::StatsView stats() const override {
    return {{{"events", 5}}, {{"no_policy", 2}}, history.size(), history.total_added(), history.forgotten()};
  }
  [[nodiscard]] Result<api::ExplainView> explain(const api::ExplainQuery& query) const override {
    if (explain_throws) throw std::runtime_error("a defect");
    if (query.from == "team-a/nobody") return fail(ErrorCode::kNotFound, "there is no workload {}", query.from);
    if (query.to.find(':') == std::string::npos) return fail(ErrorCode::kInvalidArgument, "'{}' has no port", query.to);
    if (query.to == "tools/mcp-server:8080")
      return api::ExplainView{"ALLOWED",
                              {{"egress of " + query.from, "ALLOWED", "endpoint_allowed", "team-a/agent",
                                "spec.allowedEndpoints[0]", "It is named."}},
                              {}};
    return api::ExplainView{"DENIED",
                            {{"egress of " + query.from, "DENIED", "external_not_allowed", "", "", ""}},
                            {"spec:\n  allowedEndpoints: \x1b[2J"}};
  }
  [[nodiscard]] std::vector<std::string> baseline() const override {
    return {"Loopback inside a workload is always allowed."};
  }
  [[nodiscard]] const store::FlowHistory& flows() const override { return history; }
  [[nodiscard]] const token::Tracker& tokens() const override { return tracker; }
  [[nodiscard]] const api::Feed& feed() const override { return news; }

  bool ready = true, explain_throws = false;
  std::size_t many_workloads = 0;
  store::FlowHistory history{100'000};
  token::Tracker tracker;
  api::Feed news{"100", 1000};
};

}  // namespace casa::test

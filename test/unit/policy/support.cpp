// See support.h.
#include "support.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <catch2/catch_test_macros.hpp>

namespace casa::policy::test {

Lines lines(const ParseResult& result) {
  Lines out;
  for (const auto& d : result.diagnostics) {
    const char* severity = d.severity == Diagnostic::Severity::kWarning ? "warning: " : "";
    out.push_back(fmt::format("{}:{}: {}{}", d.where.line, d.where.column, severity, d.message));
    CHECK(d.where.file == "f");
    INFO(d.message);
    CHECK(has_advice(d.message));
  }
  return out;
}

Lines lines(std::string_view text, Syntax syntax) { return lines(parse_text("f", text, syntax)); }

void check_rows(std::string_view head, const std::vector<Row>& rows, Syntax syntax) {
  for (const auto& row : rows) {
    INFO(row.text);
    CHECK(lines(std::string(head) + std::string(row.text), syntax) == row.expected);
  }
}

bool has_advice(std::string_view message) {
  auto semicolon = message.rfind("; ");
  if (semicolon == std::string_view::npos) return false;
  auto advice = message.substr(semicolon + 2);
  for (std::string_view verb : {"write", "use", "remove", "did you mean", "save", "split", "put", "close", "move",
                                "indent", "begin", "correct", "name", "is the file"}) {
    if (advice.starts_with(verb)) return true;
  }
  return false;
}

namespace {

std::string text(const Meta& m) {
  std::string out = fmt::format("{}/{} uid={} labels={} annotations={}", m.ns, m.name, m.uid, m.labels, m.annotations);
  for (const auto& owner : m.owners)
    out += fmt::format(" owner={}/{}{}", owner.kind, owner.name, owner.controller ? "" : "-");
  return out;
}

std::string text(const std::vector<IpAddress>& ips) {
  std::string out;
  for (const auto& ip : ips) out += to_string(ip) + ",";
  return out;
}

std::string text(const std::vector<ServicePort>& ports) {
  std::string out;
  for (const auto& p : ports) {
    auto* number = std::get_if<std::uint16_t>(&p.target_port);
    out += fmt::format(" port={}:{}->{}/{}", p.name, p.port,
                       number != nullptr ? std::to_string(*number) : std::get<std::string>(p.target_port),
                       static_cast<int>(p.protocol));
  }
  return out;
}

std::string text(const std::optional<LlmEndpoint>& llm) {
  return llm ? fmt::format(" llm={}:{}", llm->fqdn, llm->port) : "";
}

std::string text(const CasaPolicy& p) {
  std::string out = fmt::format("target={} {} protocols={} audit={}", to_string(p.target_kind), p.target_name,
                                p.allowed_protocols, p.enforcement == Enforcement::kAudit);
  for (const auto& e : p.allowed_endpoints) out += fmt::format(" to={}/{}:{}", e.service.ns, e.service.name, e.port);
  for (const auto& s : p.allowed_sources) {
    out += " from=";
    if (std::holds_alternative<HostSource>(s.from)) out += "host";
    if (auto* w = std::get_if<NamespacedName>(&s.from)) out += w->ns + "/" + w->name;
    if (auto* c = std::get_if<IpPrefix>(&s.from)) out += to_string(*c);
    out += fmt::format(":{}", s.port);
  }
  return out + text(p.llm_endpoint);
}

std::string text(const MultiAgentSystem& m) {
  std::string out = fmt::format("name={} checks={}", m.name, m.enabled_tool_checks);
  for (const auto& a : m.apps)
    out += fmt::format(" app={},{},{},{},{}", a.name, to_string(a.type), a.kubernetes_workload_name, a.service, a.port);
  return out + text(m.llm);
}

std::string text(const Namespace&) { return ""; }

std::string text(const Pod& p) {
  std::string out = fmt::format("host={} ips={} cgroup={}", p.host_network, text(p.ips), p.cgroup);
  for (const auto& port : p.ports)
    out += fmt::format(" port={}:{}/{}", port.name, port.port, static_cast<int>(port.protocol));
  static constexpr const char* kQos[] = {"", "Guaranteed", "Burstable", "BestEffort"};
  return out + fmt::format(" node={} uid={} qos={} finished={} deleting={} istio={} probes={}", p.node, p.cgroup_uid,
                           kQos[static_cast<int>(p.qos)], p.finished, p.deleting, p.istio_proxy, p.probe_ports);
}

std::string text(const ClusterNode& n) {
  std::string out = "ips=" + text(n.addresses);
  for (const auto& network : n.pod_networks) out += " pods=" + to_string(network);
  return out;
}

std::string text(const Service& s) {
  return fmt::format("selector={} ips={} external={}{}", s.selector, text(s.cluster_ips), s.external_name,
                     text(s.ports));
}

std::string text(const EndpointSlice& s) {
  std::string out = "service=" + s.service + text(s.ports);
  for (const auto& e : s.endpoints) {
    out += fmt::format(" endpoint={} ready={} pod={}", text(e.addresses), e.ready,
                       e.pod ? e.pod->ns + "/" + e.pod->name : "");
  }
  return out;
}

std::string text(const PodMaker& m) {
  return fmt::format("match={}{} labels={} {}", m.match_labels, m.match_expressions ? " and expressions" : "",
                     m.pod.meta.labels, text(m.pod));
}

}  // namespace

std::string dump(const Object& object) {
  return fmt::format("{} {} {}", to_string(key_of(object).kind), text(meta_of(object)),
                     std::visit([](const auto& o) { return text(o); }, object));
}

std::string dump(const ParseResult& result) {
  std::string out;
  for (const auto& object : result.objects) out += dump(object) + "\n";
  return out;
}

}  // namespace casa::policy::test

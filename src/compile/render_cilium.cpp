// A Plan as CiliumNetworkPolicies. Every object denies by itself what it does not allow, in both directions, so that none depends on another
// to be safe. Ports are the Pods' own: Cilium looks at a packet after a Service's address has been replaced.
#include "compile/render_yaml.h"

namespace casa::compile {
namespace {

constexpr std::string_view kNamespaceLabel = "io.kubernetes.pod.namespace", kLabelSource = "k8s:";
constexpr std::size_t kMaxPorts = 40;  // in one list, says Cilium
constexpr std::uint16_t kHttpPort = 80;

class CiliumWriter {
 public:
  explicit CiliumWriter(const Plan& plan) : plan_(plan) {}

  std::string run() {
    for (const auto& subject : plan_.subjects) write(subject);
    return yaml_.take();
  }

 private:
  void write(const Subject& s) {
    yaml_.begin_object("cilium.io/v2", "CiliumNetworkPolicy", s);
    yaml_.labels(1, "endpointSelector", kLabelSource, s.labels);
    yaml_.line(1, "ingress:");
    if (s.unrestricted) yaml_.line(2, "- fromEntities: [all]");
    // An empty rule means no peer; it is what makes the direction deny.
    else if (s.ingress.empty()) yaml_.line(2, "- {{}}");
    for (const auto& [peer, allowed] : s.ingress) rule("from", peer, allowed.ports);
    yaml_.line(1, "egress:");
    if (s.unrestricted) yaml_.line(2, "- toEntities: [all]");
    else if (s.egress.empty() && s.hosts.empty() && s.dns_names.empty()) yaml_.line(2, "- {{}}");
    for (const auto& [peer, allowed] : s.egress) rule("to", peer, allowed.ports);
    for (const auto& [host, where] : s.hosts) outside(host.first, host.second);
    if (!s.dns_names.empty()) names(s.dns_names);
  }

  void rule(std::string_view way, const Peer& peer, const std::set<TargetPort>& to) {
    if (const auto* pods = std::get_if<PodSelector>(&peer)) {
      endpoints(way, *pods);
    } else if (const auto* prefix = std::get_if<IpPrefix>(&peer)) {
      yaml_.line(2, "- {}CIDR:", way);
      yaml_.line(4, "- {}", quoted(to_string(*prefix)));
    } else {
      yaml_.line(2, "- {}Entities: [host]", way);
    }
    ports(to);
  }

  void endpoints(std::string_view way, const PodSelector& pods) {
    Labels labels = pods.labels;
    labels[std::string(kNamespaceLabel)] = pods.ns;
    yaml_.line(2, "- {}Endpoints:", way);
    yaml_.line(4, "- matchLabels:");
    for (const auto& [name, value] : labels)
      yaml_.line(6, "{}: {}", quoted(fmt::format("{}{}", kLabelSource, name)), quoted(value));
  }

  void ports(const std::set<TargetPort>& to) {
    yaml_.line(3, "toPorts:");
    std::size_t count = 0;
    for (const auto& port : to) {
      if (count++ % kMaxPorts == 0) yaml_.line(4, "- ports:");
      yaml_.line(6, "- {{port: \"{}\", protocol: {}}}", port.port, to_string(port.protocol));
    }
  }

  // One name: its addresses as Cilium's DNS proxy learns them, and the name again in what is said there.
  void outside(const std::string& fqdn, std::uint16_t port) {
    yaml_.line(2, "- toFQDNs:");
    yaml_.line(4, "- matchName: {}", quoted(fqdn));
    ports({{port, policy::Protocol::kTcp}});
    if (port != kHttpPort) return yaml_.line(5, "serverNames: [{}]", quoted(fqdn));
    yaml_.line(5, "rules:");
    yaml_.line(6, "http:");
    std::string pattern;
    for (char c : fqdn) pattern += c == '.' ? "[.]" : std::string(1, c);
    yaml_.line(7, "- host: {}", quoted(pattern));
  }

  void names(const std::set<std::string>& names) {
    endpoints("to", plan_.resolver);
    ports(plan_.resolver_ports);
    yaml_.line(5, "rules:");
    yaml_.line(6, "dns:");
    for (const auto& name : names) yaml_.line(7, "- matchName: {}", quoted(name));
  }

  const Plan& plan_;
  YamlText yaml_;
};

}  // namespace

Rendered render_cilium(std::span<const policy::Object> objects, const RenderOptions& options) {
  Plan made = plan(objects, options);
  std::string yaml = CiliumWriter(made).run();
  return finish(std::move(made), std::move(yaml));
}

}  // namespace casa::compile

// A Plan as NetworkPolicies, which know Pods and networks by number and no names: what depends on a name is left out, with a note.
#include <algorithm>

#include "compile/render_yaml.h"

namespace casa::compile {
namespace {

constexpr std::string_view kNamespaceLabel = "kubernetes.io/metadata.name";

bool is_v4(const IpPrefix& prefix) { return prefix.length >= 96 && prefix.address.is_v4(); }

class NetworkPolicyWriter {
 public:
  NetworkPolicyWriter(Plan& plan, bool any_dns_name) : plan_(plan), any_dns_name_(any_dns_name) {}

  std::string run() {
    for (const auto& subject : plan_.subjects) write(subject);
    return yaml_.take();
  }

 private:
  template <typename... Args>
  void warn(const policy::Location& where, fmt::format_string<Args...> format, Args&&... args) {
    plan_.notes.push_back(
        {policy::Diagnostic::Severity::kWarning, where, fmt::format(format, std::forward<Args>(args)...)});
  }

  void write(const Subject& s) {
    yaml_.begin_object("networking.k8s.io/v1", "NetworkPolicy", s);
    yaml_.labels(1, "podSelector", "", s.labels);
    yaml_.line(1, "policyTypes: [Ingress, Egress]");
    if (s.unrestricted) {
      yaml_.line(1, "ingress: [{{}}]");
      return yaml_.line(1, "egress: [{{}}]");
    }
    direction("ingress", "from", s.ingress);
    Rules egress = s.egress;
    for (const auto& [host, where] : s.hosts) {
      warn(where,
           "a NetworkPolicy knows no names, so {}:{} is left out and stays denied; use casad render cilium, or casad's "
           "own enforcement",
           host.first, host.second);
    }
    if (!s.dns_names.empty() && any_dns_name_) {
      Allowed& resolver = egress.try_emplace(plan_.resolver, Allowed{{}, s.where}).first->second;
      resolver.ports.insert(plan_.resolver_ports.begin(), plan_.resolver_ports.end());
    } else if (!s.dns_names.empty()) {
      warn(
          s.where,
          "a NetworkPolicy cannot hold DNS to the names that are needed, so {}/{} may ask for none; use --any-dns-name "
          "to let it ask for every name, which can carry data out",
          s.ns, s.name);
    }
    direction("egress", "to", egress);
  }

  void direction(std::string_view key, std::string_view way, const Rules& rules) {
    bool begun = false;
    for (const auto& [peer, allowed] : rules) {
      std::vector<std::string> peer_lines = lines_of(peer, allowed.where);
      if (peer_lines.empty()) continue;
      if (!begun) yaml_.line(1, "{}:", key);
      begun = true;
      yaml_.line(2, "- {}:", way);
      for (const auto& text : peer_lines) yaml_.line(4, "{}", text);
      yaml_.line(3, "ports:");
      for (const auto& port : allowed.ports) {
        if (port.port == 0) yaml_.line(4, "- {{protocol: {}}}", to_string(port.protocol));
        else yaml_.line(4, "- {{protocol: {}, port: {}}}", to_string(port.protocol), port.port);
      }
    }
  }

  // Empty: the peer cannot be said.
  std::vector<std::string> lines_of(const Peer& peer, const policy::Location& where) {
    if (const auto* prefix = std::get_if<IpPrefix>(&peer)) return lines_of_network(*prefix, where);
    const auto* pods = std::get_if<PodSelector>(&peer);
    if (pods == nullptr) {
      warn(where,
           "a NetworkPolicy has no word for the node, so host: true is left out; remove it if Kubernetes may let a "
           "Pod's "
           "own node in on every port, as it does");
      return {};
    }
    std::vector<std::string> lines{
        "- namespaceSelector:", "    matchLabels:", fmt::format("      {}: {}", kNamespaceLabel, quoted(pods->ns)),
        "  podSelector:", "    matchLabels:"};
    for (const auto& [name, value] : pods->labels)
      lines.push_back(fmt::format("      {}: {}", quoted(name), quoted(value)));
    return lines;
  }

  // In an ipBlock a Pod's address counts as well, in a policy's cidr a Pod is who it is.
  std::vector<std::string> lines_of_network(const IpPrefix& prefix, const policy::Location& where) {
    std::vector<std::string> except;
    for (const auto& network : plan_.pod_networks) {
      if (network.contains(prefix)) {
        warn(where, "{} lies in the Pods' network {}, so it is left out; name the workload by namespace and name",
             to_string(prefix), to_string(network));
        return {};
      }
      if (prefix.contains(network) && is_v4(prefix) == is_v4(network)) except.push_back(to_string(network));
    }
    if (plan_.pod_networks.empty()) {
      warn(where,
           "no file tells the Pods' networks, so {} is left out, as Pods might be in it; name a file with the Nodes "
           "(kubectl get nodes -o yaml)",
           to_string(prefix));
      return {};
    }
    std::ranges::sort(except);
    except.erase(std::ranges::unique(except).begin(), except.end());
    std::vector<std::string> lines{"- ipBlock:", fmt::format("    cidr: {}", quoted(to_string(prefix)))};
    if (!except.empty()) lines.emplace_back("    except:");
    for (const auto& network : except) lines.push_back(fmt::format("      - {}", quoted(network)));
    return lines;
  }

  Plan& plan_;
  bool any_dns_name_;
  YamlText yaml_;
};

}  // namespace

Rendered render_network_policy(std::span<const policy::Object> objects, const RenderOptions& options) {
  Plan made = plan(objects, options);
  std::string yaml = NetworkPolicyWriter(made, options.any_dns_name).run();
  return finish(std::move(made), std::move(yaml));
}

}  // namespace casa::compile

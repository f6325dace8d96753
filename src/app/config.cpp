#include "app/config.h"

#include <sys/stat.h>

#include <array>
#include <fstream>
#include <sstream>

#include "base/location.h"
#include "base/text.h"
#include "policy/fields.h"
#include "policy/names.h"
#include "policy/readers.h"

namespace casa::app {
namespace {

using policy::Fields;
using policy::Node;
using policy::Path;
using policy::Report;

constexpr std::array<std::string_view, 11> kKeys = {"policyDir", "apiSocket", "cgroupRoot",  "bpffs",
                                                    "stateDir",  "logLevel",  "enforcement", "limits",
                                                    "dns",       "tokens",    "kubernetes"};
constexpr std::array<std::string_view, 5> kKubernetesKeys = {"nodeName", "strict", "kubeconfig", "inCluster",
                                                             "namespace"};
constexpr std::array<std::string_view, 3> kDnsKeys = {"resolvers", "resolvConf", "clusterDomain"};
constexpr std::array<std::string_view, 2> kTokenKeys = {"eventClasses", "signature"};
constexpr std::array<std::string_view, 4> kSignatureKeys = {"enabled", "jwks", "ca", "refreshSeconds"};
constexpr std::array<std::string_view, 6> kLimitKeys = {"cgroups",   "workloads", "policyEntries",
                                                        "addresses", "prefixes",  "names"};
constexpr std::array<std::string_view, 3> kEventClassKeys = {"class", "method", "path"};
constexpr std::array<std::string_view, 3> kEventClassWords = {"issuance", "exchange", "introspection"};
constexpr std::array<std::string_view, 2> kEnforcement = {"enforce", "audit"};
constexpr std::size_t kMaxConfigBytes = 1u << 20;
constexpr std::size_t kMaxLimit = 16u << 20;
constexpr std::size_t kMinRefresh = 10, kMaxRefresh = 86400;

void read_limit(Report& report, const Path& path, const Node* node, std::size_t& limit) {
  if (policy::is_null(node)) return;
  std::size_t value = 0;
  bool digits = node->type == Node::Type::kScalar && node->plain && !node->text.empty() && node->text.size() <= 8;
  for (char c : digits ? node->text : std::string_view{}) {
    digits = digits && c >= '0' && c <= '9';
    value = value * 10 + static_cast<std::size_t>(c - '0');
  }
  if (!digits || value == 0 || value > kMaxLimit) {
    report.error(node->at, "{}: not a number of entries; write a whole number from 1 to {}", path, kMaxLimit);
    return;
  }
  limit = value;
}

void read_resolvers(Report& report, const Path& path, const Node* node, std::vector<IpAddress>& resolvers) {
  if (policy::is_null(node)) return;
  if (node->type != Node::Type::kSequence) {
    report.error(node->at, "{}: not a list; write the addresses of DNS servers, such as [10.0.0.2]", path);
    return;
  }
  resolvers.clear();
  for (const Node* item = node->first; item != nullptr; item = item->next) {
    auto ip = item->type == Node::Type::kScalar ? parse_ip(item->text) : std::nullopt;
    if (ip) resolvers.push_back(*ip);
    else report.error(item->at, "{}: not an address; write one such as 10.0.0.2 or fd00::2, its port is 53", path);
  }
}

void read_dns(Report& report, const Path& path, const Node* node, Config& config) {
  if (policy::is_null(node)) return;
  Fields fields(report, path, node, kDnsKeys);
  if (!fields.usable()) return;
  Path resolvers = path / "resolvers", resolv_conf = path / "resolvConf", domain = path / "clusterDomain";
  read_resolvers(report, resolvers, fields["resolvers"], config.resolvers);
  if (auto value = policy::read_text(report, resolv_conf, fields["resolvConf"])) config.resolv_conf = *value;
  if (auto value = policy::read_text(report, domain, fields["clusterDomain"])) {
    std::string bad = policy::check_host(*value, config.cluster_domain);
    if (!bad.empty()) report.error(fields["clusterDomain"]->at, "{}: {}", domain, policy::Raw{bad});
  }
}

void read_event_class(Report& report, const Path& path, const Node* item, event::EventClasses& classes) {
  static constexpr event::EventClass kClasses[] = {event::EventClass::kIssuance, event::EventClass::kExchange,
                                                   event::EventClass::kIntrospection};
  Fields fields(report, path, item, kEventClassKeys);
  if (!fields.usable()) return;
  Path word_path = path / "class", method_path = path / "method", path_path = path / "path";
  auto word = policy::read_choice(report, word_path, fields["class"], kEventClassWords);
  auto method = policy::read_text(report, method_path, fields["method"]);
  auto pattern = policy::read_text(report, path_path, fields["path"]);
  if (policy::is_null(fields["class"]) || policy::is_null(fields["path"])) {
    report.error(item->at, "{}: class and path are needed, as in {{class: issuance, path: /oauth/token}}", path);
    return;
  }
  if (!word || !pattern) return;
  Status added = classes.add(kClasses[*word], method ? std::string_view(*method) : "POST", *pattern);
  if (!added) report.error(item->at, "{}: {}", path, policy::Raw{added.error().context});
}

// A list replaces the built-in one: whoever writes it knows the token endpoints of this system.
void read_event_classes(Report& report, const Path& list_path, const Node* list, event::EventClasses& classes) {
  if (policy::is_null(list)) return;
  if (list->type != Node::Type::kSequence) {
    report.error(list->at, "{}: not a list; write items such as {{class: issuance, path: /oauth/token}}", list_path);
    return;
  }
  classes.clear();
  std::size_t index = 0;
  for (const Node* item = list->first; item != nullptr; item = item->next)
    read_event_class(report, list_path[index++], item, classes);
}

void read_seconds(Report& report, const Path& path, const Node* node, std::uint32_t& seconds) {
  if (policy::is_null(node)) return;
  bool plain = node->type == Node::Type::kScalar && node->plain;
  auto value = plain ? parse_number(node->text, kMaxRefresh) : std::nullopt;
  if (value && *value >= kMinRefresh) seconds = static_cast<std::uint32_t>(*value);
  else
    report.error(node->at, "{}: not a number of seconds; write a whole number from {} to {}", path, kMinRefresh,
                 kMaxRefresh);
}

void read_signature(Report& report, const Path& path, const Node* node, SignatureConfig& config) {
  if (policy::is_null(node)) return;
  Fields fields(report, path, node, kSignatureKeys);
  if (!fields.usable()) return;
  if (auto value = policy::read_bool(report, path / "enabled", fields["enabled"])) config.enabled = *value;
  if (auto value = policy::read_text(report, path / "ca", fields["ca"])) config.ca = *value;
  read_seconds(report, path / "refreshSeconds", fields["refreshSeconds"], config.refresh_seconds);
  if (auto value = policy::read_text(report, path / "jwks", fields["jwks"])) {
    config.jwks = *value;
    if (auto location = parse_location(*value); !location)
      report.error(fields["jwks"]->at, "{}: {}", path / "jwks", policy::Raw{location.error().context});
  }
  if (config.enabled && config.jwks.empty() && policy::is_null(fields["jwks"]))
    report.error(node->at, "{}: it does not say where the keys are; write jwks: <a file's path or an https:// URL>",
                 path);
}

void read_tokens(Report& report, const Path& path, const Node* node, Config& config) {
  if (policy::is_null(node)) return;
  Fields fields(report, path, node, kTokenKeys);
  if (!fields.usable()) return;
  Path classes = path / "eventClasses", signature = path / "signature";
  read_event_classes(report, classes, fields["eventClasses"], config.event_classes);
  read_signature(report, signature, fields["signature"], config.tokens.signature);
}

void read_kubernetes(Report& report, const Path& path, const Node* node, KubernetesConfig& config) {
  if (policy::is_null(node)) return;
  Fields fields(report, path, node, kKubernetesKeys);
  if (!fields.usable()) return;
  if (auto value = policy::read_checked(report, path / "nodeName", fields["nodeName"], policy::check_subdomain))
    config.node_name = *value;
  if (auto value = policy::read_bool(report, path / "strict", fields["strict"])) config.strict = *value;
  if (auto value = policy::read_text(report, path / "kubeconfig", fields["kubeconfig"])) config.kubeconfig = *value;
  if (auto value = policy::read_bool(report, path / "inCluster", fields["inCluster"])) config.in_cluster = *value;
  if (auto value = policy::read_checked(report, path / "namespace", fields["namespace"], policy::check_label_name))
    config.daemon_namespace = *value;
}

void read_document(Report& report, const Node* root, Config& config) {
  if (policy::is_null(root)) return;
  Path top;
  Fields fields(report, top, root, kKeys);
  if (!fields.usable()) return;
  auto text = [&](std::string_view key, std::string& into) {
    Path path = top / key;
    if (auto value = policy::read_text(report, path, fields[key])) into = *value;
  };
  text("policyDir", config.policy_dir);
  text("apiSocket", config.api_socket);
  text("cgroupRoot", config.cgroup_root);
  text("bpffs", config.bpffs);
  text("stateDir", config.state_dir);
  text("logLevel", config.log_level);
  Path enforcement = top / "enforcement";
  if (auto choice = policy::read_choice(report, enforcement, fields["enforcement"], kEnforcement))
    config.audit = *choice == 1;
  Path dns = top / "dns";
  read_dns(report, dns, fields["dns"], config);
  Path tokens = top / "tokens";
  read_tokens(report, tokens, fields["tokens"], config);
  Path kubernetes = top / "kubernetes";
  read_kubernetes(report, kubernetes, fields["kubernetes"], config.kubernetes);
  if (policy::is_null(fields["limits"])) return;
  Path limits_path = top / "limits";
  Fields limits(report, limits_path, fields["limits"], kLimitKeys);
  if (!limits.usable()) return;
  auto limit = [&](std::string_view key, std::size_t& into) {
    Path path = limits_path / key;
    read_limit(report, path, limits[key], into);
  };
  limit("cgroups", config.limits.cgroups);
  limit("workloads", config.limits.subjects);
  limit("policyEntries", config.limits.policy);
  limit("addresses", config.limits.addresses);
  limit("prefixes", config.limits.prefixes);
  limit("names", config.limits.names);
}

}  // namespace

Status read_config(const std::string& path, bool named, Config& config) {
  std::ifstream in(path, std::ios::binary);
  if (!in) {
    if (!named && errno == ENOENT) return {};
    return fail_errno(errno, "cannot read the config {}", path);
  }
  std::string bytes(kMaxConfigBytes + 1, '\0');
  in.read(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  bytes.resize(static_cast<std::size_t>(in.gcount()));
  if (bytes.size() > kMaxConfigBytes)
    return fail(ErrorCode::kLimit, "the config {} is larger than {} bytes", path, kMaxConfigBytes);
  Report report(path);
  policy::TreeBuilder builder(report);
  std::size_t documents = 0;
  policy::SourceText source(bytes);
  if (source.problem()) {
    report.error(source.problem()->at, "{}", source.problem()->message);
  } else {
    policy::read_yaml(source, builder, report, [&](const Node* root) {
      if (documents++ == 0) read_document(report, root, config);
      else
        report.error(root == nullptr ? policy::Position{1, 1} : root->at, "a second document; write one document only");
    });
  }
  policy::ParseResult result;
  report.finish(result);
  if (result.ok()) return {};
  std::string text;
  for (const auto& diagnostic : result.diagnostics) text += (text.empty() ? "" : "\n") + policy::to_string(diagnostic);
  return fail(ErrorCode::kInvalidArgument, "{}", text);
}

Status check_config(const Config& config) {
  if (config.kubernetes.strict && config.kubernetes.node_name.empty())
    return fail(ErrorCode::kInvalidArgument,
                "kubernetes.strict is about Pods of a node; write kubernetes.nodeName as well");
  if (config.kubernetes.has_server() && config.kubernetes.node_name.empty())
    return fail(ErrorCode::kInvalidArgument,
                "which of the API server's Pods are here? Write kubernetes.nodeName (--node-name) as well");
  if (config.kubernetes.in_cluster && !config.kubernetes.kubeconfig.empty())
    return fail(ErrorCode::kInvalidArgument,
                "kubernetes.kubeconfig and kubernetes.inCluster are two ways to the API server; write one of them");
  return {};
}

}  // namespace casa::app

// CASAPolicy, casa.io/v1alpha1: the fields of the custom resource and this project's additive ones (allowedSources,
// enforcement, tokens). docs/policy.md says what each means. Strict at every level: what is not known here is an error, as it would
// otherwise be a rule that its author believes in and nobody enforces. Looks nothing up: whether a Service exists is for
// later rooms.
#include <set>

#include "base/text.h"

#include "policy/kinds.h"
#include "policy/names.h"

namespace casa::policy {
namespace {

constexpr std::string_view kObjectFields[] = {"apiVersion", "kind", "metadata", "spec", "status"};
constexpr std::string_view kSpecFields[] = {
    "targetRef", "allowedProtocols", "allowedEndpoints", "allowedSources", "llmEndpoint", "enforcement", "tokens"};
constexpr std::string_view kTargetFields[] = {"kind", "name"};
constexpr std::string_view kTargetKinds[] = {"Deployment", "StatefulSet", "Pod"};
constexpr std::string_view kProtocols[] = {"mcp", "a2a", "http"};
constexpr std::string_view kEndpointFields[] = {"name", "namespace", "port"};
constexpr std::string_view kSourceFields[] = {"host", "namespace", "name", "cidr", "port"};
constexpr std::string_view kLlmFields[] = {"fqdn", "port"};
constexpr std::string_view kEnforcements[] = {"enforce", "audit"};
constexpr std::string_view kTokenFields[] = {"exfiltration", "requireValidSignature", "tlsObserver"};
constexpr std::string_view kTokenActions[] = {"alert", "drop"};
constexpr std::string_view kTlsObservers[] = {"openssl", "node", "go", "auto"};
constexpr std::string_view kSourceForms = "host: true, or namespace and name, or cidr: <network>";

void read_target(Report& report, const Path& path, const Node* node, CasaPolicy& policy) {
  Fields fields(report, path, node, kTargetFields);
  auto kind =
      read_choice(report, path / "kind", fields.require("kind", "kind: Deployment, StatefulSet or Pod"), kTargetKinds);
  auto name =
      read_checked(report, path / "name", fields.require("name", "name: <the workload's name>"), check_subdomain);
  if (kind) policy.target_kind = static_cast<TargetKind>(*kind);
  if (name) policy.target_name = std::move(*name);
}

void read_protocols(Report& report, const Path& path, const Node* node, CasaPolicy& policy) {
  std::set<std::size_t> seen;
  for_each_item(report, path, node, [&](const Path& at, const Node& item) {
    auto choice = read_choice(report, at, &item, kProtocols);
    if (!choice) return;
    if (!seen.insert(*choice).second) {
      return report.warning(item.at, "{}: {} is in the list already; remove one of the two", at, kProtocols[*choice]);
    }
    policy.allowed_protocols.emplace_back(kProtocols[*choice]);
  });
}

void read_endpoints(Report& report, const Path& path, const Node* node, CasaPolicy& policy) {
  std::set<std::pair<NamespacedName, std::uint16_t>> seen;
  for_each_item(report, path, node, [&](const Path& at, const Node& item) {
    Fields fields(report, at, &item, kEndpointFields);
    auto name =
        read_checked(report, at / "name", fields.require("name", "name: <the Service's name>"), check_service_name);
    auto ns = read_checked(report, at / "namespace",
                           fields.require("namespace", "namespace: <the Service's namespace>"), check_label_name);
    auto port = read_port(report, at / "port", fields.require("port", "port: <the Service's port>"));
    if (!name || !ns || !port) return;
    NamespacedName service{std::move(*ns), std::move(*name)};
    if (!seen.emplace(service, *port).second) {
      return report.warning(item.at, "{}: Service {}/{} port {} is in the list already; remove one of the two", at,
                            service.ns, service.name, *port);
    }
    policy.allowed_endpoints.push_back({std::move(service), *port, report.where(item.at)});
  });
}

IpPrefix network_of(const IpAddress& ip, unsigned length) {
  IpPrefix prefix{ip, static_cast<std::uint8_t>(length)};
  for (unsigned bit = length; bit < 128; ++bit)
    prefix.address.bytes[bit / 8] &= static_cast<std::uint8_t>(~(0x80u >> (bit % 8)));
  return prefix;
}

// What is wrong with a text that parse_prefix does not take.
std::string explain_cidr(std::string_view text) {
  auto slash = text.rfind('/');
  auto ip = parse_ip(text.substr(0, slash));
  if (ip && slash == std::string_view::npos) {
    return fmt::format("{} has no prefix length; write {}/{} for this one address", Quoted{text}, text,
                       ip->is_v4() ? 32 : 128);
  }
  if (ip) {
    bool dotted = text.find(':') == std::string_view::npos;
    auto length = parse_number(text.substr(slash + 1), dotted ? 32 : 128);
    if (length && text.substr(slash + 1) == std::to_string(*length)) {
      auto network = network_of(*ip, static_cast<unsigned>(*length) + (dotted ? 96 : 0));
      return fmt::format("{} has address bits behind its prefix; write the network: {}", Quoted{text},
                         to_string(network));
    }
    return fmt::format("{} has no valid prefix length; write a number from 0 to {} after the '/'", Quoted{text},
                       dotted ? 32 : 128);
  }
  if (text.find('*') != std::string_view::npos)
    return fmt::format("{} is a pattern; write a network such as 10.0.0.0/8 or fd00::/8", Quoted{text});
  return fmt::format("{} is not a network; write one such as 10.0.0.0/8 or fd00::/8", Quoted{text});
}

std::optional<IpPrefix> read_cidr(Report& report, const Path& path, const Node* node) {
  auto text = read_text(report, path, node);
  if (!text) return std::nullopt;
  auto prefix = parse_prefix(*text);
  if (!prefix) {
    report.error(node->at, "{}: {}", path, explain_cidr(*text));
    return std::nullopt;
  }
  bool inside_loopback = prefix->address.is_loopback() && prefix->length >= (prefix->address.is_v4() ? 104 : 128);
  if (inside_loopback) {
    report.error(
        node->at,
        "{}: {} is loopback, which has no meaning between workloads; write host: true for processes of this machine",
        path, Quoted{*text});
    return std::nullopt;
  }
  static const IpPrefix kAllV4 = *parse_prefix("0.0.0.0/0");
  if (prefix->length == 0) {
    report.warning(node->at, "{}: {} allows every IPv6 address; write smaller networks if that is not meant", path,
                   *text);
  } else if (*prefix == kAllV4) {
    report.warning(node->at, "{}: {} allows every IPv4 address; write smaller networks if that is not meant", path,
                   *text);
  }
  return prefix;
}

// The three forms, of which an entry has exactly one.
bool check_source_form(Report& report, const Path& path, const Fields& fields, Position at) {
  bool host = fields["host"] != nullptr, cidr = fields["cidr"] != nullptr;
  bool workload = fields["name"] != nullptr || fields["namespace"] != nullptr;
  int forms = int{host} + int{cidr} + int{workload};
  if (forms == 1) return true;
  report.error(at, "{}: {}; write exactly one of {}", path,
               forms == 0 ? "it does not say who may call" : "it names more than one kind of source", kSourceForms);
  return false;
}

std::optional<AllowedSource> read_source(Report& report, const Path& path, const Node& item) {
  Fields fields(report, path, &item, kSourceFields);
  auto port = read_port(report, path / "port", fields["port"]);
  if (!fields.usable() || !check_source_form(report, path, fields, item.at)) return std::nullopt;
  if (fields["port"] != nullptr && !port) return std::nullopt;
  AllowedSource source{HostSource{}, port.value_or(0), report.where(item.at)};
  if (const Node* host = fields["host"]) {
    auto value = read_bool(report, path / "host", host);
    if (value && !*value) {
      report.error(host->at, "{}: false allows nobody; write true, or remove the entry", path / "host");
      return std::nullopt;
    }
    return value ? std::optional(source) : std::nullopt;
  }
  if (const Node* cidr = fields["cidr"]) {
    auto prefix = read_cidr(report, path / "cidr", cidr);
    if (!prefix) return std::nullopt;
    source.from = *prefix;
    return source;
  }
  auto ns = read_checked(report, path / "namespace", fields.require("namespace", "namespace: <the caller's namespace>"),
                         check_label_name);
  auto name = read_checked(report, path / "name", fields.require("name", "name: <the calling workload's name>"),
                           check_subdomain);
  if (!ns || !name) return std::nullopt;
  source.from = NamespacedName{std::move(*ns), std::move(*name)};
  return source;
}

std::string source_key(const AllowedSource& source) {
  std::string who = "the host";
  if (auto* workload = std::get_if<NamespacedName>(&source.from))
    who = fmt::format("workload {}/{}", workload->ns, workload->name);
  if (auto* prefix = std::get_if<IpPrefix>(&source.from)) who = to_string(*prefix);
  return source.port == 0 ? who : fmt::format("{} port {}", who, source.port);
}

void read_sources(Report& report, const Path& path, const Node* node, CasaPolicy& policy) {
  std::set<std::string> seen;
  for_each_item(report, path, node, [&](const Path& at, const Node& item) {
    auto source = read_source(report, at, item);
    if (!source) return;
    std::string key = source_key(*source);
    if (!seen.insert(key).second) {
      return report.warning(item.at, "{}: {} is in the list already; remove one of the two", at, key);
    }
    policy.allowed_sources.push_back(std::move(*source));
  });
}

void read_llm(Report& report, const Path& path, const Node* node, CasaPolicy& policy) {
  if (node == nullptr) return;
  Fields fields(report, path, node, kLlmFields);
  auto fqdn = read_fqdn(report, path / "fqdn", fields.require("fqdn", "fqdn: <the LLM's host name>"));
  auto port = read_port(report, path / "port", fields.require("port", "port: 443"));
  if (fqdn && port) policy.llm_endpoint = LlmEndpoint{std::move(*fqdn), *port, report.where(node->at)};
}

void read_tokens(Report& report, const Path& path, const Node* node, CasaPolicy& policy) {
  if (is_null(node)) return;
  Fields fields(report, path, node, kTokenFields);
  auto action = [&](std::string_view name, TokenAction& into) {
    if (auto choice = read_choice(report, path / name, fields[name], kTokenActions))
      into = static_cast<TokenAction>(*choice);
  };
  action("exfiltration", policy.tokens.exfiltration);
  action("requireValidSignature", policy.tokens.require_valid_signature);
  if (auto choice = read_choice(report, path / "tlsObserver", fields["tlsObserver"], kTlsObservers))
    policy.tokens.tls_observer = static_cast<TlsObserver>(*choice);
}

}  // namespace

std::optional<std::string> read_fqdn(Report& report, const Path& path, const Node* node) {
  return read_host_name(report, path, node, check_fqdn);
}

CasaPolicy read_casa_policy(Report& report, const Path& path, const Node& node) {
  CasaPolicy policy;
  Fields object(report, path, &node, kObjectFields);
  policy.meta = read_meta(report, path, object, Kind::kCasaPolicy);
  Path at = path / "spec";
  Fields spec(report, at, object.require("spec", "spec: with a targetRef"), kSpecFields);
  Path target = at / "targetRef";
  read_target(report, target, spec.require("targetRef", "targetRef: {kind: Deployment, name: <the workload's name>}"),
              policy);
  read_protocols(report, at / "allowedProtocols", spec["allowedProtocols"], policy);
  read_endpoints(report, at / "allowedEndpoints", spec["allowedEndpoints"], policy);
  read_sources(report, at / "allowedSources", spec["allowedSources"], policy);
  read_llm(report, at / "llmEndpoint", spec["llmEndpoint"], policy);
  if (auto choice = read_choice(report, at / "enforcement", spec["enforcement"], kEnforcements)) {
    policy.enforcement = static_cast<Enforcement>(*choice);
  }
  read_tokens(report, at / "tokens", spec["tokens"], policy);
  return policy;
}

}  // namespace casa::policy

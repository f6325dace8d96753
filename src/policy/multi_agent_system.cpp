// MultiAgentSystem, casa.io/v1alpha1: the fields of the custom resource, with `client` as an app type and baseUrl also as
// one URL (older versions wrote it so). Strict at every level, like CASAPolicy. What the apps' types mean for the network
// is for compile/ to say.
#include <map>

#include "base/text.h"
#include "policy/kinds.h"
#include "policy/names.h"

namespace casa::policy {
namespace {

constexpr std::string_view kObjectFields[] = {"apiVersion", "kind", "metadata", "spec", "status"};
constexpr std::string_view kSpecFields[] = {"name", "enabledToolChecks", "llm_host", "apps"};
constexpr std::string_view kAppFields[] = {"name", "type", "kubernetesWorkloadName", "baseUrl", "httpRequestSchema"};
constexpr std::string_view kAppTypes[] = {"agent", "client", "mcp_server"};
constexpr std::string_view kBaseUrlFields[] = {"host", "scheme"};
constexpr std::string_view kSchemaFields[] = {"promptFieldJsonPath"};
constexpr std::string_view kSchemes[] = {"http", "https"};
constexpr std::string_view kToolChecks[] = {"DETERMINISTIC_TOOL_SELECTED", "DETERMINISTIC_LLM_SELECTED_TOOLS",
                                            "AI_POWERED_TOOL_MATCH"};
constexpr std::uint16_t kSchemePorts[] = {80, 443};
constexpr std::uint16_t kLlmPort = 443;

// "service[:port][/path]" to service and port (0: not written); what is wrong with it, or empty.
std::string parse_authority(std::string_view text, std::string& service, std::uint16_t& port) {
  std::string_view authority = text.substr(0, text.find_first_of("/?#"));
  if (authority.find('@') != std::string_view::npos) {
    return fmt::format("{} contains a user name; write service:port only", Quoted{text});
  }
  auto colon = authority.find(':');
  if (authority.starts_with('[') || colon != authority.rfind(':')) {
    return fmt::format("{} is an address, not a Service's name; write service:port", Quoted{text});
  }
  port = 0;
  if (colon != std::string_view::npos) {
    auto number = parse_number(authority.substr(colon + 1), 65535);
    if (!number || *number == 0) {
      return fmt::format("{} has no valid port after ':'; write a number from 1 to 65535", Quoted{text});
    }
    port = static_cast<std::uint16_t>(*number);
  }
  return check_host(authority.substr(0, colon), service);
}

void read_url(Report& report, const Path& path, const Node* node, MasApp& app) {
  auto text = read_text(report, path, node);
  if (!text) return;
  std::string_view rest = *text;
  auto scheme_end = rest.find("://");
  std::string_view scheme = rest.substr(0, scheme_end == std::string_view::npos ? 0 : scheme_end);
  if (scheme != kSchemes[0] && scheme != kSchemes[1]) {
    return report.error(node->at, "{}: {} does not begin with http:// or https://; write http://service:port/path",
                        path, Quoted{*text});
  }
  rest.remove_prefix(scheme_end + 3);
  if (std::string bad = parse_authority(rest, app.service, app.port); !bad.empty()) {
    return report.error(node->at, "{}: {}", path, bad);
  }
  if (app.port == 0) app.port = kSchemePorts[scheme == kSchemes[1] ? 1 : 0];
}

void read_base_url(Report& report, const Path& path, const Node* node, MasApp& app) {
  if (node == nullptr) return;
  if (node->type == Node::Type::kScalar) return read_url(report, path, node, app);
  Fields fields(report, path, node, kBaseUrlFields);
  const Node* host = fields.require("host", "host: \"service:port/path\"");
  auto scheme = read_choice(report, path / "scheme", fields.require("scheme", "scheme: http or https"), kSchemes);
  auto text = read_text(report, path / "host", host);
  if (!text) return;
  if (text->find("://") != std::string::npos) {
    return report.error(host->at, "{}: {} is a URL; write service:port/path here, and http or https in scheme",
                        path / "host", Quoted{*text});
  }
  if (std::string bad = parse_authority(*text, app.service, app.port); !bad.empty()) {
    return report.error(host->at, "{}: {}", path / "host", bad);
  }
  if (app.port == 0) app.port = kSchemePorts[scheme.value_or(0)];
}

void read_schema(Report& report, const Path& path, const Node* node) {
  if (node == nullptr) return;
  Fields schema(report, path, node, kSchemaFields);
  (void)read_text(report, path / "promptFieldJsonPath",
                  schema.require("promptFieldJsonPath", "promptFieldJsonPath: <a JSON path>"));
}

MasApp read_app(Report& report, const Path& path, const Node& node) {
  MasApp app;
  app.where = report.where(node.at);
  Fields fields(report, path, &node, kAppFields);
  const Node* name = fields.require("name", "name: <the app's name>");
  app.name = read_text(report, path / "name", name).value_or("");
  if (name != nullptr && name->type == Node::Type::kScalar && name->text.empty()) {
    report.error(name->at, "{}: the name is empty; write the app's name", path / "name");
  }
  auto type =
      read_choice(report, path / "type", fields.require("type", "type: agent, client or mcp_server"), kAppTypes);
  if (type) app.type = static_cast<AppType>(*type);
  const Node* workload = fields.require("kubernetesWorkloadName", "kubernetesWorkloadName: <the Deployment's name>");
  app.kubernetes_workload_name =
      read_checked(report, path / "kubernetesWorkloadName", workload, check_subdomain).value_or("");
  const Node* base_url = fields.require("baseUrl", "baseUrl: {host: \"service:port/path\", scheme: http}");
  Path url = path / "baseUrl";
  read_base_url(report, url, base_url, app);
  Path schema = path / "httpRequestSchema";
  read_schema(report, schema, fields["httpRequestSchema"]);
  return app;
}

void read_apps(Report& report, const Path& path, const Node* node, MultiAgentSystem& mas) {
  std::map<std::string, Position> seen;
  for_each_item(report, path, node, [&](const Path& at, const Node& item) {
    MasApp app = read_app(report, at, item);
    if (!app.name.empty()) {
      auto [first, is_new] = seen.emplace(app.name, item.at);
      if (!is_new) {
        report.error(item.at, "{}: an app named {} is already at line {}; write another name, or remove one of the two",
                     at, Quoted{app.name}, first->second.line);
      }
    }
    mas.apps.push_back(std::move(app));
  });
}

}  // namespace

MultiAgentSystem read_multi_agent_system(Report& report, const Path& path, const Node& node) {
  MultiAgentSystem mas;
  Fields object(report, path, &node, kObjectFields);
  mas.meta = read_meta(report, path, object, Kind::kMultiAgentSystem);
  Path at = path / "spec";
  Fields spec(report, at, object.require("spec", "spec: with a name and its apps"), kSpecFields);
  mas.name = read_text(report, at / "name", spec.require("name", "name: <the system's name>")).value_or("");
  for_each_item(report, at / "enabledToolChecks", spec["enabledToolChecks"],
                [&](const Path& item_path, const Node& item) {
                  auto choice = read_choice(report, item_path, &item, kToolChecks);
                  if (choice) mas.enabled_tool_checks.emplace_back(kToolChecks[*choice]);
                });
  if (const Node* host = spec["llm_host"]) {
    auto fqdn = read_fqdn(report, at / "llm_host", host);
    if (fqdn) mas.llm = LlmEndpoint{std::move(*fqdn), kLlmPort, report.where(host->at)};
  }
  read_apps(report, at / "apps", spec["apps"], mas);
  return mas;
}

}  // namespace casa::policy

// Every rule of a MultiAgentSystem.
#include <catch2/catch_test_macros.hpp>

#include "support.h"

using namespace casa::policy;
using namespace casa::policy::test;

namespace {
constexpr std::string_view kHead =
    "apiVersion: casa.io/v1alpha1\n"
    "kind: MultiAgentSystem\n"
    "metadata: {name: m, namespace: a}\n"
    "spec:\n"
    "  name: M\n";  // rows begin in line 6
std::string app(std::string_view rest) {
  return "  apps: [{name: x, type: agent, kubernetesWorkloadName: w, " + std::string(rest) + "}]";
}
}  // namespace

TEST_CASE("the fields of a system") {
  check_rows(
      kHead,
      {
          {"", {}},
          {"  llm_host: api.openai.com\n  enabledToolChecks: [AI_POWERED_TOOL_MATCH]\n  apps: []\nstatus: {phase: "
           "Active, appsReady: 2}",
           {}},
          {"  llm_host: https://api.openai.com/v1",
           {"6:13: spec.llm_host: \"https://api.openai.com/v1\" is a URL; write only its host name: api.openai.com"}},
          {"  llmHost: a.b", {"6:3: spec.llmHost: unknown field; did you mean llm_host?"}},
          {"  enabledToolChecks: [AI_POWERED]",
           {"6:23: spec.enabledToolChecks[0]: the text \"AI_POWERED\" is not possible here; write "
            "DETERMINISTIC_TOOL_SELECTED, DETERMINISTIC_LLM_SELECTED_TOOLS or AI_POWERED_TOOL_MATCH"}},
          {"  apps: {}",
           {"6:9: spec.apps: this must be a list, not a mapping; write each entry after \"- \", or all in [ ]"}},
          {"  apps: [{}]",
           {"6:10: spec.apps[0].baseUrl: the field is missing; write baseUrl: {host: \"service:port/path\", scheme: "
            "http}",
            "6:10: spec.apps[0].kubernetesWorkloadName: the field is missing; write kubernetesWorkloadName: <the "
            "Deployment's name>",
            "6:10: spec.apps[0].name: the field is missing; write name: <the app's name>",
            "6:10: spec.apps[0].type: the field is missing; write type: agent, client or mcp_server"}},
          {"  apps: [{name: x, type: mcp, kubernetesWorkloadName: w, baseUrl: 'http://s'}]",
           {"6:26: spec.apps[0].type: the text \"mcp\" is not possible here; write agent, client or mcp_server"}},
          {"  apps: [{name: '', type: client, kubernetesWorkloadName: w, baseUrl: 'http://s'}]",
           {"6:17: spec.apps[0].name: the name is empty; write the app's name"}},
          {"  apps:\n  - {name: x, type: client, kubernetesWorkloadName: w, baseUrl: 'http://s'}\n  - {name: x, type: "
           "agent, kubernetesWorkloadName: v, baseUrl: 'http://s'}",
           {"8:5: spec.apps[1]: an app named \"x\" is already at line 7; write another name, or remove one of the "
            "two"}},
          {app("baseUrl: 'http://s', url: x"),
           {"6:81: spec.apps[0].url: unknown field; remove it, or write name, type, kubernetesWorkloadName, baseUrl or "
            "httpRequestSchema"}},
          {app("baseUrl: 'http://s', httpRequestSchema: {promptFieldJsonPath: $.a}"), {}},
          {app("baseUrl: 'http://s', httpRequestSchema: {}"),
           {"6:100: spec.apps[0].httpRequestSchema.promptFieldJsonPath: the field is missing; write "
            "promptFieldJsonPath: <a JSON path>"}},
          {app("baseUrl: 'http://s', httpRequestSchema: {prompt: a, promptFieldJsonPath: b}"),
           {"6:101: spec.apps[0].httpRequestSchema.prompt: unknown field; remove it, or write promptFieldJsonPath"}},
      });
  CHECK(lines("apiVersion: casa.io/v1alpha1\nkind: MultiAgentSystem\nmetadata: {name: m}\nspec: {}") ==
        Lines{"4:7: spec.name: the field is missing; write name: <the system's name>"});
  CHECK(lines("apiVersion: casa.io/v1alpha1\nkind: MultiAgentSystem\nmetadata: {name: m}\n") ==
        Lines{"1:1: spec: the field is missing; write spec: with a name and its apps"});
}

TEST_CASE("both forms of baseUrl") {
  auto result = [](std::string_view url) {
    auto r = parse_text("f", std::string(kHead) + app("baseUrl: " + std::string(url)), Syntax::kYaml);
    INFO(url);
    REQUIRE(lines(r).empty());
    const auto& a = std::get<MultiAgentSystem>(r.objects.at(0)).apps.at(0);
    return a.service + " " + std::to_string(a.port);
  };
  CHECK(result("'http://s:8080/mcp'") == "s 8080");
  CHECK(result("'http://s'") == "s 80");
  CHECK(result("'https://S.team-a.svc.cluster.local/x:9'") == "s.team-a.svc.cluster.local 443");
  CHECK(result("'http://s?x=1'") == "s 80");
  CHECK(result("{host: 's:8080/mcp', scheme: http}") == "s 8080");
  CHECK(result("{host: s, scheme: http}") == "s 80");
  CHECK(result("{host: s/a, scheme: https}") == "s 443");
}

TEST_CASE("bad forms of baseUrl") {
  check_rows(
      std::string(kHead),
      {
          {app("baseUrl: s"),
           {"6:69: spec.apps[0].baseUrl: \"s\" does not begin with http:// or https://; write "
            "http://service:port/path"}},
          {app("baseUrl: 'ftp://s'"),
           {"6:69: spec.apps[0].baseUrl: \"ftp://s\" does not begin with http:// or https://; write "
            "http://service:port/path"}},
          {app("baseUrl: 'http://u:p@s/'"),
           {"6:69: spec.apps[0].baseUrl: \"u:p@s/\" contains a user name; write service:port only"}},
          {app("baseUrl: 'http://s:0'"),
           {"6:69: spec.apps[0].baseUrl: \"s:0\" has no valid port after ':'; write a number from 1 to 65535"}},
          {app("baseUrl: 'http://s:x'"),
           {"6:69: spec.apps[0].baseUrl: \"s:x\" has no valid port after ':'; write a number from 1 to 65535"}},
          {app("baseUrl: 'http://[::1]:80'"),
           {"6:69: spec.apps[0].baseUrl: \"[::1]:80\" is an address, not a Service's name; write service:port"}},
          {app("baseUrl: 'http://10.0.0.1:80'"),
           {"6:69: spec.apps[0].baseUrl: \"10.0.0.1\" is an address, not a name; write the host name that the agent "
            "calls"}},
          {app("baseUrl: 'http://'"),
           {"6:69: spec.apps[0].baseUrl: the host name is empty; write the whole name, such as api.example.com"}},
          {app("baseUrl: {host: 'http://s', scheme: http}"),
           {"6:76: spec.apps[0].baseUrl.host: \"http://s\" is a URL; write service:port/path here, and http or https "
            "in scheme"}},
          {app("baseUrl: {host: s}"),
           {"6:69: spec.apps[0].baseUrl.scheme: the field is missing; write scheme: http or https"}},
          {app("baseUrl: {host: s, scheme: HTTP}"),
           {"6:87: spec.apps[0].baseUrl.scheme: the text \"HTTP\" is not possible here; did you mean http?"}},
          {app("baseUrl: {host: s, scheme: http, port: 1}"),
           {"6:93: spec.apps[0].baseUrl.port: unknown field; remove it, or write host or scheme"}},
          {app("baseUrl: 8080"),
           {"6:69: spec.apps[0].baseUrl: this must be a text, not the number 8080; put it in quotes: \"8080\""}},
      });
}

TEST_CASE("a good system, whole") {
  auto r = parse_text(
      "f",
      std::string(kHead) +
          "  llm_host: API.openai.com\n  enabledToolChecks: [DETERMINISTIC_TOOL_SELECTED]\n"
          "  apps:\n  - {name: x, type: client, kubernetesWorkloadName: w, baseUrl: 'http://s:1/p'}\n"
          "  - {name: y, type: mcp_server, kubernetesWorkloadName: v, baseUrl: {host: 't:2', scheme: https}}\n",
      Syntax::kYaml);
  CHECK(r.ok());
  CHECK(dump(r) ==
        "MultiAgentSystem a/m uid= labels={} annotations={} name=M checks=[\"DETERMINISTIC_TOOL_SELECTED\"] "
        "app=x,client,w,s,1 app=y,mcp_server,v,t,2 llm=api.openai.com:443\n");
}

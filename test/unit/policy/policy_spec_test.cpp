// Every rule of a CASAPolicy's spec, as text and the exact diagnostics.
#include <catch2/catch_test_macros.hpp>

#include "support.h"

using namespace casa::policy;
using namespace casa::policy::test;

namespace {
// The rows below begin in line 6.
constexpr std::string_view kHead =
    "apiVersion: casa.io/v1alpha1\n"
    "kind: CASAPolicy\n"
    "metadata: {name: p, namespace: a}\n"
    "spec:\n"
    "  targetRef: {kind: Deployment, name: w}\n";
constexpr std::string_view kObject =
    "apiVersion: casa.io/v1alpha1\nkind: CASAPolicy\nmetadata: {name: p, namespace: a}\n";
constexpr std::string_view kPortAdvice = "; write a whole number from 1 to 65535";
std::string bad_port(std::string_view at, std::string_view what) {
  return std::string(at) + ": spec.llmEndpoint.port: this must be a port, not " + std::string(what) +
         std::string(kPortAdvice);
}
}  // namespace

TEST_CASE("a policy's target") {
  check_rows(
      kObject,
      {
          {"", {"1:1: spec: the field is missing; write spec: with a targetRef"}},
          {"spec:\n", {"4:6: spec: the value is empty; write spec: with a targetRef"}},
          {"spec: 3", {"4:7: spec: this must be a mapping, not the number 3; write its fields as \"name: value\""}},
          {"spec: {}",
           {"4:7: spec.targetRef: the field is missing; write targetRef: {kind: Deployment, name: <the workload's "
            "name>}"}},
          {"spec: {targetRef: []}",
           {"4:19: spec.targetRef: this must be a mapping, not a list; write its fields as \"name: value\""}},
          {"spec: {targetRef: {kind: Pod}}",
           {"4:19: spec.targetRef.name: the field is missing; write name: <the workload's name>"}},
          {"spec: {targetRef: {name: w}}",
           {"4:19: spec.targetRef.kind: the field is missing; write kind: Deployment, StatefulSet or Pod"}},
          {"spec: {targetRef: {kind: deployment, name: w}}",
           {"4:26: spec.targetRef.kind: the text \"deployment\" is not possible here; did you mean Deployment?"}},
          {"spec: {targetRef: {kind: DaemonSet, name: w}}",
           {"4:26: spec.targetRef.kind: the text \"DaemonSet\" is not possible here; write Deployment, StatefulSet or "
            "Pod"}},
          {"spec: {targetRef: {kind: Pod, name: My_App}}",
           {"4:37: spec.targetRef.name: \"My_App\" is not a Kubernetes name (lower-case letters, digits, '-' and '.', "
            "each part up to 63); write my-app"}},
          {"spec: {targetRef: {kind: Pod, name: 12}}",
           {"4:37: spec.targetRef.name: this must be a text, not the number 12; put it in quotes: \"12\""}},
          {"spec: {targetRef: {kind: Pod, name: w, apiVersion: apps/v1}}",
           {"4:40: spec.targetRef.apiVersion: unknown field; remove it, or write kind or name"}},
      });
}

TEST_CASE("unknown fields at every level name the nearest") {
  check_rows(
      kHead,
      {
          {"  allowedEndpoint: []", {"6:3: spec.allowedEndpoint: unknown field; did you mean allowedEndpoints?"}},
          {"  AllowedSources: []", {"6:3: spec.AllowedSources: unknown field; did you mean allowedSources?"}},
          {"  ingress: []",
           {"6:3: spec.ingress: unknown field; remove it, or write targetRef, allowedProtocols, allowedEndpoints, "
            "allowedSources, "
            "llmEndpoint, enforcement or tokens"}},
          {"  llmEndpoint: {fqdn: a.b, port: 1, hostname: c}",
           {"6:37: spec.llmEndpoint.hostname: unknown field; remove it, or write fqdn or port"}},
          {"stauts: {}", {"6:1: stauts: unknown field; did you mean status?"}},
      });
}

TEST_CASE("status is accepted and ignored") {
  CHECK(lines(std::string(kHead) + "status: {phase: Active, whatever: [1]}").empty());
}

TEST_CASE("allowedProtocols") {
  check_rows(kHead,
             {
                 {"  allowedProtocols: [mcp, a2a, http]", {}},
                 {"  allowedProtocols: []", {}},
                 {"  allowedProtocols:", {}},
                 {"  allowedProtocols: mcp",
                  {"6:21: spec.allowedProtocols: this must be a list, not the text \"mcp\"; write each entry after \"- "
                   "\", or all in [ ]"}},
                 {"  allowedProtocols: [MCP]",
                  {"6:22: spec.allowedProtocols[0]: the text \"MCP\" is not possible here; did you mean mcp?"}},
                 {"  allowedProtocols: [grpc, 1]",
                  {"6:22: spec.allowedProtocols[0]: the text \"grpc\" is not possible here; write mcp, a2a or http",
                   "6:28: spec.allowedProtocols[1]: the number 1 is not possible here; write mcp, a2a or http"}},
                 {"  allowedProtocols: [mcp, mcp]",
                  {"6:27: warning: spec.allowedProtocols[1]: mcp is in the list already; remove one of the two"}},
                 {"  allowedProtocols: [[mcp]]",
                  {"6:22: spec.allowedProtocols[0]: a list is not possible here; write mcp, a2a or http"}},
             });
}

TEST_CASE("allowedEndpoints") {
  check_rows(
      kHead,
      {
          {"  allowedEndpoints: [{name: s, namespace: a, port: 1}]", {}},
          {"  allowedEndpoints: {name: s}",
           {"6:21: spec.allowedEndpoints: this must be a list, not a mapping; write each entry after \"- \", or all in "
            "[ ]"}},
          {"  allowedEndpoints: [s]",
           {"6:22: spec.allowedEndpoints[0]: this must be a mapping, not the text \"s\"; write its fields as \"name: "
            "value\""}},
          {"  allowedEndpoints:\n    -\n",
           {"7:6: spec.allowedEndpoints[0]: the entry is empty; write its value, or remove it"}},
          {"  allowedEndpoints: [{}]",
           {"6:22: spec.allowedEndpoints[0].name: the field is missing; write name: <the Service's name>",
            "6:22: spec.allowedEndpoints[0].namespace: the field is missing; write namespace: <the Service's "
            "namespace>",
            "6:22: spec.allowedEndpoints[0].port: the field is missing; write port: <the Service's port>"}},
          {"  allowedEndpoints: [{name: s.b.svc, namespace: a, port: 1}]",
           {"6:29: spec.allowedEndpoints[0].name: \"s.b.svc\" is a DNS name, not a Service's name; write s, and its "
            "namespace in namespace"}},
          {"  allowedEndpoints: [{name: \"*\", namespace: a, port: 1}]",
           {"6:29: spec.allowedEndpoints[0].name: \"*\" is a pattern, and every Service is named on its own; write one "
            "entry for each Service"}},
          {"  allowedEndpoints: [{name: 1s, namespace: A, port: 1}]",
           {"6:29: spec.allowedEndpoints[0].name: \"1s\" is not a Service's name (a letter, then lower-case letters, "
            "digits and '-'); write svc-1s",
            "6:44: spec.allowedEndpoints[0].namespace: \"A\" is not a namespace's name (lower-case letters, digits and "
            "'-'); write a"}},
          {"  allowedEndpoints: [{name: s, namespace: a, port: 1}, {name: s, namespace: a, port: 2}, {name: s, "
           "namespace: a, port: 1}]",
           {"6:90: warning: spec.allowedEndpoints[2]: Service a/s port 1 is in the list already; remove one of the "
            "two"}},
          {"  allowedEndpoints: [{name: s, namespace: a, port: 1, protocol: TCP}]",
           {"6:55: spec.allowedEndpoints[0].protocol: unknown field; remove it, or write name, namespace or port"}},
      });
}

TEST_CASE("ports") {
  auto row = [](std::string_view port) { return "  llmEndpoint: {fqdn: a.b, port: " + std::string(port) + "}"; };
  for (const char* good : {"1", "443", "65535", "+443"}) CHECK(lines(std::string(kHead) + row(good)).empty());
  std::string at = "6:34";
  for (const char* bad : {"0", "65536", "-1", "99999999999999999999", "443.0", "1e3", "0x1bb", "0o673"}) {
    INFO(bad);
    CHECK(lines(std::string(kHead) + row(bad)) == Lines{bad_port(at, "the number " + std::string(bad))});
  }
  CHECK(lines(std::string(kHead) + row("true")) == Lines{bad_port(at, "true")});
  CHECK(lines(std::string(kHead) + row("https")) == Lines{bad_port(at, "the text \"https\"")});
  CHECK(lines(std::string(kHead) + row("\"0\"")) == Lines{bad_port(at, "the text \"0\"")});
  CHECK(lines(std::string(kHead) + row("4_43")) == Lines{bad_port(at, "the text \"4_43\"")});
  CHECK(lines(std::string(kHead) + row("[1]")) == Lines{bad_port(at, "a list")});
  for (const char* quoted : {"\"443\"", "'443'"}) {
    CHECK(lines(std::string(kHead) + row(quoted)) ==
          Lines{"6:34: spec.llmEndpoint.port: this must be a number, not a text in quotes; write 443 without quotes"});
  }
  CHECK(lines(std::string(kHead) + row("0443")) ==
        Lines{"6:34: spec.llmEndpoint.port: 0443 begins with 0, which some readers take for octal; write 443"});
  CHECK(lines(std::string(kHead) + row("")) ==
        Lines{"6:34: spec.llmEndpoint.port: the value is empty; write port: 443"});
}

TEST_CASE("allowedSources") {
  const std::string forms = "; write exactly one of host: true, or namespace and name, or cidr: <network>";
  check_rows(
      kHead,
      {
          {"  allowedSources: [{host: true}, {host: true, port: 1}, {namespace: b, name: c}, {cidr: 10.0.0.0/8, port: "
           "2}]",
           {}},
          {"  allowedSources: [{}]", {"6:20: spec.allowedSources[0]: it does not say who may call" + forms}},
          {"  allowedSources: [{port: 1}]", {"6:20: spec.allowedSources[0]: it does not say who may call" + forms}},
          {"  allowedSources: [{host: true, cidr: 10.0.0.0/8}]",
           {"6:20: spec.allowedSources[0]: it names more than one kind of source" + forms}},
          {"  allowedSources: [{name: b, host: true}]",
           {"6:20: spec.allowedSources[0]: it names more than one kind of source" + forms}},
          {"  allowedSources: [{host: false}]",
           {"6:27: spec.allowedSources[0].host: false allows nobody; write true, or remove the entry"}},
          {"  allowedSources: [{host: yes}]",
           {"6:27: spec.allowedSources[0].host: this must be true or false, not the text \"yes\"; write true, without "
            "quotes"}},
          {"  allowedSources: [{host: Off}]",
           {"6:27: spec.allowedSources[0].host: this must be true or false, not the text \"Off\"; write false, without "
            "quotes"}},
          {"  allowedSources: [{host: \"true\"}]",
           {"6:27: spec.allowedSources[0].host: this must be true or false, not the text \"true\"; write true, without "
            "quotes"}},
          {"  allowedSources: [{host: 1}]",
           {"6:27: spec.allowedSources[0].host: this must be true or false, not the number 1; write true, without "
            "quotes"}},
          {"  allowedSources: [{host: 10.0.0.1}]",
           {"6:27: spec.allowedSources[0].host: this must be true or false, not the text \"10.0.0.1\"; write true or "
            "false"}},
          {"  allowedSources: [{name: c}]",
           {"6:20: spec.allowedSources[0].namespace: the field is missing; write namespace: <the caller's namespace>"}},
          {"  allowedSources: [{namespace: b}]",
           {"6:20: spec.allowedSources[0].name: the field is missing; write name: <the calling workload's name>"}},
          {"  allowedSources: [{host: true}, {host: true}, {cidr: 10.0.0.0/8}, {cidr: 10.0.0.0/8, port: 1}, {cidr: "
           "10.0.0.0/8, port: 1}]",
           {"6:34: warning: spec.allowedSources[1]: the host is in the list already; remove one of the two",
            "6:97: warning: spec.allowedSources[4]: 10.0.0.0/8 port 1 is in the list already; remove one of the two"}},
          {"  allowedSources: [{namespace: b, name: c}, {namespace: b, name: c}]",
           {"6:45: warning: spec.allowedSources[1]: workload b/c is in the list already; remove one of the two"}},
          {"  allowedSources: [{host: true, port: 0}]",
           {"6:39: spec.allowedSources[0].port: this must be a port, not the number 0; write a whole number from 1 to "
            "65535"}},
          {"  allowedSources: [{cdir: 10.0.0.0/8}]",
           {"6:20: spec.allowedSources[0]: it does not say who may call" + forms,
            "6:21: spec.allowedSources[0].cdir: unknown field; remove it, or write host, namespace, name, cidr or "
            "port"}},
      });
}

TEST_CASE("networks") {
  const std::string at = "6:27: spec.allowedSources[0].cidr: ";
  auto of = [](std::string_view cidr) {
    return lines(std::string(kHead) + "  allowedSources: [{cidr: " + std::string(cidr) + "}]");
  };
  for (const char* good :
       {"10.0.0.0/8", "192.0.2.1/32", "'fd00::/8'", "'2001:db8::1/128'", "'::ffff:10.0.0.0/104'", "128.0.0.0/1"}) {
    INFO(good);
    CHECK(of(good).empty());
  }
  CHECK(of("10.0.0.1/8") ==
        Lines{at + "\"10.0.0.1/8\" has address bits behind its prefix; write the network: 10.0.0.0/8"});
  CHECK(of("'fd00::1/8'") ==
        Lines{at + "\"fd00::1/8\" has address bits behind its prefix; write the network: fd00::/8"});
  CHECK(of("10.0.0.1") == Lines{at + "\"10.0.0.1\" has no prefix length; write 10.0.0.1/32 for this one address"});
  CHECK(of("'fd00::1'") == Lines{at + "\"fd00::1\" has no prefix length; write fd00::1/128 for this one address"});
  CHECK(of("10.0.0.0/33") ==
        Lines{at + "\"10.0.0.0/33\" has no valid prefix length; write a number from 0 to 32 after the '/'"});
  CHECK(of("10.0.0.0/08") ==
        Lines{at + "\"10.0.0.0/08\" has no valid prefix length; write a number from 0 to 32 after the '/'"});
  CHECK(of("10.0.0.0/") ==
        Lines{at + "\"10.0.0.0/\" has no valid prefix length; write a number from 0 to 32 after the '/'"});
  CHECK(of("'fd00::/129'") ==
        Lines{at + "\"fd00::/129\" has no valid prefix length; write a number from 0 to 128 after the '/'"});
  CHECK(of("10.0/8") == Lines{at + "\"10.0/8\" is not a network; write one such as 10.0.0.0/8 or fd00::/8"});
  CHECK(of("10.*") == Lines{at + "\"10.*\" is a pattern; write a network such as 10.0.0.0/8 or fd00::/8"});
  CHECK(of("any") == Lines{at + "\"any\" is not a network; write one such as 10.0.0.0/8 or fd00::/8"});
  CHECK(of("''") == Lines{at + "\"\" is not a network; write one such as 10.0.0.0/8 or fd00::/8"});
  CHECK(of("10") == Lines{at + "this must be a text, not the number 10; put it in quotes: \"10\""});
  for (std::string loopback : {"127.0.0.0/8", "127.0.0.1/32", "127.0.0.53/32", "::1/128", "::ffff:127.0.0.0/104"}) {
    CHECK(
        of("'" + loopback + "'") ==
        Lines{
            at + "\"" + loopback +
            "\" is loopback, which has no meaning between workloads; write host: true for processes of this machine"});
  }
  CHECK(of("0.0.0.0/0") == Lines{"6:27: warning: spec.allowedSources[0].cidr: 0.0.0.0/0 allows every IPv4 address; "
                                 "write smaller networks if that is not meant"});
  CHECK(of("'::/0'") == Lines{"6:27: warning: spec.allowedSources[0].cidr: ::/0 allows every IPv6 address; "
                              "write smaller networks if that is not meant"});
}

TEST_CASE("llmEndpoint and enforcement") {
  check_rows(kHead, {
                        {"  llmEndpoint: {fqdn: API.OpenAI.com., port: 443}", {}},
                        {"  llmEndpoint: {}",
                         {"6:16: spec.llmEndpoint.fqdn: the field is missing; write fqdn: <the LLM's host name>",
                          "6:16: spec.llmEndpoint.port: the field is missing; write port: 443"}},
                        {"  llmEndpoint: api.openai.com",
                         {"6:16: spec.llmEndpoint: this must be a mapping, not the text \"api.openai.com\"; write its "
                          "fields as \"name: value\""}},
                        {"  llmEndpoint: {fqdn: '*.openai.com', port: 443}",
                         {"6:23: spec.llmEndpoint.fqdn: \"*.openai.com\" is a pattern, and casad allows exactly one "
                          "name; write the whole host name "
                          "that the agent calls, such as api.example.com"}},
                        {"  enforcement: enforce", {}},
                        {"  enforcement: audit", {}},
                        {"  enforcement: Audit",
                         {"6:16: spec.enforcement: the text \"Audit\" is not possible here; did you mean audit?"}},
                        {"  enforcement: off",
                         {"6:16: spec.enforcement: the text \"off\" is not possible here; write enforce or audit"}},
                        {"  enforcement: false",
                         {"6:16: spec.enforcement: false is not possible here; write enforce or audit"}},
                    });
}

TEST_CASE("tokens: what is good, and what to write instead") {
  check_rows(
      kHead,
      {
          {"  tokens:", {}},
          {"  tokens: {}", {}},
          {"  tokens: {exfiltration: alert, requireValidSignature: alert}", {}},
          {"  tokens: {exfiltration: drop, requireValidSignature: drop, tlsObserver: openssl}", {}},
          {"  tokens: {tlsObserver: node}", {}},
          {"  tokens: {tlsObserver: go}", {}},
          {"  tokens: {tlsObserver: auto}", {}},
          {"  tokens: drop",
           {"6:11: spec.tokens: this must be a mapping, not the text \"drop\"; write its fields as \"name: value\""}},
          {"  tokens: {exfiltration: Drop}",
           {"6:26: spec.tokens.exfiltration: the text \"Drop\" is not possible here; did you mean drop?"}},
          {"  tokens: {exfiltration: deny}",
           {"6:26: spec.tokens.exfiltration: the text \"deny\" is not possible here; write alert or drop"}},
          {"  tokens: {requireValidSignature: true}",
           {"6:35: spec.tokens.requireValidSignature: true is not possible here; write alert or drop"}},
          {"  tokens: {requireValidSignatures: drop}",
           {"6:12: spec.tokens.requireValidSignatures: unknown field; did you mean requireValidSignature?"}},
          {"  tokens: {tlsObserver: off}",
           {"6:25: spec.tokens.tlsObserver: the text \"off\" is not possible here; write openssl, node, go or auto"}},
          {"  tokens: {tlsObserver: [openssl, go]}",
           {"6:25: spec.tokens.tlsObserver: a list is not possible here; write openssl, node, go or auto"}},
          {"  tokens: {exfiltration: drop, exfiltration: alert}",
           {"6:32: exfiltration is already set at line 6, column 12; remove one of the two"}},
      });
}

TEST_CASE("tokens: the values, and the defaults") {
  auto rules = [](const std::string& text) {
    auto result = parse_text("f", std::string(kHead) + text, Syntax::kYaml);
    REQUIRE(result.objects.size() == 1);
    return std::get<CasaPolicy>(result.objects[0]).tokens;
  };
  TokenRules none = rules("  enforcement: audit\n");
  CHECK(none.exfiltration == TokenAction::kAlert);
  CHECK(none.require_valid_signature == TokenAction::kAlert);
  CHECK_FALSE(none.tls_observer);
  TokenRules all = rules("  tokens: {exfiltration: drop, requireValidSignature: drop, tlsObserver: go}\n");
  CHECK(all.exfiltration == TokenAction::kDrop);
  CHECK(all.require_valid_signature == TokenAction::kDrop);
  CHECK(all.tls_observer == TlsObserver::kGo);
  TokenRules one = rules("  tokens: {requireValidSignature: drop, tlsObserver: auto}\n");
  CHECK(one.exfiltration == TokenAction::kAlert);
  CHECK(one.require_valid_signature == TokenAction::kDrop);
  CHECK(one.tls_observer == TlsObserver::kAuto);
}

TEST_CASE("a good policy, whole") {
  auto result = parse_text("f",
                           std::string(kHead) +
                               "  allowedProtocols: [mcp, http]\n"
                               "  allowedEndpoints:\n"
                               "    - {name: s, namespace: b, port: 8080}\n"
                               "  allowedSources:\n"
                               "    - host: true\n"
                               "    - {namespace: c, name: d.e, port: 9}\n"
                               "    - cidr: 10.0.0.0/8\n"
                               "  llmEndpoint: {fqdn: API.OpenAI.com., port: 443}\n"
                               "  enforcement: audit\n",
                           Syntax::kYaml);
  CHECK(result.ok());
  CHECK(dump(result) ==
        "CASAPolicy a/p uid= labels={} annotations={} target=Deployment w protocols=[\"mcp\", \"http\"] audit=true "
        "to=b/s:8080 "
        "from=host:0 from=c/d.e:9 from=10.0.0.0/8:0 llm=api.openai.com:443\n");
  const auto& policy = std::get<CasaPolicy>(result.objects.at(0));
  CHECK(policy.meta.where.line == 1);
  CHECK(policy.allowed_endpoints.at(0).where.line == 8);
  CHECK(policy.allowed_endpoints.at(0).where.column == 7);
  CHECK(policy.allowed_sources.at(1).where.line == 11);
  CHECK(policy.llm_endpoint->where.line == 13);
}

TEST_CASE("a policy with errors keeps its identity") {
  auto invalid = [](std::string_view text) { return parse_text("f", text, Syntax::kYaml); };
  SECTION("in its spec") {
    auto r = invalid(std::string(kHead) + "  enforcement: x\n  bad: 1\n---\n" + std::string(kHead) +
                     "---\n{apiVersion: v1, kind: Namespace, metadata: {name: n}}\n");
    REQUIRE(r.invalid.size() == 2);  // the second is defined twice
    CHECK(r.invalid[0].key == ObjectKey{Kind::kCasaPolicy, "a", "p"});
    CHECK(r.invalid[0].target_name == "w");
    CHECK(r.invalid[0].message ==
          "f:6:16: spec.enforcement: the text \"x\" is not possible here; write enforce or audit");
    CHECK(r.invalid[1].message ==
          "f:9:1: CASAPolicy a/p is already defined at line 1; remove one of the two, or give it another name");
    CHECK(r.syntax_ok);
    CHECK_FALSE(r.ok());
    CHECK(r.objects.size() == 1);
  }
  SECTION("in its kind or version") {
    for (const char* head : {"apiVersion: casa.io/v1alpha1\nkind: CasaPolicy\n",
                             "apiVersion: casa.io/v1\nkind: CASAPolicy\n", "kind: CASAPolicy\n"}) {
      auto r = invalid(std::string(head) + "metadata: {name: p}\nspec: {targetRef: {kind: Pod, name: w}}\n");
      REQUIRE(r.invalid.size() == 1);
      CHECK(r.invalid[0].key == ObjectKey{Kind::kCasaPolicy, "default", "p"});
      CHECK(r.invalid[0].target_name == "w");
      CHECK(r.objects.empty());
    }
  }
  SECTION("with nothing readable") {
    auto r = invalid("apiVersion: casa.io/v1alpha1\nkind: CASAPolicy\nspec: []\n");
    REQUIRE(r.invalid.size() == 1);
    CHECK(r.invalid[0].key == ObjectKey{Kind::kCasaPolicy, "default", ""});
    CHECK(r.invalid[0].target_name.empty());
  }
  SECTION("by a duplicate key or an alias deep inside a List") {
    auto r = invalid(
        "apiVersion: v1\nkind: List\nitems:\n"
        "- {apiVersion: casa.io/v1alpha1, kind: CASAPolicy, metadata: {name: p}, spec: {targetRef: {kind: Pod, name: "
        "w, name: v}}}\n"
        "- {apiVersion: casa.io/v1alpha1, kind: CASAPolicy, metadata: {name: q}, spec: {targetRef: {kind: Pod, name: "
        "w}}}\n");
    REQUIRE(r.invalid.size() == 1);
    CHECK(r.invalid[0].message == "f:4:112: name is already set at line 4, column 103; remove one of the two");
    CHECK(r.objects.size() == 1);
  }
}

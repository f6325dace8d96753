// JSON: the same objects as YAML, and its own ways to break.
#include <catch2/catch_test_macros.hpp>

#include "support.h"

using namespace casa::policy;
using namespace casa::policy::test;

namespace {
struct Pair {
  std::string_view yaml, json;
};
constexpr Pair kPairs[] = {
    {R"(apiVersion: casa.io/v1alpha1
kind: CASAPolicy
metadata: {name: p, namespace: a, labels: {x: "1"}}
spec:
  targetRef: {kind: StatefulSet, name: w}
  allowedProtocols: [mcp]
  allowedEndpoints: [{name: s, namespace: b, port: 8080}]
  allowedSources: [{host: true}, {cidr: 'fd00::/8', port: 1}, {namespace: x, name: y}]
  llmEndpoint: {fqdn: a.b, port: 443}
  enforcement: audit)",
     R"({"apiVersion":"casa.io/v1alpha1","kind":"CASAPolicy","metadata":{"name":"p","namespace":"a","labels":{"x":"1"}},
"spec":{"targetRef":{"kind":"StatefulSet","name":"w"},"allowedProtocols":["mcp"],"allowedEndpoints":[{"name":"s","namespace":"b","port":8080}],
"allowedSources":[{"host":true},{"cidr":"fd00::\/8","port":1},{"namespace":"x","name":"\u0079"}],"llmEndpoint":{"fqdn":"a.b","port":443},"enforcement":"audit"}})"},
    {R"(apiVersion: casa.io/v1alpha1
kind: MultiAgentSystem
metadata: {name: m}
spec: {name: "M é", llm_host: a.b, apps: [{name: x, type: client, kubernetesWorkloadName: w, baseUrl: {host: 's:1', scheme: http}}]})",
     R"({"apiVersion":"casa.io/v1alpha1","kind":"MultiAgentSystem","metadata":{"name":"m"},"spec":{"name":"M \u00e9","llm_host":"a.b",
"apps":[{"name":"x","type":"client","kubernetesWorkloadName":"w","baseUrl":{"host":"s:1","scheme":"http"}}]}})"},
    {R"({apiVersion: v1, kind: Namespace, metadata: {name: n, labels: {casa.io/injection: enabled}}})",
     R"({"apiVersion":"v1","kind":"Namespace","metadata":{"name":"n","labels":{"casa.io/injection":"enabled"}}})"},
    {R"({apiVersion: v1, kind: Pod, metadata: {name: n, annotations: {casa.io/cgroup: a/b}}, spec: {hostNetwork: true, containers: [{ports: [{containerPort: 1}]}]}, status: {podIP: 10.0.0.1}})",
     R"({"apiVersion":"v1","kind":"Pod","metadata":{"name":"n","annotations":{"casa.io/cgroup":"a/b"}},"spec":{"hostNetwork":true,"containers":[{"ports":[{"containerPort":1}]}]},"status":{"podIP":"10.0.0.1"}})"},
    {R"({apiVersion: v1, kind: Service, metadata: {name: n}, spec: {selector: {a: b}, ports: [{port: 1, targetPort: x, protocol: UDP}], clusterIP: None}})",
     R"({"apiVersion":"v1","kind":"Service","metadata":{"name":"n"},"spec":{"selector":{"a":"b"},"ports":[{"port":1,"targetPort":"x","protocol":"UDP"}],"clusterIP":"None"}})"},
    {R"({apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {name: n, labels: {kubernetes.io/service-name: s}}, addressType: IPv6, endpoints: [{addresses: ['fd00::1'], conditions: {ready: false}}], ports: [{port: 1}]})",
     R"({"apiVersion":"discovery.k8s.io/v1","kind":"EndpointSlice","metadata":{"name":"n","labels":{"kubernetes.io/service-name":"s"}},"addressType":"IPv6","endpoints":[{"addresses":["fd00::1"],"conditions":{"ready":false}}],"ports":[{"port":1}]})"},
};

void check_broken(std::string_view text, std::string_view expected) {
  INFO(text);
  auto r = parse_text("f", text, Syntax::kJson);
  CHECK_FALSE(r.syntax_ok);
  CHECK(r.objects.empty());
  CHECK(lines(r) == Lines{std::string(expected)});
}
}  // namespace

TEST_CASE("JSON and YAML give equal objects") {
  std::string list, array, documents;
  for (const auto& pair : kPairs) {
    auto yaml = parse_text("f", pair.yaml, Syntax::kYaml), json = parse_text("f", pair.json, Syntax::kJson);
    CHECK(lines(yaml).empty());
    CHECK(lines(json).empty());
    REQUIRE(json.objects.size() == 1);
    CHECK(dump(yaml) == dump(json));
    CHECK(dump(parse_text("f", pair.json, Syntax::kYaml)) == dump(json));  // JSON is YAML
    array += (array.empty() ? "" : ",\n") + std::string(pair.json);
    documents += "---\n" + std::string(pair.yaml) + "\n";
  }
  list = R"({"kind":"List","apiVersion":"v1","metadata":{"resourceVersion":""},"items":[)" + array + "]}";
  auto expected = dump(parse_text("f", documents, Syntax::kYaml));
  CHECK(dump(parse_text("f", "[" + array + "]", Syntax::kJson)) == expected);
  CHECK(dump(parse_text("f", list, Syntax::kJson)) == expected);
  CHECK(dump(parse_text("f", list, Syntax::kYaml)) == expected);
}

TEST_CASE("places in JSON") {
  check_rows(
      "",
      {
          {"{\n \"apiVersion\": \"v1\", \"kind\": \"Pod\",\n \"metadata\": {\"name\": \"a\", \"\xC3\xA9\": 1, "
           "\"nam\\u0065s\": 2}\n}",
           {"3:28: metadata.\xC3\xA9: unknown field; remove it",
            "3:37: metadata.names: unknown field; did you mean name?"}},
          {R"({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a", "name": "b"}})",
           {"1:63: name is already set at line 1, column 50; remove one of the two"}},
          {R"({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": 7}})",
           {"1:58: metadata.name: this must be a text, not the number 7; put it in quotes: \"7\""}},
          {R"({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}, "spec": {"hostNetwork": "true"}})",
           {"1:88: spec.hostNetwork: this must be true or false, not the text \"true\"; write true, without quotes"}},
          {"[{\"apiVersion\":\"v1\",\"kind\":\"Namespace\",\"metadata\":{\"name\":\"a\"}}, null]",
           {"1:66: [1]: the entry is empty; write its value, or remove it"}},
          {R"({"<<": 1, "apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "a"}})",
           {"1:2: <<: unknown field; remove it, or write apiVersion, kind, metadata, spec or status"}},
      },
      Syntax::kJson);
  CHECK(lines("null", Syntax::kJson).empty());
  CHECK(lines(" \n null \n", Syntax::kJson).empty());
  CHECK(lines("[]", Syntax::kJson).empty());
  CHECK(lines("\xEF\xBB\xBF[]", Syntax::kJson).empty());
}

TEST_CASE("broken JSON") {
  const std::string shape =
      "not JSON here; write ',' between entries, ':' after a key in double quotes, and close every { and [";
  const std::string ends = "the text ends before its last } or ]; write the file again, completely";
  const std::string value = "not a JSON value; write a text in double quotes, a number, true, false or null";
  const std::string after = "something after the end of the value; write one value, or put several objects in [ ]";
  const std::string empty = "the file is empty; write one object, an array or a List (or null for nothing)";
  check_broken("", "1:1: " + empty);
  check_broken(" \n", "1:1: " + empty);
  check_broken("{", "1:2: " + ends);
  check_broken("[", "1:2: " + ends);
  check_broken("{\"a\":1", "1:7: " + ends);
  check_broken("{\"a\":{\"b\":[1,\n", "1:14: " + ends);
  check_broken("{\"a\":\"b",
               "1:6: a text in quotes that never ends; close the quote (is the file written completely?)");
  check_broken(
      "{\"a\":\"b\nc\"}",
      "1:8: a text in quotes cannot contain a line break or a tab; write \\n or \\t, or close the quote before it");
  check_broken("{\"a\":[1}", "1:8: " + shape);
  check_broken("{\"a\":1 \"b\":2}", "1:8: " + shape);
  check_broken("[1,]", "1:4: " + shape);
  check_broken("{\"a\":1,}", "1:8: " + shape);
  check_broken("{a:1}", "1:2: " + shape);
  check_broken("{\"a\" 1}", "1:6: " + shape);
  check_broken("{\"a\":}", "1:6: " + shape);
  check_broken("]", "1:1: " + shape);
  check_broken("{'a':1}", "1:2: " + shape);
  check_broken("[.5]", "1:2: " + shape);
  check_broken("// x\n{}", "1:1: " + shape);
  for (const char* bad : {"tru", "True", "nul", "nan", "NaN", "-", "01", "1.", "1e", "0x1", "+1", "1_0", "truex"}) {
    INFO(bad);
    auto got = lines("[" + std::string(bad) + "]", Syntax::kJson);
    CHECK((got == Lines{"1:2: " + value} || got == Lines{"1:2: " + shape}));
    CHECK_FALSE(parse_text("f", "[" + std::string(bad) + "]", Syntax::kJson).syntax_ok);
  }
  check_broken("{} {}", "1:4: " + after);
  check_broken("{}x", "1:3: " + after);
  check_broken("{}}", "1:3: " + after);
  check_broken("\"x\"", "1:1: not an object; write one object, an array of objects or a List");
  check_broken("nul", "1:1: not an object; write one object, an array of objects or a List");
  check_broken("{\"a\":\"\\ud800\"}", "1:6: an invalid escape in this text; write \\\\ for a backslash, or \\uXXXX");
  check_broken("{\"\\q\":1}", "1:2: an invalid escape in this text; write \\\\ for a backslash, or \\uXXXX");
}

TEST_CASE("broken JSON still names its policies") {
  auto r = parse_text(
      "f",
      R"({"apiVersion":"casa.io/v1alpha1","kind":"CASAPolicy","metadata":{"name":"p","namespace":"a"},"spec":{"targetRef":{"name":"w")",
      Syntax::kJson);
  CHECK_FALSE(r.syntax_ok);
  // simdjson sees at once that the last brace is missing, before it gives out anything.
  CHECK(r.invalid.size() <= 1);
  auto inner = parse_text(
      "f",
      R"({"apiVersion":"casa.io/v1alpha1","kind":"CASAPolicy","metadata":{"name":"p","namespace":"a"},"spec":{"targetRef":{"name":"w",}}})",
      Syntax::kJson);
  REQUIRE(inner.invalid.size() == 1);
  CHECK(inner.invalid[0].key == ObjectKey{Kind::kCasaPolicy, "a", "p"});
  CHECK(inner.invalid[0].target_name == "w");
}

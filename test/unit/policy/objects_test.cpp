// Names and keys of objects as people see them.
#include <catch2/catch_test_macros.hpp>

#include "support.h"

using namespace casa::policy;

TEST_CASE("to_string") {
  CHECK(to_string(Diagnostic{Diagnostic::Severity::kError, {"a.yaml", 3, 7}, "bad; write good"}) ==
        "a.yaml:3:7: error: bad; write good");
  CHECK(to_string(Diagnostic{Diagnostic::Severity::kWarning, {"a.yaml", 0, 0}, "x"}) == "a.yaml: warning: x");
  CHECK(to_string(ObjectKey{Kind::kCasaPolicy, "team-a", "agent"}) == "CASAPolicy team-a/agent");
  CHECK(to_string(ObjectKey{Kind::kNamespace, "", "team-a"}) == "Namespace team-a");
  CHECK(std::string(to_string(TargetKind::kStatefulSet)) == "StatefulSet");
  CHECK(std::string(to_string(AppType::kMcpServer)) == "mcp_server");
}

TEST_CASE("the key of each kind") {
  CHECK(key_of(CasaPolicy{}).kind == Kind::kCasaPolicy);
  CHECK(key_of(MultiAgentSystem{}).kind == Kind::kMultiAgentSystem);
  CHECK(key_of(Namespace{}).kind == Kind::kNamespace);
  CHECK(key_of(Pod{}).kind == Kind::kPod);
  CHECK(key_of(Service{}).kind == Kind::kService);
  CHECK(key_of(EndpointSlice{}).kind == Kind::kEndpointSlice);
}

TEST_CASE("syntax by file name") {
  CHECK(syntax_of("a/b.json") == Syntax::kJson);
  CHECK(syntax_of("a.yaml") == Syntax::kYaml);
  CHECK(syntax_of("a.yml") == Syntax::kYaml);
  CHECK(syntax_of("json") == Syntax::kYaml);
}

// What is told of a source's documents beside the documents themselves.
#include "app/inlet.h"

#include <catch2/catch_test_macros.hpp>
#include <cstdlib>
#include <filesystem>
#include <map>

namespace {

using casa::app::Documents;
using casa::app::Inlet;
using casa::source::Document;
using casa::source::Format;

Document policy(const std::string& origin) {
  return {origin, "/p/" + origin, Format::kYaml,
          "apiVersion: casa.io/v1alpha1\nkind: CASAPolicy\nmetadata: {name: " + origin.substr(0, 1) +
              ", namespace: a}\nspec: {targetRef: {kind: Pod, name: x}}\n"};
}

}  // namespace

TEST_CASE("a last good copy that cannot be kept is a problem until it can, or its document is gone") {
  char path[] = "/tmp/casad-inlet-XXXXXX";
  REQUIRE(::mkdtemp(path) != nullptr);
  const std::string away = std::string(path) + "/away";
  std::filesystem::create_directory(away);
  Documents documents(away);
  std::map<std::string, std::string> problems;
  Inlet::Callbacks callbacks;
  callbacks.on_problem = [&](const std::string& key, std::string problem) { problems[key] = std::move(problem); };
  Inlet files("policy directory", documents, callbacks), api("API server", documents, callbacks);
  const std::string& problem = problems["last good copies"];

  files.on_upsert(policy("c.yaml"));
  CHECK(problem.empty());
  std::filesystem::remove_all(away);
  files.on_upsert(policy("a.yaml"));
  files.on_upsert(policy("b.yaml"));
  CHECK(problem.find("cannot write") != std::string::npos);
  CHECK(problem.ends_with("(and 1 more)"));
  // What concerns others does not heal it.
  api.on_upsert({"kubernetes:Namespace/a", "kubernetes:Namespace/a", Format::kApiObject, R"({"metadata":{"name":"a"}})",
                 "Namespace"});
  CHECK_FALSE(problem.empty());
  files.on_remove("a.yaml");
  CHECK_FALSE(problem.empty());
  std::filesystem::create_directory(away);
  files.on_upsert(policy("c.yaml"));
  CHECK_FALSE(problem.empty());
  files.on_upsert(policy("b.yaml"));
  CHECK(problem.empty());
  std::filesystem::remove_all(path);
}

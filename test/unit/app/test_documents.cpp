// The daemon's memory of documents: last good state, duplicates.
#include <catch2/catch_test_macros.hpp>
#include <cstdlib>
#include <filesystem>

#include "app/documents.h"

namespace {

using casa::app::Documents;

struct Folder {
  Folder() { REQUIRE(::mkdtemp(path) != nullptr); }
  ~Folder() { std::filesystem::remove_all(path); }
  char path[64] = "/tmp/casad-documents-XXXXXX";
};

casa::source::Document policy(const std::string& origin, const std::string& name, bool whole = true) {
  std::string text = "apiVersion: casa.io/v1alpha1\nkind: CASAPolicy\nmetadata: {name: " + name +
                     ", namespace: a}\nspec:\n  targetRef: {kind: Pod, name: " + name + "}\n";
  if (!whole) text += "  allowedEndpoints: [{name: x, names";
  return {origin, "/p/" + origin, casa::source::Format::kYaml, text};
}

}  // namespace

TEST_CASE("a half-written file keeps what it said before, also across a restart") {
  Folder folder;
  {
    Documents documents(folder.path);
    REQUIRE(documents.upsert(policy("a.yaml", "one")));
    REQUIRE(documents.upsert(policy("a.yaml", "one", false)));
    CHECK(documents.objects().objects.size() == 1);
    CHECK(documents.bad() == 1);
    REQUIRE(documents.problems().size() == 1);
    CHECK(documents.problems()[0].find("what it said before stays in force") != std::string::npos);
  }
  Documents restarted(folder.path);
  REQUIRE(restarted.upsert(policy("a.yaml", "one", false)));
  CHECK(restarted.objects().objects.size() == 1);
  REQUIRE(restarted.upsert(policy("a.yaml", "two")));
  CHECK(restarted.bad() == 0);
  restarted.remove("a.yaml");
  CHECK(restarted.objects().objects.empty());
  CHECK(std::filesystem::is_empty(folder.path));
}

TEST_CASE("a broken file of which nothing good is known: its policies count as invalid") {
  Folder folder;
  Documents documents(folder.path);
  REQUIRE(documents.upsert(policy("a.yaml", "one", false)));
  CHECK(documents.objects().objects.empty());
  REQUIRE(documents.objects().invalid.size() == 1);
  CHECK(documents.objects().invalid[0].target_name == "one");
}

TEST_CASE("the same object in two files: the first has it, and it is said") {
  Folder folder;
  Documents documents(folder.path);
  REQUIRE(documents.upsert(policy("b.yaml", "one")));
  REQUIRE(documents.upsert(policy("a.yaml", "one")));
  CHECK(documents.objects().objects.size() == 1);
  REQUIRE(documents.problems().size() == 1);
  CHECK(documents.problems()[0] == "CASAPolicy a/one stands in /p/a.yaml and in /p/b.yaml; the first is in force");
}

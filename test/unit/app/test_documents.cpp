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
    CHECK(documents.objects().all().size() == 1);
    CHECK(documents.count(false).bad == 1);
    REQUIRE(documents.problems().size() == 1);
    CHECK(documents.problems()[0].find("what it said before stays in force") != std::string::npos);
  }
  Documents restarted(folder.path);
  REQUIRE(restarted.upsert(policy("a.yaml", "one", false)));
  CHECK(restarted.objects().all().size() == 1);
  REQUIRE(restarted.upsert(policy("a.yaml", "two")));
  CHECK(restarted.count(false).bad == 0);
  restarted.remove("a.yaml");
  CHECK(restarted.objects().all().empty());
  CHECK(std::filesystem::is_empty(folder.path));
}

TEST_CASE("a broken file of which nothing good is known: its policies count as invalid") {
  Folder folder;
  Documents documents(folder.path);
  REQUIRE(documents.upsert(policy("a.yaml", "one", false)));
  CHECK(documents.objects().all().empty());
  REQUIRE(documents.objects().invalid().size() == 1);
  CHECK(documents.objects().invalid()[0].target_name == "one");
}

TEST_CASE("the same object in two files: the first has it, and it is said") {
  Folder folder;
  Documents documents(folder.path);
  REQUIRE(documents.upsert(policy("b.yaml", "one")));
  REQUIRE(documents.upsert(policy("a.yaml", "one")));
  CHECK(documents.objects().all().size() == 1);
  REQUIRE(documents.problems().size() == 1);
  CHECK(documents.problems()[0] == "CASAPolicy a/one stands in /p/a.yaml and in /p/b.yaml; the first is in force");
}

namespace {

casa::source::Document api_policy(const std::string& name, const std::string& target) {
  std::string origin = "kubernetes:CASAPolicy/a/" + name;
  return {origin, origin, casa::source::Format::kApiObject,
          R"({"metadata":{"name":")" + name + R"(","namespace":"a"},"spec":{"targetRef":{"kind":"Pod","name":")" +
              target + R"("}}})",
          "CASAPolicy"};
}

std::string target(const Documents& documents, const std::string& name) {
  return std::get<casa::policy::CasaPolicy>(documents.objects().all().at({casa::policy::Kind::kCasaPolicy, "a", name}))
      .target_name;
}

}  // namespace

TEST_CASE(
    "an object that a file and the API server have: the server's is in force, whoever came first, and it is a "
    "conflict") {
  Folder folder;
  Documents documents(folder.path);
  REQUIRE(documents.upsert(policy("b.yaml", "one")));
  REQUIRE(documents.upsert(api_policy("one", "other")));
  REQUIRE(documents.upsert(policy("a.yaml", "one")));
  CHECK(documents.objects().all().size() == 1);
  CHECK(target(documents, "one") == "other");
  REQUIRE(documents.conflicts().size() == 1);
  CHECK(documents.conflicts().begin()->second ==
        "CASAPolicy a/one stands in the API server and in /p/a.yaml; the API server's is in force");
  CHECK(documents.problems().empty());
  CHECK(documents.count(true).objects == 1);
  CHECK(documents.count(false).objects == 0);
  CHECK(documents.count(false).documents == 2);
  SECTION("the server's goes: the first file's is in force") {
    documents.remove("kubernetes:CASAPolicy/a/one");
    CHECK(target(documents, "one") == "one");
    CHECK(documents.conflicts().empty());
    CHECK(documents.problems().size() == 1);
    documents.remove("a.yaml");
    CHECK(documents.problems().empty());
    CHECK(documents.objects().all().size() == 1);
    documents.remove("b.yaml");
    CHECK(documents.objects().all().empty());
  }
  SECTION("the files go: nothing is left of them") {
    documents.remove("b.yaml");
    CHECK(documents.conflicts().size() == 1);
    documents.remove("a.yaml");
    CHECK(documents.conflicts().empty());
    CHECK(target(documents, "one") == "other");
  }
  SECTION("the server's changes, and breaks") {
    REQUIRE(documents.upsert(api_policy("one", "third")));
    CHECK(target(documents, "one") == "third");
    auto broken = api_policy("one", "fourth");
    broken.bytes.resize(20);
    REQUIRE(documents.upsert(broken));
    CHECK(target(documents, "one") == "third");
    CHECK(documents.count(true).bad == 1);
  }
}

TEST_CASE("of the API server's objects no copies are kept on disk") {
  Folder folder;
  Documents documents(folder.path);
  REQUIRE(documents.upsert(api_policy("one", "x")));
  CHECK(std::filesystem::is_empty(folder.path));
}

TEST_CASE("a file gives an object up while another one has it too") {
  Folder folder;
  Documents documents(folder.path);
  REQUIRE(documents.upsert(policy("a.yaml", "one")));
  REQUIRE(documents.upsert(policy("b.yaml", "one")));
  REQUIRE(documents.upsert(policy("a.yaml", "two")));
  CHECK(documents.problems().empty());
  CHECK(documents.objects().all().size() == 2);
  REQUIRE(documents.upsert(policy("c.yaml", "two")));
  REQUIRE(documents.upsert(policy("a.yaml", "one")));  // before b.yaml again
  CHECK(documents.objects().all().size() == 2);
  CHECK(documents.problems() ==
        std::vector<std::string>{"CASAPolicy a/one stands in /p/a.yaml and in /p/b.yaml; the first is in force"});
}

TEST_CASE("a policy that is not valid counts, and no longer when it is mended") {
  Folder folder;
  Documents documents(folder.path);
  auto bad = api_policy("one", "x");
  bad.bytes.replace(bad.bytes.find("Pod"), 3, "Pad");
  REQUIRE(documents.upsert(bad));
  REQUIRE(documents.objects().invalid().size() == 1);
  CHECK(documents.objects().invalid()[0].origin == "kubernetes:CASAPolicy/a/one");
  REQUIRE(documents.upsert(api_policy("one", "x")));
  CHECK(documents.objects().invalid().empty());
}

TEST_CASE("what changed is there to be taken, from the first document on and until it was taken") {
  Folder folder;
  Documents documents(folder.path);
  CHECK_FALSE(documents.has_changes());
  REQUIRE(documents.upsert(policy("a.yaml", "one")));
  CHECK(documents.has_changes());
  CHECK(documents.take_changes()->size() == 1);
  CHECK_FALSE(documents.has_changes());
  REQUIRE(documents.upsert(policy("a.yaml", "one")));
  CHECK(documents.has_changes());  // nobody has looked yet whether it is one
  CHECK(documents.take_changes()->empty());
  REQUIRE(documents.upsert(policy("b.yaml", "two", false)));
  CHECK(documents.has_changes());
  CHECK_FALSE(documents.take_changes().has_value());  // a policy became invalid
  CHECK_FALSE(documents.has_changes());
  documents.remove("b.yaml");
  CHECK(documents.has_changes());
}

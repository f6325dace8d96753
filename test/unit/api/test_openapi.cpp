// The description and the API say the same: routes, parameters, and every field of every answer.
#include <catch2/catch_test_macros.hpp>
#include <map>
#include <set>

#include <simdjson.h>

#include "api/json.h"
#include "api/openapi.h"
#include "api/router.h"
#include "fake_state.h"

using namespace casa;
using namespace casa::api;
using simdjson::dom::element;
using simdjson::dom::element_type;

namespace {

class Description {
 public:
  Description() { REQUIRE(parser_.parse(std::string(openapi_json())).get(root_) == simdjson::SUCCESS); }

  element resolve(element schema) const {
    std::string_view reference;
    if (schema["$ref"].get(reference) != simdjson::SUCCESS) return schema;
    return at(reference.substr(1));
  }
  element at(std::string_view pointer) const {
    element found;
    INFO(pointer);
    REQUIRE(root_.at_pointer(pointer).get(found) == simdjson::SUCCESS);
    return resolve(found);
  }
  // Checks a value against a schema of the subset that openapi.cpp uses; an object's members must all be described.
  bool fits(element value, element schema, const std::string& where, std::string& why) {
    schema = resolve(schema);
    element choices;
    if (schema["oneOf"].get(choices) == simdjson::SUCCESS) {
      int fitting = 0;
      std::string reasons;
      for (element choice : choices.get_array()) fitting += fits(value, choice, where, reasons) ? 1 : 0;
      if (fitting != 1) why += where + ": fits " + std::to_string(fitting) + " of oneOf:" + reasons + "\n";
      return fitting == 1;
    }
    std::string_view type;
    if (schema["type"].get(type) != simdjson::SUCCESS) return refuse(where, "its schema has no type", why);
    if (type == "object") return object_fits(value, schema, where, why);
    if (type == "array") {
      if (!value.is_array()) return refuse(where, "is no array", why);
      bool good = true;
      int i = 0;
      for (element item : value.get_array())
        good = fits(item, schema["items"], where + "/" + std::to_string(i++), why) && good;
      return good;
    }
    if (type == "string" && value.is_string()) return enum_fits(value, schema, where, why);
    if (type == "integer" && (value.is_int64() || value.is_uint64())) return true;
    if (type == "boolean" && value.is_bool()) return true;
    return refuse(where, "is not of its type", why);
  }
  element root() const { return root_; }

 private:
  static bool refuse(const std::string& where, const char* what, std::string& why) {
    why += where + ": " + what + "\n";
    return false;
  }
  static bool enum_fits(element value, element schema, const std::string& where, std::string& why) {
    element words;
    if (schema["enum"].get(words) != simdjson::SUCCESS) return true;
    for (element word : words.get_array())
      if (std::string_view(word) == std::string_view(value)) return true;
    return refuse(where, "is not in its enum", why);
  }
  bool object_fits(element value, element schema, const std::string& where, std::string& why) {
    if (!value.is_object()) return refuse(where, "is no object", why);
    bool good = true;
    element required, properties, additional;
    bool has_properties = schema["properties"].get(properties) == simdjson::SUCCESS;
    bool has_additional = schema["additionalProperties"].get(additional) == simdjson::SUCCESS;
    if (schema["required"].get(required) == simdjson::SUCCESS)
      for (element name : required.get_array())
        if (value[std::string_view(name)].error() != simdjson::SUCCESS)
          good = refuse(where, "misses a required member", why);
    for (auto field : value.get_object()) {
      std::string name = where + "/" + std::string(field.key);
      element described;
      if (has_properties && properties[field.key].get(described) == simdjson::SUCCESS)
        good = fits(field.value, described, name, why) && good;
      else if (has_additional) good = fits(field.value, additional, name, why) && good;
      else if (has_properties) good = refuse(name, "is not described", why);
    }
    return good;
  }
  simdjson::dom::parser parser_;
  element root_;
};

void check_answer(Description& description, const Router& router, std::string_view path, const std::string& target) {
  Reply reply = router.handle("GET", target, std::chrono::system_clock::now());
  CAPTURE(target, reply.status, reply.body);
  element responses;
  std::string pointer = "/paths/~1" + std::string(path.substr(1));
  for (auto slash = pointer.find('/', 9); slash != std::string::npos; slash = pointer.find('/', slash))
    pointer.replace(slash, 1, "~1");
  element response = description.at(pointer + "/get/responses/" + std::to_string(reply.status));
  element content = response["content"];
  std::string media = reply.content_type.substr(0, reply.content_type.find(';'));
  element described;
  REQUIRE(content[media].get(described) == simdjson::SUCCESS);
  if (media.starts_with("text/")) return;
  simdjson::dom::parser parser;
  element document;
  REQUIRE(parser.parse(reply.body).get(document) == simdjson::SUCCESS);
  std::string why;
  bool good = description.fits(document, described["schema"], std::string(path), why);
  INFO(why);
  CHECK(good);
}

}  // namespace

TEST_CASE("openapi: routes and parameters are those that answer") {
  Description description;
  CHECK(std::string_view(description.root()["openapi"]) == "3.1.0");
  std::map<std::string, std::set<std::string>> described, real;
  for (auto path : description.root()["paths"].get_object()) {
    auto& names = described[std::string(path.key)];
    element parameters;
    if (path.value["get"]["parameters"].get(parameters) != simdjson::SUCCESS) continue;
    for (element parameter : parameters.get_array()) {
      element p = description.resolve(parameter);
      CHECK(p["schema"].error() == simdjson::SUCCESS);
      if (std::string_view(p["in"]) == "path") {
        CHECK(path.key.ends_with("/{" + std::string(std::string_view(p["name"])) + "}"));
        continue;
      }
      CHECK(std::string_view(p["in"]) == "query");
      CHECK(names.emplace(std::string_view(p["name"])).second);
    }
  }
  for (const auto& route : route_table())
    real[std::string(route.path)].insert(route.parameters.begin(), route.parameters.end());
  CHECK(described == real);
}

TEST_CASE("openapi: every answer fits, to the last field") {
  Description description;
  test::FakeState state;
  state.many_workloads = 3;
  auto asked = test::flow(9, CASA_DENIED, CASA_REASON_DNS_NAME_NOT_ALLOWED, std::chrono::system_clock::now());
  asked.asked_name = std::make_shared<const std::string>("evil.example");
  state.history.add(asked);
  Router router(state);
  for (const auto& route : route_table()) {
    std::string path(route.path);
    if (path == "/v1/explain") {
      check_answer(description, router, path, path + "?from=team-a/agent&to=tools/mcp-server:8080");
      check_answer(description, router, path, path + "?from=team-a/agent&to=x:1");
      check_answer(description, router, path, path + "?from=team-a/nobody&to=x:1");
      check_answer(description, router, path, path + "?baseline=true");
      check_answer(description, router, path, path);
      continue;
    }
    if (path == "/v1/tokens/{sha256}") {
      check_answer(description, router, path, "/v1/tokens/" + std::string(64, 'a'));
      check_answer(description, router, path, "/v1/tokens/" + std::string(63, 'a'));
      std::string known = "abababababababababababababababab";
      check_answer(description, router, path, "/v1/tokens/" + known + known);
      continue;
    }
    check_answer(description, router, path, path);
    if (!route.parameters.empty()) {
      check_answer(description, router, path, path + "?limit=1");
      check_answer(description, router, path, path + "?limit=0");
    }
  }
  state.ready = false;
  check_answer(description, router, "/readyz", "/readyz");
  check_answer(description, router, "/v1/status", "/v1/status");
}

TEST_CASE("openapi: sightings fit, with and without a token") {
  Description description;
  std::vector<SightingNews> all{{test::sighting(0xab, {}), 7}, {test::sighting(0, {}), 0}};
  all[0].sighting.duplicate = all[0].sighting.alg_none = true;
  all[0].sighting.flow.policy = std::make_shared<const std::string>("team-a/agent");
  all.push_back(all[1]);
  all[2].sighting.shape = CASA_TOKEN_NONE;
  all[2].sighting.event = event::EventClass::kIssuance;
  for (const auto& news : all) {
    JsonWriter out;
    write(out, news);
    simdjson::dom::parser parser;
    element document;
    REQUIRE(parser.parse(out.str()).get(document) == simdjson::SUCCESS);
    std::string why;
    bool good = description.fits(document, description.at("/components/schemas/Sighting"), "sighting", why);
    INFO(why);
    CHECK(good);
  }
}

TEST_CASE("openapi: every reference leads somewhere") {
  Description description;
  std::string text(openapi_json());
  for (auto at = text.find("#/components"); at != std::string::npos; at = text.find("#/components", at + 1))
    description.at(text.substr(at + 1, text.find('"', at) - at - 1));
}

// What comes over the wire, cut into objects; and which of them are news.
#include <catch2/catch_test_macros.hpp>
#include <catch2/generators/catch_generators.hpp>
#include <vector>

#include "source/json_split.h"
#include "source/kube_json.h"
#include "source/object_table.h"

using namespace casa::source;
using Texts = std::vector<std::string>;

namespace {

struct Cut {
  Texts objects;
  std::string rest;
  std::string error;
};

Cut cut(JsonSplit::Shape shape, const std::string& text, std::size_t step, std::size_t most = 1000) {
  Cut result;
  JsonSplit split(shape, most, [&](std::string& object) {
    CHECK(object.capacity() >= object.size() + 32);
    result.objects.push_back(object);
    return casa::Status();
  });
  casa::Status status;
  for (std::size_t at = 0; at < text.size() && status; at += step)
    status = split.feed(std::string_view(text).substr(at, step));
  if (status) status = split.finish();
  if (!status) result.error = status.error().context;
  result.rest = split.rest();
  return result;
}

}  // namespace

TEST_CASE("a stream of objects, cut at every place") {
  std::string text = "{\"a\":\"}{\\\"\"}\n{}{\"b\":[{\"c\":\"\\\\\"},[]]}\r\n {\"d\":\"\\\\\\\"\\\\\"}\n";
  for (std::size_t step = 1; step <= text.size(); ++step) {
    Cut result = cut(JsonSplit::Shape::kStream, text, step);
    CHECK(result.error.empty());
    CHECK(result.objects == Texts{R"({"a":"}{\""})", "{}", R"({"b":[{"c":"\\"},[]]})", R"({"d":"\\\"\\"})"});
  }
}

TEST_CASE("a list, cut at every place") {
  std::string text =
      "{\"kind\":\"items\",\"x\":{\"items\":[1,\"]\"]},\"items\": [ {\"a\":1} ,\n{\"b\":[\"items\",[{}]]}],"
      "\"metadata\":{\"resourceVersion\":\"7\",\"continue\":\"a\\\"b\"}}\n";
  for (std::size_t step = 1; step <= text.size(); ++step) {
    Cut result = cut(JsonSplit::Shape::kList, text, step);
    CHECK(result.error.empty());
    CHECK(result.objects == Texts{"{\"a\":1}", "{\"b\":[\"items\",[{}]]}"});
    KubeJson json;
    auto head = json.read_list(result.rest);
    REQUIRE(head);
    CHECK(head->version == "7");
    CHECK(head->next == "a\"b");
  }
  CHECK(cut(JsonSplit::Shape::kList, R"({"items":null})", 3).error.empty());
}

TEST_CASE("what is not a stream or a list") {
  std::size_t step = GENERATE(std::size_t{1}, std::size_t{100});
  auto stream = [&](const std::string& text) { return cut(JsonSplit::Shape::kStream, text, step).error; };
  auto list = [&](const std::string& text) { return cut(JsonSplit::Shape::kList, text, step).error; };
  CHECK(stream("").empty());
  CHECK_FALSE(stream("{\"a\":").empty());
  CHECK_FALSE(stream("{\"a\":\"}").empty());
  CHECK_FALSE(stream("[]").empty());
  CHECK_FALSE(stream("{},{}").empty());
  CHECK_FALSE(list("").empty());
  CHECK_FALSE(list("{\"items\":[{}]").empty());
  CHECK_FALSE(list("{\"items\":[1]}").empty());
  CHECK_FALSE(list("{\"items\":[]}{}").empty());
  CHECK_FALSE(list("[{}]").empty());
  CHECK_FALSE(list("404 page not found").empty());
  CHECK(cut(JsonSplit::Shape::kStream, "{\"a\":\"" + std::string(2000, 'x') + "\"}", step).error ==
        "sent an object of more than 1000 bytes");
}

TEST_CASE("an event's type, object and version") {
  KubeJson json;
  std::string line = R"({"object":{"spec":{"metadata":{"name":"x"}},"metadata":{"managedFields":[{"name":"no"}],)"
                     R"("name":"a\u002db","namespace":null,"uid":"u","resourceVersion":"12"} } ,"type":"MODIFIED"})";
  auto event = json.read_event(line);
  REQUIRE(event);
  CHECK(event->type == WatchEvent::Type::kModified);
  CHECK(event->head.name == "a-b");
  CHECK(event->head.ns.empty());
  CHECK(event->head.uid == "u");
  CHECK(event->head.version == "12");
  CHECK(event->object.starts_with("{\"spec\""));
  CHECK(event->object.ends_with("\"12\"} }"));
  std::string error = R"({"type":"ERROR","object":{"kind":"Status","message":"too old","code":410}})";
  event = json.read_event(error);
  REQUIRE(event);
  CHECK(event->code == 410);
  CHECK(event->message == "too old");
  for (std::string text : {R"({"type":"ADDED","object":{"metadata":{"name":"a/b","uid":"u","resourceVersion":"1"}}})",
                           R"({"type":"ADDED","object":{"metadata":{"name":"a","uid":"u"}}})",
                           R"({"type":"ADDED","object":{"metadata":[]}})",
                           R"({"type":"BOOKMARK","object":{"metadata":{}}})", R"({"type":"ADDED","object":7})",
                           R"({"type":"ERROR","object":{"message":"a""b,"code":410}})", R"({"type":7,"object":{}})"})
    CHECK_FALSE(json.read_event(text));
  CHECK(version_number("12") == 12);
  CHECK(version_number("1x") == 0);
}

TEST_CASE("one name in two streams: the newer version has it, and only its stream takes it away") {
  ObjectTable table("Pod");
  unsigned here = table.add_stream(), there = table.add_stream();
  auto head = [](const char* uid, const char* version) { return ObjectHead{"a", "p", uid, version}; };
  std::string origin = table.origin_of(head("1", "1"));
  CHECK(origin == "kubernetes:Pod/a/p");
  CHECK(table.note(there, origin, head("1", "10")));
  CHECK_FALSE(table.note(there, origin, head("1", "10")));
  CHECK(table.note(there, origin, head("2", "10")));  // a restored etcd
  CHECK(table.note(here, origin, head("3", "20")));
  CHECK(table.size(there) == 0);
  CHECK_FALSE(table.note(there, origin, head("2", "15")));  // late
  CHECK_FALSE(table.has(there, origin));
  table.begin_list(there);
  CHECK(table.vanished(there).empty());
  CHECK(table.note(there, origin, head("4", "30")));
  CHECK_FALSE(table.has(here, origin));
  CHECK(table.size(here) == 0);
  table.begin_list(there);
  CHECK(table.vanished(there) == Texts{origin});
  CHECK(table.has(there, origin));
  table.remove(origin);
  CHECK(table.size(there) == 0);
}

// metadata of every kind: names, casad's own labels and annotations, apiVersion and kind, duplicates, lists.
#include <catch2/catch_test_macros.hpp>

#include "support.h"

using namespace casa::policy;
using namespace casa::policy::test;

namespace {
std::string pod(std::string_view metadata) { return "apiVersion: v1\nkind: Pod\nmetadata: " + std::string(metadata); }
std::string ns(std::string_view metadata) {
  return "apiVersion: v1\nkind: Namespace\nmetadata: " + std::string(metadata);
}
const std::string kLong64(64, 'a');
const std::string kLong254 = [] {
  std::string s(254, 'a');
  for (std::size_t i = 50; i < s.size(); i += 50) s[i] = '.';
  return s;
}();
}  // namespace

TEST_CASE("apiVersion and kind") {
  check_rows(
      "",
      {
          {"foo: 1",
           {"1:1: apiVersion: the field is missing; write apiVersion: casa.io/v1alpha1",
            "1:1: kind: the field is missing; write kind: CASAPolicy, or another that casad reads"}},
          {"kind: Pod", {"1:1: apiVersion: the field is missing; write apiVersion: v1"}},
          {"kind: EndpointSlice", {"1:1: apiVersion: the field is missing; write apiVersion: discovery.k8s.io/v1"}},
          {"apiVersion: v1\nkind: pod", {"2:7: kind: casad does not read objects of kind \"pod\"; did you mean Pod?"}},
          {"apiVersion: v1\nkind: Pods",
           {"2:7: kind: casad does not read objects of kind \"Pods\"; did you mean Pod?"}},
          {"apiVersion: v1\nkind: ConfigMap",
           {"2:7: kind: casad does not read objects of kind \"ConfigMap\"; remove the object, or write CASAPolicy, "
            "MultiAgentSystem, Namespace, Pod, Service, EndpointSlice, Node, Deployment, StatefulSet or List"}},
          {"apiVersion: v1\nkind: Deployment",
           {"1:13: apiVersion: \"v1\" is not a version of Deployment that casad knows; write apps/v1"}},
          {"apiVersion: v2\nkind: Pod",
           {"1:13: apiVersion: \"v2\" is not a version of Pod that casad knows; write v1"}},
          {"apiVersion: discovery.k8s.io/v1beta1\nkind: EndpointSlice",
           {"1:13: apiVersion: \"discovery.k8s.io/v1beta1\" is not a version of EndpointSlice that casad knows; write "
            "discovery.k8s.io/v1"}},
          {"apiVersion: casa.io/v1\nkind: CASApolicys",
           {"1:13: apiVersion: \"casa.io/v1\" is not a version that casad knows; write casa.io/v1alpha1",
            "2:7: kind: casad does not read objects of kind \"CASApolicys\"; did you mean CASAPolicy?"}},
          {"apiVersion: 1\nkind: Pod",
           {"1:13: apiVersion: this must be a text, not the number 1; put it in quotes: \"1\""}},
          {"apiVersion: v1\nkind: [Pod]", {"2:7: kind: this must be a text, not a list; write one value"}},
          {"just text",
           {"1:1: an object is expected here, not the text \"just text\"; write apiVersion, kind, metadata and spec"}},
          {"42", {"1:1: an object is expected here, not the number 42; write apiVersion, kind, metadata and spec"}},
      });
}

TEST_CASE("names") {
  check_rows(
      "",
      {
          {"apiVersion: v1\nkind: Pod",
           {"1:1: metadata: the field is missing; write metadata: {name: <the object's name>}"}},
          {pod("{}"), {"3:11: metadata.name: the field is missing; write name: <the object's name>"}},
          {pod("x"),
           {"3:11: metadata: this must be a mapping, not the text \"x\"; write its fields as \"name: value\""}},
          {pod("{generateName: a-}"), {"3:11: metadata.name: the field is missing; write name: <the object's name>"}},
          {pod("{name: a.b-c.0}"), {}},
          {pod("{name: a, namespace: ''}"), {}},
          {pod("{name: 'a\\b'}"),
           {"3:18: metadata.name: \"a\\\\b\" is not a Kubernetes name (lower-case letters, digits, '-' and '.', each "
            "part up to 63); write a-b"}},
          {pod("{name: \"a\\0b\\e\"}"),
           {"3:18: metadata.name: \"a\\x00b\\x1b\" is not a Kubernetes name (lower-case letters, digits, '-' and '.', "
            "each part up to 63); write a-b"}},
          {pod("{name: " + kLong64 + "}"),
           {"3:18: metadata.name: \"" + kLong64 +
            "\" is not a Kubernetes name (lower-case letters, digits, '-' and '.', each part up to 63); write " +
            kLong64.substr(1)}},
          {pod("{name: " + kLong254 + "}"),
           {"3:18: metadata.name: \"" + kLong254.substr(0, 80) +
            "...\" is longer than 253 characters; write a shorter name"}},
          {pod("{name: a, namespace: a.b}"),
           {"3:32: metadata.namespace: \"a.b\" is not a namespace's name (lower-case letters, digits and '-'); write "
            "a-b"}},
          {pod("{name: a, namespace: 7}"),
           {"3:32: metadata.namespace: this must be a text, not the number 7; put it in quotes: \"7\""}},
          {pod("{name: a, nmaespace: b}"), {"3:21: metadata.nmaespace: unknown field; did you mean namespace?"}},
          {ns("{name: a.b}"),
           {"3:18: metadata.name: \"a.b\" is not a namespace's name (lower-case letters, digits and '-'); write a-b"}},
          {ns("{name: a, namespace: b}"),
           {"3:32: metadata.namespace: a Namespace is in no namespace; remove the field"}},
      });
}

TEST_CASE("the namespace is default when absent") {
  auto r = parse_text("f", pod("{name: a}") + "\n---\n" + pod("{name: b, namespace: c}") + "\n---\n" + ns("{name: d}"),
                      Syntax::kYaml);
  REQUIRE(r.objects.size() == 3);
  CHECK(to_string(key_of(r.objects[0])) == "Pod default/a");
  CHECK(to_string(key_of(r.objects[1])) == "Pod c/b");
  CHECK(to_string(key_of(r.objects[2])) == "Namespace d");
}

TEST_CASE("labels and annotations") {
  check_rows(
      "",
      {
          {pod("{name: a, labels: {app: x, 'a.b/c': '', casa.io/enabled: \"true\", casa.io/mas-name: m}}"), {}},
          {pod("{name: a, labels: [x]}"),
           {"3:29: metadata.labels: this must be a mapping, not a list; write its entries as \"name: value\""}},
          {pod("{name: a, labels: {app: 1, b: true, c: }}"),
           {"3:35: metadata.labels.app: this must be a text, not the number 1; put it in quotes: \"1\"",
            "3:41: metadata.labels.b: this must be a text, not true; put it in quotes: \"true\"",
            "3:50: metadata.labels.c: the value is empty; write a text, or \"\""}},
          {pod("{name: a, labels: {'a b': c}}"),
           {"3:30: metadata.labels: \"a b\" is not a label's or annotation's key; write name or example.com/name"}},
          {pod("{name: a, labels: {a: 'b c'}}"),
           {"3:33: metadata.labels.a: \"b c\" is not a label's value; write at most 63 letters, digits, '-', '_' and "
            "'.', or use an annotation"}},
          {pod("{name: a, annotations: {a: 'any thing / at all'}}"), {}},
          {pod("{name: a, annotations: {casa.io/enforcement: disabled}}"), {}},
          {pod("{name: a, annotations: {casa.io/enforcement: off}}"),
           {"3:56: metadata.annotations.casa.io/enforcement: the text \"off\" is not possible here; write disabled, or "
            "remove the annotation"}},
          {pod("{name: a, annotations: {casa.io/enforcment: disabled}}"),
           {"3:35: metadata.annotations.casa.io/enforcment: unknown annotation; did you mean casa.io/enforcement?"}},
          {pod("{name: a, annotations: {casa.io/foo: x}}"),
           {"3:35: metadata.annotations.casa.io/foo: unknown annotation; remove it, or write casa.io/cgroup or "
            "casa.io/enforcement"}},
          {pod("{name: a, annotations: {casa.io/injection: enabled}}"),
           {"3:35: metadata.annotations.casa.io/injection: this is a label, not an annotation; move it to "
            "metadata.labels"}},
          {pod("{name: a, labels: {casa.io/cgroup: x}}"),
           {"3:30: metadata.labels.casa.io/cgroup: this is an annotation, not a label; move it to "
            "metadata.annotations"}},
          {pod("{name: a, labels: {casa.io/enabled: true}}"),
           {"3:47: metadata.labels.casa.io/enabled: this must be a text, not true; put it in quotes: \"true\""}},
          {pod("{name: a, labels: {casa.io/enabled: 'yes'}}"),
           {"3:47: metadata.labels.casa.io/enabled: the text \"yes\" is not possible here; write \"true\" or "
            "\"false\", in quotes"}},
          {ns("{name: a, labels: {casa.io/injection: enabled}}"), {}},
          {ns("{name: a, labels: {casa.io/injection: enable}}"),
           {"3:49: metadata.labels.casa.io/injection: the text \"enable\" is not possible here; write enabled or "
            "disabled"}},
          {ns("{name: a, labels: {casa.io/injections: enabled}}"),
           {"3:30: metadata.labels.casa.io/injections: unknown label; did you mean casa.io/injection?"}},
          {ns("{name: a, annotations: {casa.io/cgroup: x}}"),
           {"3:35: metadata.annotations.casa.io/cgroup: this annotation belongs to a Pod, not to a Namespace; write it "
            "on a Pod"}},
          {ns("{name: a, annotations: {casa.io/enforcement: disabled}}"), {}},
          {"apiVersion: casa.io/v1alpha1\nkind: CASAPolicy\nmetadata: {name: a, annotations: {casa.io/enforcement: "
           "disabled}}\nspec: {targetRef: {kind: Pod, name: b}}",
           {"3:35: metadata.annotations.casa.io/enforcement: this annotation exempts a Pod or a Namespace, not a "
            "CASAPolicy; write it there, or use spec.enforcement"}},
      });
}

TEST_CASE("casa.io/cgroup") {
  auto of = [](std::string_view path) {
    return lines(pod("{name: a, annotations: {casa.io/cgroup: '" + std::string(path) + "'}}"));
  };
  const std::string at = "3:51: metadata.annotations.casa.io/cgroup: ";
  const std::string plain = "; write the plain path of the cgroup, such as agents.slice/a.service";
  for (const char* good : {"a", "a.slice/b c", "a/b/..c", "a/\xC3\xA9"}) CHECK(of(good).empty());
  CHECK(of("") == Lines{at + "the path is empty; write a path below the cgroup2 root, such as agents.slice/a.service"});
  CHECK(of("/a/b") == Lines{at + "\"/a/b\" begins with '/'; write it below the cgroup2 root: a/b"});
  CHECK(of("/sys/fs/cgroup/a") ==
        Lines{at + "\"/sys/fs/cgroup/a\" begins with '/'; write it below the cgroup2 root: a"});
  CHECK(of("/") == Lines{at + "\"/\" begins with '/'; write it below the cgroup2 root: agents.slice/a.service"});
  CHECK(of("a/../b") == Lines{at + "\"a/../b\" has the component \"..\"" + plain});
  CHECK(of("..") == Lines{at + "\"..\" has the component \"..\"" + plain});
  CHECK(of("./a") == Lines{at + "\"./a\" has the component \".\"" + plain});
  CHECK(of("a//b") == Lines{at + "\"a//b\" has the component \"\"" + plain});
  CHECK(of("a/") == Lines{at + "\"a/\" has the component \"\"" + plain});
  CHECK(of(std::string(255, 'a')).empty());
  CHECK(of(std::string(256, 'a')) == Lines{at + "the path is longer than 255 bytes; write a shorter one"});
  CHECK(lines(pod("{name: a, annotations: {casa.io/cgroup: \"a\\0b\"}}")) ==
        Lines{at + "\"a\\x00b\" contains a control character; remove it"});
  CHECK(lines(pod("{name: a, annotations: {casa.io/cgroup: \"a\\nb\"}}")) ==
        Lines{at + "\"a\\x0ab\" contains a control character; remove it"});
  auto r = parse_text("f", pod("{name: a, annotations: {casa.io/cgroup: x.slice/y}}"), Syntax::kYaml);
  CHECK(std::get<Pod>(r.objects.at(0)).cgroup == "x.slice/y");
}

TEST_CASE("owners") {
  auto r = parse_text("f",
                      pod("{name: a, ownerReferences: [{apiVersion: apps/v1, kind: ReplicaSet, name: b-5f, uid: u, "
                          "controller: true}]}"),
                      Syntax::kYaml);
  CHECK(dump(r).find("owner=ReplicaSet/b-5f") != std::string::npos);
  check_rows("", {{pod("{name: a, ownerReferences: [{nam: b}]}"),
                   {"3:39: metadata.ownerReferences[0].kind: the field is missing; write kind: <the owner's kind>",
                    "3:39: metadata.ownerReferences[0].name: the field is missing; write name: <the owner's name>",
                    "3:40: metadata.ownerReferences[0].nam: unknown field; did you mean name?"}}});
}

TEST_CASE("an object defined twice in a file") {
  CHECK(lines(pod("{name: a}") + "\n---\n" + pod("{name: a, namespace: default}") + "\n---\n" +
              pod("{name: a, namespace: b}")) ==
        Lines{"5:1: Pod default/a is already defined at line 1; remove one of the two, or give it another name"});
}

TEST_CASE("lists") {
  check_rows(
      "", {
              {"apiVersion: v1\nkind: List\nitems: []", {}},
              {"apiVersion: v1\nkind: List\nmetadata: {resourceVersion: ''}", {}},
              {"apiVersion: v1\nkind: List\nitems:\n- {apiVersion: v1, kind: Pod, metadata: {name: A}}",
               {"4:48: items[0].metadata.name: \"A\" is not a Kubernetes name (lower-case letters, digits, '-' and "
                "'.', each part up to 63); write a"}},
              {"kind: List\nitem: []",
               {"1:1: apiVersion: the field is missing; write apiVersion: v1",
                "2:1: item: unknown field; did you mean items?"}},
              {"apiVersion: v2\nkind: List", {"1:13: apiVersion: a List has not the version \"v2\"; write v1"}},
              {"apiVersion: v1\nkind: List\nitems: [{apiVersion: v1, kind: List}]",
               {"3:32: items[0].kind: a List inside a list is not possible; put its items into the outer list"}},
              {"apiVersion: v1\nkind: List\nitems: [x, ]",
               {"3:9: items[0]: an object is expected here, not the text \"x\"; write apiVersion, kind, metadata and "
                "spec"}},
              {"- {apiVersion: v1, kind: Namespace, metadata: {name: a}}\n-\n- 3",
               {"2:2: [1]: the entry is empty; write its value, or remove it",
                "3:3: [2]: an object is expected here, not the number 3; write apiVersion, kind, metadata and spec"}},
          });
}

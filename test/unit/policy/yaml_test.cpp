// YAML itself: documents, scalars, what breaks a file and what only its object.
#include <catch2/catch_test_macros.hpp>

#include "support.h"

using namespace casa::policy;
using namespace casa::policy::test;

namespace {
constexpr std::string_view kGood = "apiVersion: v1\nkind: Namespace\nmetadata: {name: good}\n---\n";  // 4 lines
std::string ns(std::string_view metadata) {
  return "apiVersion: v1\nkind: Namespace\nmetadata: " + std::string(metadata);
}

// The text breaks a file: one diagnostic, nothing of the file is used.
void check_broken(std::string_view text, std::string_view expected) {
  INFO(text);
  auto r = parse_text("f", std::string(kGood) + std::string(text), Syntax::kYaml);
  CHECK_FALSE(r.syntax_ok);
  CHECK(r.objects.empty());
  CHECK(lines(r) == Lines{std::string(expected)});
}
}  // namespace

TEST_CASE("documents") {
  for (const char* empty :
       {"", "\n\n", "# comment\n", "---\n", "---\n---\n...\n", "null", "~", "---\n# only\n---\n", "\xEF\xBB\xBF"}) {
    auto r = parse_text("f", empty, Syntax::kYaml);
    INFO(empty);
    CHECK(r.ok());
    CHECK(r.syntax_ok);
    CHECK(r.objects.empty());
  }
  auto r =
      parse_text("f", "---\n" + ns("{name: a}") + "\n---\n---\n" + ns("{name: b}") + "\n...\n---\n" + ns("{name: c}"),
                 Syntax::kYaml);
  CHECK(r.ok());
  CHECK(r.objects.size() == 3);
  CHECK(meta_of(r.objects[1]).where.line == 7);
}

TEST_CASE("lines and columns count bytes, whatever the line breaks") {
  CHECK(lines("\xEF\xBB\xBF"
              "foo: 1\nkind: Pod\napiVersion: v1\nmetadata: {name: a}") ==
        Lines{"1:1: foo: unknown field; remove it, or write apiVersion, kind, metadata, spec or status"});
  CHECK(lines("apiVersion: v1\r\nkind: Namespace\r\nmetadata: {name: a, \xC3\xA9\xF0\x9F\x98\x80: 1, x: 2}") ==
        Lines{"3:21: metadata.\xC3\xA9\xF0\x9F\x98\x80: unknown field; remove it",
              "3:32: metadata.x: unknown field; remove it"});
  CHECK(lines("apiVersion: v1\rkind: Namespace\rmetadata: {name: A}").at(0).starts_with("3:18: "));
  std::string many;
  for (int i = 0; i < 1000; ++i) many += "# \xC3\xBC\xE2\x82\xAC\xF0\x9F\x98\x80\n";  // across several character marks
  CHECK(lines(many + "apiVersion: v1\nkind: Namespace\nmetadata: {name: A}").at(0).starts_with("1003:18: "));
}

TEST_CASE("what no object may contain") {
  check_rows(
      "",
      {
          {ns("{name: a, labels: {x: !!str 1}}"),
           {"3:33: metadata.labels.x: this must be a text, not the number 1; put it in quotes: \"1\"",
            "3:33: tags (!name) are not supported; remove it (quotes make a text of a number)"}},
          {ns("!foo {name: a}"), {"3:11: tags (!name) are not supported; remove it (quotes make a text of a number)"}},
          {ns("!!python/object:x {name: a}"),
           {"3:11: tags (!name) are not supported; remove it (quotes make a text of a number)"}},
          {"!foo", {"1:1: tags (!name) are not supported; remove it (quotes make a text of a number)"}},
          {ns("{name: &n a, labels: {x: *n}}"), {"3:36: the alias *n is not supported; write the value out"}},
          {ns("{name: a, labels: &l {x: y}, annotations: *l}"),
           {"3:53: the alias *l is not supported; write the value out"}},
          {ns("{name: a, labels: {<<: {x: y}}}"), {"3:30: merge keys (<<) are not supported; write the fields out"}},
          {ns("{name: a, <<: {x: y}}"), {"3:21: merge keys (<<) are not supported; write the fields out"}},
          {ns("{name: a, [x]: y}"), {"3:21: a list or mapping cannot be a field's name; write \"name: value\""}},
          {ns("{name: a}\nkind: Pod"), {"4:1: kind is already set at line 2, column 1; remove one of the two"}},
          {ns("{name: a, name: b, name: c}"),
           {"3:21: name is already set at line 3, column 12; remove one of the two",
            "3:30: name is already set at line 3, column 12; remove one of the two"}},
          {ns("{name: a, managedFields: [{x: 1, x: 2}]}"),
           {"3:44: x is already set at line 3, column 38; remove one of the two"}},
      });
  CHECK(lines(ns("{name: &n a}")).empty());  // an anchor alone means nothing
}

TEST_CASE("an object with errors does not take the others of its file along") {
  auto r = parse_text("f", std::string(kGood) + ns("{name: a, name: b}") + "\n---\n" + ns("{name: c}"), Syntax::kYaml);
  CHECK(r.syntax_ok);
  CHECK(r.objects.size() == 2);
}

TEST_CASE("scalars are typed by YAML 1.2") {
  auto of = [](std::string_view value) { return lines(ns("{name: a, annotations: {x: " + std::string(value) + "}}")); };
  for (const char* text : {"yes", "no", "on", "off", "y", "n", "abc", "'1'", "\"true\"", "'null'", "1a", "1.2.3",
                           "2026-01-02", "x.1", "'~'", "0x", "0b1", "1_000"}) {
    INFO(text);
    CHECK(of(text).empty());
  }
  for (std::string number :
       {"1", "-1", "+1", "0x1F", "0o17", "1.5", "1e3", ".5", "-.5", "1.", ".inf", "-.INF", ".nan", "0"}) {
    CHECK(of(number) == Lines{"3:38: metadata.annotations.x: this must be a text, not the number " + number +
                              "; put it in quotes: \"" + number + "\""});
  }
  for (std::string truth : {"true", "True", "TRUE", "false", "False", "FALSE"}) {
    CHECK(of(truth) == Lines{"3:38: metadata.annotations.x: this must be a text, not " + truth +
                             "; put it in quotes: \"" + truth + "\""});
  }
  for (const char* null : {"~", "null", "Null", "NULL", ""})
    CHECK(of(null).at(0).ends_with("the value is empty; write a text, or \"\""));
}

TEST_CASE("a broken text is trusted in nothing") {
  check_broken("a: [1, 2",
               "5:9: a list in [ ] that goes on or ends wrongly; write ',' between entries and ']' at its end (is the "
               "file written completely?)");
  check_broken("a: {b: 1",
               "5:9: a mapping in { } that goes on or ends wrongly; write ',' between fields and '}' at its end (is "
               "the file written completely?)");
  check_broken("a: \"b\nc: d\n",
               "5:4: a text in quotes that never ends; close the quote (is the file written completely?)");
  check_broken("a: 'b", "5:4: a text in quotes that never ends; close the quote (is the file written completely?)");
  check_broken("spec:\n  a: b\n  targ",
               "7:7: this line has no ':'; write \"name: value\" (is the file written completely?)");
  check_broken("a:\n\tb: c\n", "6:1: a tab cannot indent YAML; use spaces");
  check_broken("a: b\n\tc: d\n", "6:1: a tab cannot indent YAML; use spaces");
  check_broken("a: b: c\n",
               "5:5: a ':' that cannot be here; indent the field like its neighbours, or put the value in quotes");
  check_broken("a:\n  - b\n c: d\n",
               "7:2: neither a field of this mapping nor its end; indent it like its neighbours, or put the value "
               "before it in quotes");
  check_broken("a: @b\n", "5:4: a value cannot begin with \"@\"; put it in quotes");
  check_broken("a: `b`\n", "5:4: a value cannot begin with \"`\"; put it in quotes");
  check_broken("a: - b\n", "5:4: a list cannot begin here; write \"- \" on a line of its own below the field's name");
  check_broken("a: \"\\q\"\n",
               "5:5: an unknown escape in double quotes; write \\\\ for a backslash, or use single quotes");
  check_broken("a: \"\\ud800\"\n", "5:7: not a character's number; write a valid \\u escape, or the character itself");
  check_broken("a: \"\\xZZ\"\n", "5:7: an escape that breaks off; write \\xHH, \\uHHHH or \\UHHHHHHHH");
  check_broken("a: !x!y z\n", "5:4: tags (!name) are not supported; remove it");
  check_broken("a: b\n%FOO\n---\n",
               "6:5: a line that begins with % and is no valid directive; remove it, or put the text in quotes");
  check_broken("[]\n[b]\n", "6:1: something after the end of a document; begin a new document with ---");
}

TEST_CASE("directives") {
  CHECK(lines("%YAML 1.2\n---\n" + ns("{name: a}")).empty());
  CHECK(lines("%YAML 1.1\n---\n" + ns("{name: a}")).empty());
  CHECK(lines("%YAML 3.0\n---\n" + ns("{name: a}")) ==
        Lines{"1:1: an unknown YAML version; write %YAML 1.2, or remove the line"});
  CHECK(lines("%TAG ! foo\n---\n" + ns("{name: a}")) ==
        Lines{"1:1: %TAG directives are not supported; remove the line"});
  CHECK(lines("%FOO bar\n---\n" + ns("{name: a}")) ==
        Lines{"1:5: a line that begins with % and is no valid directive; remove it, or put the text in quotes"});
}

TEST_CASE("a broken text still names its policies") {
  std::string good =
      "apiVersion: casa.io/v1alpha1\nkind: CASAPolicy\nmetadata: {name: p, namespace: a}\nspec: {targetRef: {kind: "
      "Pod, name: w}}\n";
  auto r = parse_text("f",
                      good +
                          "---\napiVersion: casa.io/v1alpha1\nkind: CASAPolicy\nmetadata:\n  name: q\nspec:\n  "
                          "targetRef: {kind: Pod, name: v}\n  allowedEndpoints: [{",
                      Syntax::kYaml);
  CHECK_FALSE(r.syntax_ok);
  CHECK(r.objects.empty());
  REQUIRE(r.invalid.size() == 2);
  CHECK(r.invalid[0].key.name == "p");
  CHECK(r.invalid[0].target_name == "w");
  CHECK(r.invalid[1].key == ObjectKey{Kind::kCasaPolicy, "default", "q"});
  CHECK(r.invalid[1].target_name == "v");
  CHECK(r.invalid[1].message ==
        "f:12:23: a value is expected here; write it, or put it in quotes (is the file written completely?)");
  // Errors before the break are reported, too.
  auto both = lines("foo: 1\n---\na: [");
  CHECK(both.size() == 3);
}

// Input made to hurt: every text here gets a clear error quickly. The time limits are loose; what they catch is anything
// that is not linear.
#include <algorithm>
#include <catch2/catch_test_macros.hpp>
#include <chrono>

#include "support.h"

using namespace casa::policy;
using namespace casa::policy::test;

namespace {
constexpr std::size_t kMax = kMaxFileBytes;
#ifndef __has_feature
#define __has_feature(x) 0
#endif
#if defined(__SANITIZE_ADDRESS__) || __has_feature(address_sanitizer)
constexpr auto kSlow = std::chrono::seconds(60);
#else
constexpr auto kSlow = std::chrono::seconds(5);
#endif

std::string repeat(std::string_view text, std::size_t times) {
  std::string out;
  out.reserve(text.size() * times);
  for (std::size_t i = 0; i < times; ++i) out += text;
  return out;
}
std::string fill(std::string_view text) { return repeat(text, kMax / text.size()); }

ParseResult timed(const std::string& text, Syntax syntax) {
  auto begin = std::chrono::steady_clock::now();
  auto result = parse_text("f", text, syntax);
  CHECK(std::chrono::steady_clock::now() - begin < kSlow);
  CHECK(result.diagnostics.size() <= kMaxDiagnostics + 1);
  return result;
}
void check_first(const std::string& text, std::string_view expected, bool syntax_ok, Syntax syntax = Syntax::kYaml) {
  INFO(text.substr(0, 40));
  auto result = timed(text, syntax);
  auto got = lines(result);
  REQUIRE_FALSE(got.empty());
  CHECK(got.front() == expected);
  CHECK(result.syntax_ok == syntax_ok);
  CHECK(result.objects.empty());
}
const std::string kDeep = "nested deeper than 64 levels, and the rest of the file is not read; remove the nesting";
const std::string kMany = "the document has more than 1000000 values; split it into several";
}  // namespace

TEST_CASE("too large") {
  check_first(std::string(100u << 20, 'a'), "1:1: the file is larger than 8 MiB; split it into several", false);
  check_first(std::string(kMax + 1, ' '), "1:1: the file is larger than 8 MiB; split it into several", false,
              Syntax::kJson);
  CHECK(timed(std::string(kMax, ' '), Syntax::kYaml).ok());
}

TEST_CASE("too deep") {
  check_first(repeat("[", 10000), "1:65: " + kDeep, false);
  check_first(fill("["), "1:65: " + kDeep, false);
  check_first(fill("[\n"), "65:1: " + kDeep, false);
  check_first(repeat("- ", 10000) + "a", "1:129: " + kDeep, false);
  check_first(fill("- "), "1:129: " + kDeep, false);
  check_first(fill("? "), "1:129: " + kDeep, false);
  check_first(repeat("{a: ", 10000), "1:257: " + kDeep, false);
  std::string maps;
  for (int i = 0; i < 3000; ++i) maps += std::string(static_cast<std::size_t>(i), ' ') + "a:\n";
  check_first(maps, "65:65: " + kDeep, false);
  check_first(fill("["), "1:65: " + kDeep, false, Syntax::kJson);
  check_first(repeat("{\"a\":", 10000), "1:321: " + kDeep, false, Syntax::kJson);
  check_first(repeat("[", 10000) + repeat("]", 10000), "1:65: " + kDeep, false, Syntax::kJson);
  // 64 is still taken.
  CHECK(parse_text("f", repeat("[", 64) + repeat("]", 64), Syntax::kYaml).syntax_ok);
  CHECK(parse_text("f", repeat("[", 64) + repeat("]", 64), Syntax::kJson).syntax_ok);
}

TEST_CASE("too many") {
  check_first("[" + repeat("a,", kMax / 2 - 2) + "]", "1:2000000: " + kMany, false);
  check_first(fill("- \n"), "1000000:2: " + kMany, false);
  check_first("[" + repeat("1,", kMax / 2 - 2) + "1]", "1:2000000: " + kMany, false, Syntax::kJson);
}

TEST_CASE("not text") {
  check_first(std::string(1000, '\0'),
              "1:1: a NUL byte is no text; is the file written completely? Remove the byte, or write the file again",
              false);
  check_first(std::string("kind: Pod\nna\0me: x", 18),
              "2:3: a NUL byte is no text; is the file written completely? Remove the byte, or write the file again",
              false);
  check_first(std::string("{\"a\":\"\0\"}", 9),
              "1:7: a NUL byte is no text; is the file written completely? Remove the byte, or write the file again",
              false, Syntax::kJson);
  check_first("a: \x01", "1:4: the control character 0x01 is not allowed; remove it", false);
  check_first("a: \x1b[31m", "1:4: the control character 0x1b is not allowed; remove it", false);
  check_first("a: \x7f", "1:4: the control character 0x7f is not allowed; remove it", false);
  check_first("a: \xC2\x9B", "1:4: the character U+009B is not allowed; remove it", false);
  check_first("a: \xEF\xBB\xBF", "1:4: the character U+FEFF is not allowed; remove it", false);
  check_first("a: \xEF\xBF\xBE", "1:4: the character U+FFFE is not allowed; remove it", false);
  for (const char* bad : {"\x80", "\xBF", "\xC0\x80", "\xC1\xBF", "\xE0\x80\x80", "\xED\xA0\x80", "\xF0\x80\x80\x80",
                          "\xF4\x90\x80\x80", "\xF8\x88\x80\x80", "\xFF",
                          "\xC3"
                          "a",
                          "\xE2\x82"
                          "a"}) {
    for (auto syntax : {Syntax::kYaml, Syntax::kJson}) {
      auto got = lines("x\n \"" + std::string(bad) + "\"", syntax);
      REQUIRE(got.size() == 1);
      CHECK(got[0].starts_with("2:3: the byte 0x"));
      CHECK(got[0].ends_with("is not valid UTF-8; save the file as UTF-8"));
    }
  }
  check_first("a: \xE2\x82",
              "1:4: the file ends in the middle of a character; write the file again, completely and in UTF-8", false);
  for (std::string bom :
       {std::string("\xFF\xFE"
                    "a\0",
                    4),
        std::string("\xFE\xFF\0a", 4), std::string("\0\0\xFE\xFF", 4), std::string("\xFF\xFE\0\0", 4)}) {
    check_first(bom, "1:1: the file is in UTF-16 or UTF-32; save it as UTF-8", false);
    check_first(bom, "1:1: the file is in UTF-16 or UTF-32; save it as UTF-8", false, Syntax::kJson);
  }
}

TEST_CASE("texts that make a parser work") {
  for (std::string text : {fill(":"),
                           fill(": "),
                           fill("'"),
                           fill("\""),
                           fill("!"),
                           fill("! "),
                           fill("&a "),
                           fill("*a "),
                           fill("%"),
                           fill("%YAML 1.2\n"),
                           fill("%TAG !a! b\n"),
                           fill("#"),
                           fill(" "),
                           fill("\n"),
                           fill("\r"),
                           fill("\t"),
                           fill("-"),
                           fill("---\n"),
                           fill("--- a\n"),
                           fill("..."),
                           fill("|\n"),
                           fill(">\n "),
                           fill("a: |\n \n"),
                           fill("?"),
                           fill(","),
                           fill("]"),
                           fill("}{"),
                           fill("a: b\n"),
                           fill("\xC3\xA9"),
                           fill("\xE2\x80\xA8"),
                           "a: \"" + fill("x").substr(10) + "\"",
                           "a: '" + fill("x").substr(10),
                           "[" + fill("\xC3\xA9,").substr(10),
                           fill("\\"),
                           fill("\"\\"),
                           fill("{}"),
                           fill("[[],"),
                           fill("1 ")}) {
    INFO(text.substr(0, 20));
    for (auto syntax : {Syntax::kYaml, Syntax::kJson}) timed(text, syntax);
  }
}

TEST_CASE("aliases never grow") {
  std::string bomb = "a: &a [x,x,x,x,x,x,x,x,x,x]\n";
  for (char c = 'b'; c <= 'z'; ++c) {
    std::string prior(1, static_cast<char>(c - 1));
    bomb += std::string(1, c) + ": &" + c + " [" + repeat("*" + prior + ",", 10) + "]\n";
  }
  auto result = timed(bomb, Syntax::kYaml);
  CHECK(lines(result).size() == kMaxDiagnostics + 1);
  CHECK(result.diagnostics.back().message ==
        "152 more errors and 0 more warnings are not shown; correct those above first");
}

TEST_CASE("more diagnostics than are shown") {
  std::string text =
      "apiVersion: casa.io/v1alpha1\nkind: CASAPolicy\nmetadata: {name: p}\nspec: {targetRef: {kind: Pod, name: w}}\n";
  for (int i = 0; i < 200000; ++i) text += "unknown" + std::to_string(i) + ": 1\n";
  auto result = timed(text, Syntax::kYaml);
  REQUIRE(result.diagnostics.size() == kMaxDiagnostics + 1);
  CHECK(to_string(result.diagnostics.back()) ==
        "f:105:1: error: 199900 more errors and 0 more warnings are not shown; correct those above first");
  CHECK(result.omitted_errors == 199900);
  REQUIRE(result.invalid.size() == 1);
  CHECK(result.invalid[0].message ==
        "f:5:1: unknown0: unknown field; remove it, or write apiVersion, kind, metadata, spec or status");
  // An object whose errors are all beyond the limit still says where.
  auto more = parse_text("f",
                         text +
                             "---\napiVersion: casa.io/v1alpha1\nkind: CASAPolicy\nmetadata: {name: q}\nspec: "
                             "{targetRef: {kind: Pod, name: W}}\n",
                         Syntax::kYaml);
  REQUIRE(more.invalid.size() == 2);
  CHECK(more.invalid[1].message.starts_with("f:200009:37: spec.targetRef.name: \"W\" is not a Kubernetes name"));
  // Warnings are cut as well, and errors among the cut ones still make the file bad.
  std::string endpoints =
      "apiVersion: casa.io/v1alpha1\nkind: CASAPolicy\nmetadata: {name: p}\nspec:\n  targetRef: {kind: Pod, name: w}\n "
      " allowedProtocols:\n";
  for (int i = 0; i < 150; ++i) endpoints += "  - mcp\n";
  CHECK(parse_text("f", endpoints, Syntax::kYaml).ok());
  auto bad = parse_text("f", endpoints + "  - x\n", Syntax::kYaml);
  CHECK_FALSE(bad.ok());
  CHECK(bad.objects.empty());
  CHECK(bad.diagnostics.back().message ==
        "1 more errors and 49 more warnings are not shown; correct those above first");
}

TEST_CASE("a million duplicate keys cost no more than sorting them") {
  auto result = timed(repeat("a: 1\n", 450000), Syntax::kYaml);
  CHECK(result.syntax_ok);
  CHECK(result.omitted_errors > 400000);
}

TEST_CASE("what comes from the file cannot harm a terminal or fill a log") {
  auto got = lines("apiVersion: v1\nkind: \"\\e]0;x\\a" + std::string(10000, 'k') + "\"\n");
  REQUIRE(got.size() == 1);
  CHECK(got[0].size() < 400);
  CHECK(std::ranges::none_of(got[0], [](char c) { return static_cast<unsigned char>(c) < 0x20; }));
  auto key = lines("apiVersion: v1\nkind: Pod\nmetadata: {name: a, \"" + std::string(100000, 'k') + "\\n\": 1}\n");
  REQUIRE(key.size() == 1);
  CHECK(key[0].size() < 400);
}

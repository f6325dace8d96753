// Text for terminals: nothing that a process can name itself gets through to the terminal as more than letters.
#include <catch2/catch_test_macros.hpp>
#include <random>

#include <simdjson.h>

#include "cli/terminal.h"

using namespace casa::cli;

TEST_CASE("printable leaves words, and writes out what acts") {
  CHECK(printable("naïve-Ünit 日本") == "naïve-Ünit 日本");
  CHECK(printable("a\x1b[31mb") == "a\\x1b[31mb");
  CHECK(printable("a\nb\r\tc") == "a\\x0ab\\x0d\\x09c");
  CHECK(printable("\x7f") == "\\x7f");
  CHECK(printable("\xc2\x9b"
                  "31m") == "\\u{009b}31m");
  CHECK(printable("\x9b") == "\\x9b");
  CHECK(printable("\xe2\x80\xae") == "\\u{202e}");
  CHECK(printable("\xc0\x8a") == "\\xc0\\x8a");
  CHECK(printable("\xed\xa0\x80") == "\\xed\\xa0\\x80");
  CHECK(printable("\xf0\x9f\x92") == "\\xf0\\x9f\\x92");
  CHECK(printable(std::string_view("\0", 1)) == "\\x00");
  CHECK(printable("\xf3\xa0\x80\x81") == "\\u{e0001}");
}

TEST_CASE("printable JSON is the same JSON") {
  std::string json =
      "{\"comm\":\"\xc2\x9b"
      "31m\xe2\x80\xae\xf3\xa0\x80\x81\x7f\",\n \"n\":[1,2]}";
  std::string safe = printable_json(json);
  CHECK(safe.find('\n') == std::string::npos);
  CHECK(printable(safe) == safe);
  simdjson::dom::parser before, after;
  simdjson::dom::element a, b;
  REQUIRE(before.parse(json).get(a) == simdjson::SUCCESS);
  REQUIRE(after.parse(safe).get(b) == simdjson::SUCCESS);
  CHECK(std::string_view(a["comm"]) == std::string_view(b["comm"]));
}

TEST_CASE("random bytes become printable, and stay so") {
  std::mt19937 random(5);
  for (int i = 0; i < 20'000; ++i) {
    std::string text;
    for (unsigned n = random() % 20; n > 0; --n) text += static_cast<char>(random());
    std::string safe = printable(text);
    CHECK(printable(safe) == safe);
    for (unsigned char c : safe) REQUIRE((c >= 0x20 && c != 0x7f));
  }
}

TEST_CASE("rows line up, and widths only grow") {
  Table table({3, 3});
  CHECK(table.line({"a", "b", "c"}, std::string::npos, Colour::kNone, false) == "a    b    c");
  CHECK(table.line({"längér", "b", ""}, std::string::npos, Colour::kNone, false) == "längér  b");
  CHECK(table.line({"a", "", "c"}, 0, Colour::kRed, true) == "\x1b[31ma\x1b[0m            c");
}

TEST_CASE("no colour into a file") {
  std::FILE* file = std::tmpfile();
  CHECK_FALSE(wants_colour(file));
  std::fclose(file);
}

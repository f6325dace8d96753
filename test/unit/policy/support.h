// For the tests of this room: a text in, the printed diagnostics out. The input is called "f".
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "policy/parse.h"

namespace casa::policy::test {

using Lines = std::vector<std::string>;

// "line:col: message" of every diagnostic; warnings as "line:col: warning: message".
Lines lines(const ParseResult& result);
Lines lines(std::string_view text, Syntax syntax = Syntax::kYaml);

// One row of a table: the text, and what comes out for it.
struct Row {
  std::string_view text;
  Lines expected;
};
void check_rows(std::string_view head, const std::vector<Row>& rows, Syntax syntax = Syntax::kYaml);

// Everything that an object holds but places, as text: equal objects, equal texts.
std::string dump(const Object& object);
std::string dump(const ParseResult& result);

// True when a message says what to write instead, after its last "; ".
bool has_advice(std::string_view message);

}  // namespace casa::policy::test

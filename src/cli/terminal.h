// Text for terminals: made harmless, aligned, perhaps coloured. Pure but for wants_colour().
#pragma once

#include <cstddef>
#include <cstdio>
#include <string>
#include <string_view>
#include <vector>

namespace casa::cli {

// The text with everything a terminal could act on, or that could make it look like something else, written out as \xNN
// or \u{NNNN}: control characters (C0, DEL, C1), bytes that are no UTF-8, bidirectional and invisible formatting.
std::string printable(std::string_view text);
// The same for text that is JSON, where such characters stand in strings only; it stays the same JSON.
std::string printable_json(std::string_view json);

// A terminal that shows colour, and a person who wants it (NO_COLOR is not set).
bool wants_colour(std::FILE* out);

enum class Colour { kNone, kGreen, kRed, kYellow, kDim };
std::string paint(std::string_view text, Colour colour, bool wanted);
Colour colour_of_verdict(std::string_view verdict);

// Rows in columns. Widths only grow, so that rows which come later still line up with what stands there.
class Table {
 public:
  explicit Table(std::vector<std::size_t> min_widths) : widths_(std::move(min_widths)) {}
  void fit(const std::vector<std::string>& cells);
  // One line without its newline; `painted` (a column, or none: npos) comes in `colour`.
  std::string line(const std::vector<std::string>& cells, std::size_t painted, Colour colour, bool wanted);

 private:
  std::vector<std::size_t> widths_;
};

}  // namespace casa::cli

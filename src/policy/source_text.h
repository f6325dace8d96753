// The bytes of one file as text: checks the encoding once, before any parser sees them, and turns byte offsets and
// character indexes into lines and columns. Knows neither YAML nor JSON. The bytes must outlive it.
// At most kMaxFileBytes (offsets are 32 bits).
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace casa::policy {

// Both count from 1; the column counts bytes. A byte order mark does not count.
struct Position {
  std::uint32_t line = 1;
  std::uint32_t column = 1;
  auto operator<=>(const Position&) const = default;
};

class SourceText {
 public:
  explicit SourceText(std::string_view bytes);

  // The first place that is not clean UTF-8 text, as a sentence with what to do; the text is not to be parsed then.
  struct Problem {
    Position at;
    std::string message;
  };
  [[nodiscard]] const std::optional<Problem>& problem() const { return problem_; }

  [[nodiscard]] std::string_view text() const { return text_; }  // without the byte order mark
  [[nodiscard]] Position at_byte(std::size_t offset) const;
  [[nodiscard]] std::size_t byte_of_char(std::size_t index) const;  // code points to bytes
  [[nodiscard]] Position at_char(std::size_t index) const { return at_byte(byte_of_char(index)); }

 private:
  bool check_byte_order_mark(std::string_view bytes);
  void scan();
  std::size_t check_multi_byte(std::size_t offset);  // its length, 0 when it is a problem
  void fail(std::size_t offset, std::string message);

  static constexpr std::size_t kMarkEvery = 256;
  std::string_view text_;
  std::vector<std::uint32_t> line_starts_;
  std::vector<std::uint32_t> char_marks_;  // byte offset of every 256th code point; empty when all is ASCII
  std::optional<Problem> problem_;
};

}  // namespace casa::policy

// See source_text.h. One pass over the bytes; a second one for character marks, only when a character is not ASCII. What
// passes here is what libyaml's reader takes, so the parsers meet no encoding errors of their own, and NUL bytes and
// control characters get a place and advice.
#include "policy/source_text.h"

#include <fmt/format.h>

#include <algorithm>

namespace casa::policy {
namespace {

unsigned byte_at(std::string_view text, std::size_t i) { return static_cast<unsigned char>(text[i]); }

// What YAML 1.2 and JSON both allow outside ASCII: no C1 controls but NEL, no byte order mark, no non-characters.
bool is_printable(std::uint32_t c) {
  if (c == 0x85) return true;
  return (c >= 0xA0 && c <= 0xD7FF) || (c >= 0xE000 && c <= 0xFFFD && c != 0xFEFF) || (c >= 0x10000 && c <= 0x10FFFF);
}

}  // namespace

SourceText::SourceText(std::string_view bytes) : text_(bytes) {
  line_starts_.push_back(0);
  if (!check_byte_order_mark(bytes)) return;
  scan();
}

bool SourceText::check_byte_order_mark(std::string_view bytes) {
  if (bytes.starts_with("\xEF\xBB\xBF")) text_.remove_prefix(3);
  if (bytes.starts_with("\xFF\xFE") || bytes.starts_with("\xFE\xFF") ||
      bytes.starts_with(std::string_view("\0\0\xFE\xFF", 4))) {
    fail(0, "the file is in UTF-16 or UTF-32; save it as UTF-8");
    return false;
  }
  return true;
}

void SourceText::fail(std::size_t offset, std::string message) {
  if (!problem_) problem_ = Problem{at_byte(offset), std::move(message)};
}

void SourceText::scan() {
  line_starts_.reserve(1 + static_cast<std::size_t>(std::ranges::count(text_, '\n')));
  bool ascii = true;
  for (std::size_t i = 0; i < text_.size();) {
    unsigned c = byte_at(text_, i);
    if (c >= 0x80) {
      std::size_t length = check_multi_byte(i);
      if (length == 0) return;
      ascii = false;
      i += length;
      continue;
    }
    ++i;
    if (c == '\n' || (c == '\r' && (i == text_.size() || text_[i] != '\n'))) {
      line_starts_.push_back(static_cast<std::uint32_t>(i));
    } else if (c == 0) {
      return fail(i - 1,
                  "a NUL byte is no text; is the file written completely? Remove the byte, or write the file again");
    } else if ((c < 0x20 && c != '\t' && c != '\r') || c == 0x7f) {
      return fail(i - 1, fmt::format("the control character 0x{:02x} is not allowed; remove it", c));
    }
  }
  if (ascii) return;
  std::size_t index = 0;
  for (std::size_t i = 0; i < text_.size(); ++i) {
    if ((byte_at(text_, i) & 0xC0) == 0x80) continue;
    if (index++ % kMarkEvery == 0) char_marks_.push_back(static_cast<std::uint32_t>(i));
  }
}

std::size_t SourceText::check_multi_byte(std::size_t offset) {
  unsigned lead = byte_at(text_, offset);
  std::size_t length = lead >= 0xF0 ? 4 : lead >= 0xE0 ? 3 : 2;
  std::uint32_t value = lead & (0xFFu >> (length + 1));
  bool good = lead >= 0xC2 && lead <= 0xF4;
  for (std::size_t k = 1; good && k < length; ++k) {
    if (offset + k >= text_.size()) {
      fail(offset, "the file ends in the middle of a character; write the file again, completely and in UTF-8");
      return 0;
    }
    unsigned next = byte_at(text_, offset + k);
    good = (next & 0xC0) == 0x80;
    value = value << 6 | (next & 0x3F);
  }
  static constexpr std::uint32_t kLeast[] = {0, 0, 0x80, 0x800, 0x10000};
  if (!good || value < kLeast[length] || (value >= 0xD800 && value <= 0xDFFF) || value > 0x10FFFF) {
    fail(offset, fmt::format("the byte 0x{:02x} is not valid UTF-8; save the file as UTF-8", lead));
    return 0;
  }
  if (!is_printable(value)) {
    fail(offset, fmt::format("the character U+{:04X} is not allowed; remove it", value));
    return 0;
  }
  return length;
}

Position SourceText::at_byte(std::size_t offset) const {
  offset = std::min(offset, text_.size());
  auto after = std::ranges::upper_bound(line_starts_, static_cast<std::uint32_t>(offset));
  auto line = static_cast<std::uint32_t>(after - line_starts_.begin());
  return {line, static_cast<std::uint32_t>(offset) - line_starts_[line - 1] + 1};
}

std::size_t SourceText::byte_of_char(std::size_t index) const {
  if (char_marks_.empty()) return std::min(index, text_.size());
  std::size_t mark = std::min(index / kMarkEvery, char_marks_.size() - 1);
  std::size_t offset = char_marks_[mark];
  for (std::size_t left = index - mark * kMarkEvery; left > 0 && offset < text_.size(); --left) {
    do ++offset;
    while (offset < text_.size() && (byte_at(text_, offset) & 0xC0) == 0x80);
  }
  return offset;
}

}  // namespace casa::policy

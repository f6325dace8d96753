// See terminal.h.
#include "cli/terminal.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>

namespace casa::cli {
namespace {

// One cell may not push the others off the screen.
constexpr std::size_t kMaxWidth = 60;

struct Decoded {
  std::uint32_t code = 0;
  std::size_t length = 0;  // 0: not UTF-8
};

Decoded decode(std::string_view text) {
  auto byte = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
  unsigned char lead = byte(0);
  if (lead < 0x80) return {lead, 1};
  std::size_t n = lead >= 0xc2 && lead < 0xe0   ? 2
                  : lead >= 0xe0 && lead < 0xf0 ? 3
                  : lead >= 0xf0 && lead < 0xf5 ? 4
                                                : 0;
  if (n == 0 || n > text.size()) return {};
  std::uint32_t code = lead & (0xffu >> (n + 1));
  for (std::size_t i = 1; i < n; ++i) {
    if ((byte(i) & 0xc0) != 0x80) return {};
    code = code << 6 | (byte(i) & 0x3fu);
  }
  constexpr std::uint32_t kSmallest[] = {0, 0, 0x80, 0x800, 0x10000};
  if (code < kSmallest[n] || code > 0x10ffff || (code >= 0xd800 && code < 0xe000)) return {};
  return {code, n};
}

struct Range {
  std::uint32_t first, last;
};
// Controls; soft hyphen; Arabic letter mark; joiners and marks; separators and bidi; word joiners and isolates; variation
// selectors; BOM; interlinear annotation; tags.
constexpr Range kHarmful[] = {{0x00, 0x1f},     {0x7f, 0x9f},     {0xad, 0xad},     {0x61c, 0x61c},
                              {0x180e, 0x180e}, {0x200b, 0x200f}, {0x2028, 0x202e}, {0x2060, 0x206f},
                              {0xfe00, 0xfe0f}, {0xfeff, 0xfeff}, {0xfff9, 0xfffb}, {0xe0000, 0xe0fff}};

bool harmful(std::uint32_t code) {
  return std::ranges::any_of(kHarmful, [&](const Range& r) { return code >= r.first && code <= r.last; });
}

std::size_t width_of(std::string_view text) {
  return static_cast<std::size_t>(std::ranges::count_if(text, [](char c) { return (c & 0xc0) != 0x80; }));
}

const char* sequence(Colour colour) {
  switch (colour) {
    case Colour::kGreen: return "\x1b[32m";
    case Colour::kRed: return "\x1b[31m";
    case Colour::kYellow: return "\x1b[33m";
    case Colour::kDim: return "\x1b[2m";
    case Colour::kNone: break;
  }
  return "";
}

}  // namespace

std::string printable(std::string_view text) {
  std::string out;
  while (!text.empty()) {
    Decoded d = decode(text);
    std::size_t n = std::max<std::size_t>(d.length, 1);
    if (d.length == 0) out += fmt::format("\\x{:02x}", static_cast<unsigned char>(text[0]));
    else if (!harmful(d.code)) out.append(text, 0, n);
    else if (d.code < 0x80) out += fmt::format("\\x{:02x}", d.code);
    else out += fmt::format("\\u{{{:04x}}}", d.code);
    text.remove_prefix(n);
  }
  return out;
}

std::string printable_json(std::string_view json) {
  std::string out;
  while (!json.empty()) {
    Decoded d = decode(json);
    std::size_t n = std::max<std::size_t>(d.length, 1);
    if (d.length == 0) out += "\\ufffd";
    else if (!harmful(d.code)) out.append(json, 0, n);
    else if (d.code == '\n' || d.code == '\r' || d.code == '\t') out += ' ';
    else if (d.code < 0x10000) out += fmt::format("\\u{:04x}", d.code);
    else
      out +=
          fmt::format("\\u{:04x}\\u{:04x}", 0xd800 + ((d.code - 0x10000) >> 10), 0xdc00 + ((d.code - 0x10000) & 0x3ff));
    json.remove_prefix(n);
  }
  return out;
}

bool wants_colour(std::FILE* out) {
  const char* no_colour = std::getenv("NO_COLOR");
  const char* terminal = std::getenv("TERM");
  if (no_colour != nullptr && *no_colour != '\0') return false;
  if (terminal == nullptr || std::string_view(terminal) == "dumb") return false;
  int fd = ::fileno(out);
  return fd >= 0 && ::isatty(fd) == 1;
}

std::string paint(std::string_view text, Colour colour, bool wanted) {
  if (!wanted || colour == Colour::kNone) return std::string(text);
  return fmt::format("{}{}\x1b[0m", sequence(colour), text);
}

Colour colour_of_verdict(std::string_view verdict) {
  if (verdict == "ALLOWED") return Colour::kGreen;
  if (verdict == "DENIED") return Colour::kRed;
  return verdict == "AUDIT" ? Colour::kYellow : Colour::kNone;
}

void Table::fit(const std::vector<std::string>& cells) {
  widths_.resize(std::max(widths_.size(), cells.size()));
  for (std::size_t i = 0; i < cells.size(); ++i)
    widths_[i] = std::max(widths_[i], std::min(width_of(cells[i]), kMaxWidth));
}

std::string Table::line(const std::vector<std::string>& cells, std::size_t painted, Colour colour, bool wanted) {
  fit(cells);
  std::string out;
  std::size_t owed = 0;  // spaces before the next cell; none after the last
  for (std::size_t i = 0; i < cells.size(); ++i) {
    if (cells[i].empty()) {
      owed += widths_[i] + 2;
      continue;
    }
    out.append(owed, ' ');
    out += i == painted ? paint(cells[i], colour, wanted) : cells[i];
    std::size_t width = width_of(cells[i]);
    owed = (width < widths_[i] ? widths_[i] - width : 0) + 2;
  }
  return out;
}

}  // namespace casa::cli

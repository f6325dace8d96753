// See cursor.h. The text is lower-case hexadecimal: 16 digits of check value (FNV-1a), then the position.
#include "api/cursor.h"

#include <fmt/format.h>

namespace casa::api {
namespace {

constexpr std::size_t kCheckDigits = 16;

int digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

}  // namespace

std::uint64_t Cursors::check_value(std::string_view list, std::string_view position) const {
  std::uint64_t hash = 0xcbf29ce484222325u ^ seed_;
  auto add = [&](std::string_view text) {
    for (unsigned char c : text) hash = (hash ^ c) * 0x100000001b3u;
  };
  add(list);
  add(std::string_view("\0", 1));
  add(position);
  return hash;
}

std::string Cursors::seal(std::string_view list, std::string_view position) const {
  std::string text = fmt::format("{:016x}", check_value(list, position));
  for (unsigned char c : position) fmt::format_to(std::back_inserter(text), "{:02x}", c);
  return text;
}

std::optional<std::string> Cursors::open(std::string_view list, std::string_view cursor) const {
  if (cursor.size() < kCheckDigits || cursor.size() % 2 != 0) return std::nullopt;
  std::uint64_t check = 0;
  for (char c : cursor.substr(0, kCheckDigits)) {
    if (digit(c) < 0) return std::nullopt;
    check = check << 4 | static_cast<std::uint64_t>(digit(c));
  }
  std::string position;
  for (std::size_t i = kCheckDigits; i < cursor.size(); i += 2) {
    int high = digit(cursor[i]), low = digit(cursor[i + 1]);
    if (high < 0 || low < 0) return std::nullopt;
    position += static_cast<char>(high * 16 + low);
  }
  if (check_value(list, position) != check) return std::nullopt;
  return position;
}

}  // namespace casa::api

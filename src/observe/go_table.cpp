#include "observe/go_table.h"

#include <algorithm>
#include <cstring>

namespace casa::observe {
namespace {

constexpr std::uint32_t kGo118 = 0xfffffff0, kGo120 = 0xfffffff1;
constexpr std::uint64_t kMaxFunctions = 4u << 20;

template <typename T>
bool get(std::string_view bytes, std::uint64_t at, T& value) {
  if (at > bytes.size() || bytes.size() - at < sizeof value) return false;
  std::memcpy(&value, bytes.data() + at, sizeof value);
  return true;
}

bool is_known(std::string_view table) {
  std::uint32_t magic = 0;
  return get(table, 0, magic) && (magic == kGo118 || magic == kGo120) && table.size() >= 8 && table[7] == 8;
}

}  // namespace

// Header: magic, two zeros, least instruction size, pointer size; then pointers: number of functions, of files, start of the text, and
// where the names, ..., the list of functions begin. That list has pairs: where the function begins, where its record is; the record's
// second number is where its name is. Behind the last one stands where the text ends.
std::map<std::string, GoFunction> find_in_go_table(std::string_view table, std::span<const std::string_view> names) {
  std::map<std::string, GoFunction> found;
  std::uint64_t count = 0, names_at = 0, list_at = 0;
  if (!is_known(table)) return found;
  if (!get(table, 8, count) || !get(table, 8 + 3 * 8, names_at) || !get(table, 8 + 7 * 8, list_at)) return found;
  if (count > kMaxFunctions || names_at >= table.size() || list_at >= table.size()) return found;
  std::string_view texts = table.substr(names_at), list = table.substr(list_at);
  for (std::uint64_t i = 0; i < count && found.size() < names.size(); ++i) {
    std::uint32_t begins = 0, record = 0, name_at = 0, ends = 0;
    if (!get(list, i * 8, begins) || !get(list, i * 8 + 4, record) || !get(list, std::uint64_t{record} + 4, name_at) ||
        !get(list, (i + 1) * 8, ends))
      break;
    if (name_at >= texts.size()) continue;
    std::string_view text = texts.substr(name_at);
    for (std::string_view name : names)
      if (text.starts_with(name) && text.size() > name.size() && text[name.size()] == '\0' && ends > begins)
        found.emplace(name, GoFunction{begins, ends - begins});
  }
  return found;
}

std::uint64_t go_table_text(std::string_view table) {
  std::uint64_t text = 0;
  return is_known(table) && get(table, 8 + 2 * 8, text) ? text : 0;
}

}  // namespace casa::observe

#include "base/text.h"

#include <fmt/chrono.h>
#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <charconv>
#include <ctime>
#include <vector>

namespace casa {
namespace {

// The clock counts nanoseconds and ends 292 years before and after 1970: 100,000 days back stay inside.
constexpr std::uint64_t kMaxBackSeconds = 100'000ull * 86400;

// Doubled Damerau-free Levenshtein distance, so that a difference in case alone can cost half.
unsigned distance_doubled(std::string_view a, std::string_view b) {
  std::vector<unsigned> row(b.size() + 1);
  for (std::size_t j = 0; j <= b.size(); ++j) row[j] = static_cast<unsigned>(2 * j);
  for (std::size_t i = 1; i <= a.size(); ++i) {
    unsigned diagonal = row[0];
    row[0] = static_cast<unsigned>(2 * i);
    for (std::size_t j = 1; j <= b.size(); ++j) {
      unsigned above = row[j];
      char x = a[i - 1], y = b[j - 1];
      unsigned change = 2;
      if (x == y) change = 0;
      else if (std::tolower(static_cast<unsigned char>(x)) == std::tolower(static_cast<unsigned char>(y))) change = 1;
      row[j] = std::min({above + 2, row[j - 1] + 2, diagonal + change});
      diagonal = above;
    }
  }
  return row[b.size()];
}

}  // namespace

std::string_view nearest_name(std::string_view word, std::span<const std::string_view> candidates) {
  if (word.size() > 128) return {};
  std::string_view best;
  unsigned best_distance = 2 * std::max<unsigned>(1, static_cast<unsigned>(word.size()) / 3) + 1;
  for (auto candidate : candidates) {
    unsigned d = distance_doubled(word, candidate);
    if (d < best_distance) {
      best_distance = d;
      best = candidate;
    }
  }
  return best;
}

std::string format_time(std::chrono::system_clock::time_point time) {
  using namespace std::chrono;
  auto ms = floor<milliseconds>(time.time_since_epoch());
  auto secs = floor<seconds>(ms);
  std::time_t t = secs.count();
  std::tm tm{};
  gmtime_r(&t, &tm);
  return fmt::format("{:%Y-%m-%dT%H:%M:%S}.{:03}Z", tm, (ms - secs).count());
}

std::optional<std::uint64_t> parse_number(std::string_view text, std::uint64_t max) {
  std::uint64_t value = 0;
  auto [end, ec] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (ec != std::errc{} || end != text.data() + text.size() || value > max) return std::nullopt;
  return value;
}

std::optional<std::chrono::system_clock::time_point> parse_time(std::string_view text,
                                                                std::chrono::system_clock::time_point now) {
  using namespace std::chrono;
  if (text.empty() || text.size() > 40) return std::nullopt;
  if (text.find('T') == std::string_view::npos && text.find('t') == std::string_view::npos) {
    std::uint64_t unit = 0;
    switch (text.back()) {
      case 's': unit = 1; break;
      case 'm': unit = 60; break;
      case 'h': unit = 3600; break;
      case 'd': unit = 86400; break;
      default: return std::nullopt;
    }
    auto n = parse_number(text.substr(0, text.size() - 1), kMaxBackSeconds / unit);
    if (!n) return std::nullopt;
    return now - seconds(*n * unit);
  }
  std::tm tm{};
  std::string copy(text);
  const char* rest = strptime(copy.c_str(), "%Y-%m-%dT%H:%M:%S", &tm);
  if (rest == nullptr || tm.tm_year < 70 || tm.tm_year > 300)
    return std::nullopt;  // 1970 to 2200: the clock's nanoseconds end in 2262
  auto result = system_clock::from_time_t(timegm(&tm));
  if (*rest == '.') {
    ++rest;
    std::int64_t scale = 1'000'000'000, fraction = 0;
    const char* digits = rest;
    while (std::isdigit(static_cast<unsigned char>(*rest)) && rest - digits < 9) {
      scale /= 10;
      fraction += (*rest++ - '0') * scale;
    }
    if (rest == digits) return std::nullopt;
    result += duration_cast<system_clock::duration>(nanoseconds(fraction));
  }
  std::string_view zone(rest);
  if (zone == "Z" || zone == "z") return result;
  if (zone.size() != 6 || (zone[0] != '+' && zone[0] != '-') || zone[3] != ':') return std::nullopt;
  auto hh = parse_number(zone.substr(1, 2), 23), mm = parse_number(zone.substr(4, 2), 59);
  if (!hh || !mm) return std::nullopt;
  auto offset = hours(*hh) + minutes(*mm);
  return zone[0] == '+' ? result - offset : result + offset;
}

}  // namespace casa

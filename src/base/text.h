// Small text functions that more than one room needs.
#pragma once

#include <chrono>
#include <cstdint>
#include <initializer_list>
#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace casa {

// The candidate nearest to `word` by edit distance, or empty when none is near enough to be meant (distance at most a
// third of the word's length, 1 at least). Case differences count half.
std::string_view nearest_name(std::string_view word, std::span<const std::string_view> candidates);

// RFC 3339 in UTC with milliseconds: 2026-11-24T01:51:33.123Z.
std::string format_time(std::chrono::system_clock::time_point time);
// Accepts RFC 3339 (Z or an offset) and durations back from now ("90s", "15m", "2h", "1d").
std::optional<std::chrono::system_clock::time_point> parse_time(std::string_view text,
                                                                std::chrono::system_clock::time_point now);

// A whole unsigned decimal number of at most `max`; nullopt for signs, spaces, anything else.
std::optional<std::uint64_t> parse_number(std::string_view text, std::uint64_t max);

}  // namespace casa

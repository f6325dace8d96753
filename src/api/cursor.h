// Cursors: where the next page of a list starts, as text that means nothing to a client. Each carries a check value
// that is seeded per daemon run and list, so that a changed, foreign or outlived cursor is refused instead of
// answered wrongly. Not a secret and not a protection against a client that wants to make one: it could read
// everything anyway.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace casa::api {

class Cursors {
 public:
  explicit Cursors(std::uint64_t seed) : seed_(seed) {}

  // `list`: the route; `position`: any bytes.
  [[nodiscard]] std::string seal(std::string_view list, std::string_view position) const;
  [[nodiscard]] std::optional<std::string> open(std::string_view list, std::string_view cursor) const;

 private:
  [[nodiscard]] std::uint64_t check_value(std::string_view list, std::string_view position) const;
  std::uint64_t seed_;
};

}  // namespace casa::api

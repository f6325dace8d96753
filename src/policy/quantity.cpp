// See quantity.h. A double is exact enough: two ways to write one amount ("100m" and "0.1") give the same one, as each is
// rounded once.
#include "policy/quantity.h"

#include <array>
#include <charconv>
#include <cmath>

namespace casa::policy {
namespace {

struct Suffix {
  std::string_view text;
  double times, divided_by;
};
constexpr std::array<Suffix, 16> kSuffixes{{{"", 1, 1},
                                            {"n", 1, 1e9},
                                            {"u", 1, 1e6},
                                            {"m", 1, 1e3},
                                            {"k", 1e3, 1},
                                            {"M", 1e6, 1},
                                            {"G", 1e9, 1},
                                            {"T", 1e12, 1},
                                            {"P", 1e15, 1},
                                            {"E", 1e18, 1},
                                            {"Ki", 0x1p10, 1},
                                            {"Mi", 0x1p20, 1},
                                            {"Gi", 0x1p30, 1},
                                            {"Ti", 0x1p40, 1},
                                            {"Pi", 0x1p50, 1},
                                            {"Ei", 0x1p60, 1}}};

bool is_limited(double request, double limit) { return limit > 0 && (request == 0 || request == limit); }

}  // namespace

std::optional<double> parse_quantity(std::string_view text) {
  if (text.starts_with('+')) text.remove_prefix(1);
  auto end = std::min(text.find_first_not_of("0123456789."), text.size());
  std::string_view suffix = text.substr(end);
  // "1e3" and "1E-3" have an exponent; "1E" is an exa.
  if (suffix.size() > 1 && (suffix[0] == 'e' || suffix[0] == 'E') && suffix != "Ei") {
    end = text.size();
    suffix = {};
  }
  std::string_view digits = text.substr(0, end);
  if (digits.empty()) return std::nullopt;
  double number = 0;
  auto [rest, error] = std::from_chars(digits.data(), digits.data() + digits.size(), number);
  if (error != std::errc{} || rest != digits.data() + digits.size() || !std::isfinite(number)) return std::nullopt;
  for (const auto& row : kSuffixes)
    if (row.text == suffix) return number * row.times / row.divided_by;
  return std::nullopt;
}

void QosSum::add(const ContainerResources& container) {
  seen_ = true;
  any_ = any_ || container.any();
  all_limited_ = all_limited_ && is_limited(container.cpu_request, container.cpu_limit) &&
                 is_limited(container.memory_request, container.memory_limit);
}

QosClass QosSum::result() const {
  if (!seen_) return QosClass::kUnknown;
  if (!any_) return QosClass::kBestEffort;
  return all_limited_ ? QosClass::kGuaranteed : QosClass::kBurstable;
}

}  // namespace casa::policy

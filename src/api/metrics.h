// /metrics: the Prometheus text exposition format, version 0.0.4. Pure. Cardinality is bounded by what the stores keep, and by kMaxInstances.
#pragma once

#include <cstddef>
#include <initializer_list>
#include <string>
#include <string_view>
#include <utility>

#include "api/state.h"

namespace casa::api {

inline constexpr const char* kMetricsText = "text/plain; version=0.0.4; charset=utf-8";
inline constexpr std::size_t kMaxInstances = 1024;  // the rest is counted, not shown

class MetricsWriter {
 public:
  using Labels = std::initializer_list<std::pair<std::string_view, std::string_view>>;
  // All samples of a family follow it.
  MetricsWriter& family(std::string_view name, std::string_view type, std::string_view help);
  MetricsWriter& sample(Labels labels, std::uint64_t value);
  MetricsWriter& sample(std::uint64_t value) { return sample({}, value); }
  std::string take() { return std::move(out_); }

 private:
  std::string out_, name_;
};

std::string write_metrics(const State& state, Time now);

}  // namespace casa::api

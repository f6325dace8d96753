// From a request line to a Reply: routes, methods, parameters, pages. Knows nothing of sockets. Reads State only
// while it answers, on the caller's thread; keeps nothing between requests but the cursors' seed.
#pragma once

#include <span>
#include <string_view>

#include "api/cursor.h"
#include "api/reply.h"
#include "api/state.h"

namespace casa::api {

struct RouteInfo {
  std::string_view path;
  std::span<const std::string_view> parameters;
};
// Every route that answers; openapi.cpp describes exactly these.
std::span<const RouteInfo> route_table();

class Router {
 public:
  explicit Router(const State& state);

  [[nodiscard]] Reply handle(std::string_view method, std::string_view target, Time now) const;

 private:
  const State& state_;
  Cursors cursors_;
};

}  // namespace casa::api

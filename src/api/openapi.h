// The description of this API (OpenAPI 3.1), as /openapi.json serves it.
#pragma once

#include <string_view>

namespace casa::api {

std::string_view openapi_json();

}  // namespace casa::api

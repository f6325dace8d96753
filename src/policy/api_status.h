// What the API server has as the status of a CASAPolicy, and which version of its spec it has. Not a part of the object: nothing is
// enforced because of it.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace casa::policy {

struct ApiStatus {
  std::string ns, name, uid;
  std::int64_t generation = 0;  // of the spec: the server counts it up with each change; 0: the server does not say
  std::string phase, message;   // empty: nobody has written a status yet
};

// Nothing when the text is no object with a name.
std::optional<ApiStatus> read_api_status(std::string_view bytes);

}  // namespace casa::policy

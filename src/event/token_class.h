// What a request is to a token (issuance, exchange, introspection, use), by its method and path; and a path as it may be
// told: without anything that could be an id or a secret. Pure. A request's path is the other side's text: anything.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"

namespace casa::event {

enum class EventClass : std::uint8_t { kNone, kIssuance, kExchange, kIntrospection, kUse };
inline constexpr std::size_t kEventClasses = 5;
const char* to_string(EventClass event);  // "none", "issuance", "exchange", "introspection", "use"

// A path without its query, each segment that looks like an id or could be a secret written as {id}: low in number.
std::string path_class(std::string_view path);

// Requests to token endpoints: (method, path), in which {anything} stands for one segment.
class EventClasses {
 public:
  static constexpr std::size_t kMaxPatterns = 64;

  EventClasses();  // those of CASA: see docs/tokens.md

  // Instead of the patterns that there were. kInvalidArgument with a sentence that ends without a full stop.
  void clear() { patterns_.clear(); }
  Status add(EventClass event, std::string_view method, std::string_view path);

  // By the first pattern that fits; else kUse with a token, and kNone without.
  [[nodiscard]] EventClass classify(std::string_view method, std::string_view path, bool with_token) const;
  // The last segments of all patterns, each once: a POST to a path with another is told only when it carries a token.
  [[nodiscard]] std::vector<std::string> last_segments() const;

 private:
  struct Pattern {
    EventClass event = EventClass::kNone;
    std::string method;
    std::vector<std::string> segments;  // empty: any one
  };
  std::vector<Pattern> patterns_;
};

}  // namespace casa::event

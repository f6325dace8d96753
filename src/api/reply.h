// What a request is answered with, before it becomes HTTP: a status, a content type, a body. Errors are RFC 9457
// problem details whose detail is a sentence for the person who sent the request. Pure values.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "api/feed.h"
#include "base/error.h"

namespace casa::api {

inline constexpr const char* kJson = "application/json";
inline constexpr const char* kProblemJson = "application/problem+json";
inline constexpr const char* kEventStream = "text/event-stream";
inline constexpr const char* kPlainText = "text/plain; charset=utf-8";

struct Reply {
  unsigned status = 200;
  std::string content_type = kJson;
  std::string body;
  bool close = false;                // the connection cannot be used after this answer
  std::optional<EventQuery> events;  // instead of a body: these, as they happen
};

const char* status_phrase(unsigned status);

// {"type":"about:blank","title":<the status's phrase>,"status":...,"detail":...}
Reply problem(unsigned status, std::string_view detail);
// The same with the members "phase" and "problems": why the daemon is not ready.
Reply not_ready(std::string_view phase, const std::vector<std::string>& problems);
Reply problem(const Error& error);

}  // namespace casa::api

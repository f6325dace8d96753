// See reply.h.
#include "api/reply.h"

#include "base/json.h"

namespace casa::api {
namespace {

JsonWriter begin_problem(unsigned status, std::string_view detail) {
  JsonWriter out;
  out.begin_object()
      .field("type", "about:blank")
      .field("title", status_phrase(status))
      .field("status", status)
      .field("detail", detail);
  return out;
}

Reply finish(unsigned status, JsonWriter& out) {
  out.end_object();
  Reply reply;
  reply.status = status;
  reply.content_type = kProblemJson;
  reply.body = out.take();
  return reply;
}

unsigned status_of(ErrorCode code) {
  switch (code) {
    case ErrorCode::kInvalidArgument: return 400;
    case ErrorCode::kNotFound: return 404;
    case ErrorCode::kBusy:
    case ErrorCode::kLimit: return 503;
    case ErrorCode::kUnsupported:
    case ErrorCode::kSystem:
    case ErrorCode::kInternal: break;
  }
  return 500;
}

}  // namespace

const char* status_phrase(unsigned status) {
  switch (status) {
    case 200: return "OK";
    case 400: return "Bad Request";
    case 404: return "Not Found";
    case 405: return "Method Not Allowed";
    case 413: return "Content Too Large";
    case 431: return "Request Header Fields Too Large";
    case 503: return "Service Unavailable";
    default: return "Internal Server Error";
  }
}

Reply problem(unsigned status, std::string_view detail) {
  JsonWriter out = begin_problem(status, detail);
  return finish(status, out);
}

Reply problem(const Error& error) { return problem(status_of(error.code), error.context); }

Reply not_ready(std::string_view phase, const std::vector<std::string>& problems) {
  JsonWriter out = begin_problem(503, "casad is not ready: the first generation is not in the kernel yet.");
  out.field("phase", phase).key("problems").begin_array();
  for (const auto& sentence : problems) out.value(sentence);
  out.end_array();
  return finish(503, out);
}

}  // namespace casa::api

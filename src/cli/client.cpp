// See answer.h.
#include "cli/client.h"

#include <fmt/format.h>
#include <simdjson.h>

#include "cli/answer.h"
#include "cli/terminal.h"

namespace casa::cli {

std::string problem_sentence(const Response& response) {
  simdjson::dom::parser parser;
  simdjson::dom::element document;
  std::string_view detail;
  if (parser.parse(response.body).get(document) == simdjson::SUCCESS &&
      document["detail"].get(detail) == simdjson::SUCCESS)
    return printable(detail);
  return fmt::format("the daemon answered with status {}", response.status);
}

int report_problem(std::FILE* err, const Response& response) {
  fmt::print(err, "casad: {}\n", problem_sentence(response));
  return response.status == 400 ? kExitUsage : kExitNo;
}

int report_error(std::FILE* err, const Error& error) {
  fmt::print(err, "casad: {}\n", printable(error.context));
  return error.code == ErrorCode::kInvalidArgument ? kExitUsage : kExitNo;
}

Error not_understood(const char* what) {
  return {
      ErrorCode::kInternal,
      fmt::format("the daemon's answer to {} cannot be read; are the daemon and this program of one version?", what)};
}

}  // namespace casa::cli

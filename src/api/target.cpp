// See target.h.
#include "api/target.h"

#include <algorithm>

namespace casa::api {
namespace {

// No route takes so many; a bound, so that work per request is bounded too.
constexpr std::size_t kMaxParameters = 32;

int hex_digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

Result<std::string> decode(std::string_view text, std::string_view what) {
  std::string out;
  out.reserve(text.size());
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '%') {
      out += text[i];
      continue;
    }
    int high = i + 2 < text.size() ? hex_digit(text[i + 1]) : -1;
    int low = i + 2 < text.size() ? hex_digit(text[i + 2]) : -1;
    if (high < 0 || low < 0)
      return fail(ErrorCode::kInvalidArgument,
                  "The {} has a '%' that two hexadecimal digits do not follow; write %25 for a percent sign.", what);
    int byte = high * 16 + low;
    if (byte < 0x20 || byte == 0x7f)
      return fail(ErrorCode::kInvalidArgument, "The {} has the encoded control character %{:02X}; leave it out.", what,
                  byte);
    out += static_cast<char>(byte);
    i += 2;
  }
  return out;
}

// An absolute form's path and query: "http://host/v1/flows" is "/v1/flows".
std::string_view strip_authority(std::string_view raw) {
  auto scheme = raw.find("://");
  if (raw.starts_with('/') || scheme == std::string_view::npos) return raw;
  auto path = raw.find_first_of("/?", scheme + 3);
  return path == std::string_view::npos ? std::string_view("/") : raw.substr(path);
}

}  // namespace

Result<Target> parse_target(std::string_view raw) {
  auto odd = std::find_if(raw.begin(), raw.end(), [](char c) { return c <= 0x20 || c == 0x7f || c == '#'; });
  if (odd != raw.end())
    return fail(ErrorCode::kInvalidArgument,
                "The request target has a byte that must be percent-encoded (a space, a control character, '#' or one "
                "past ASCII).");
  std::string_view rest = strip_authority(raw);
  if (!rest.starts_with('/'))
    return fail(ErrorCode::kInvalidArgument, "The request target must be a path, such as /v1/flows.");

  auto question = rest.find('?');
  std::string_view path = rest.substr(0, question);
  if (path.find("%2f") != std::string_view::npos || path.find("%2F") != std::string_view::npos)
    return fail(ErrorCode::kInvalidArgument, "The path has an encoded slash; write the slash itself.");
  Target target;
  TRY_ASSIGN(target.path, decode(path, "path"));
  if (question == std::string_view::npos) return target;

  std::string_view query = rest.substr(question + 1);
  while (!query.empty()) {
    auto end = std::min(query.find('&'), query.size());
    std::string_view pair = query.substr(0, end);
    query.remove_prefix(std::min(end + 1, query.size()));
    if (pair.empty()) continue;
    if (target.query.size() == kMaxParameters)
      return fail(ErrorCode::kInvalidArgument, "There are more than {} query parameters.", kMaxParameters);
    auto equals = pair.find('=');
    TRY_ASSIGN(std::string name, decode(pair.substr(0, equals), "query"));
    TRY_ASSIGN(std::string value,
               decode(equals == std::string_view::npos ? std::string_view{} : pair.substr(equals + 1), "query"));
    target.query.emplace_back(std::move(name), std::move(value));
  }
  return target;
}

}  // namespace casa::api

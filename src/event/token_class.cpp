// See token_class.h.
#include "event/token_class.h"

#include <algorithm>
#include <cctype>

#include "casa/abi/limits.h"

namespace casa::event {
namespace {

constexpr std::size_t kMaxSegments = 16;
constexpr std::size_t kShortestHexId = 8;
// Shorter ones with a digit or two are words: oauth2, v1beta1.
constexpr std::size_t kShortestMixedId = 8;
constexpr std::ptrdiff_t kMixedIdDigits = 2;

bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool is_hex(char c) { return is_digit(c) || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F'); }
bool is_letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }
bool is_plain(char c) { return is_digit(c) || is_letter(c) || c == '-' || c == '_' || c == '.' || c == '~'; }

// Whether a segment may be told as it is.
bool is_word(std::string_view segment) {
  if (segment.size() > CASA_PATH_SEGMENT_MAX || !std::ranges::all_of(segment, is_plain)) return false;
  auto digits = std::ranges::count_if(segment, is_digit);
  if (digits == static_cast<std::ptrdiff_t>(segment.size()) && !segment.empty()) return false;
  bool hex = std::ranges::all_of(segment, [](char c) { return is_hex(c) || c == '-'; });
  if (hex && segment.size() >= kShortestHexId) return false;
  return segment.size() < kShortestMixedId || digits < kMixedIdDigits;
}

// "/a/b?c" and "http://host/a/b" are /a/b; what is no path stays what it is.
std::string_view only_path(std::string_view path) {
  if (auto scheme = path.find("://"); !path.starts_with('/') && scheme != std::string_view::npos) {
    auto slash = path.find('/', scheme + 3);
    path = slash == std::string_view::npos ? std::string_view("/") : path.substr(slash);
  }
  return path.substr(0, path.find_first_of("?#"));
}

// Nothing when it is no path, or has more segments than any pattern.
std::vector<std::string_view> segments_of(std::string_view path) {
  std::vector<std::string_view> segments;
  if (!path.starts_with('/')) return segments;
  while (!path.empty()) {
    if (segments.size() == kMaxSegments) return {};
    path.remove_prefix(1);
    auto end = std::min(path.find('/'), path.size());
    segments.push_back(path.substr(0, end));
    path.remove_prefix(end);
  }
  return segments;
}

bool is_placeholder(std::string_view segment) {
  return segment.size() > 2 && segment.starts_with('{') && segment.ends_with('}');
}

}  // namespace

const char* to_string(EventClass event) {
  switch (event) {
    case EventClass::kIssuance: return "issuance";
    case EventClass::kExchange: return "exchange";
    case EventClass::kIntrospection: return "introspection";
    case EventClass::kUse: return "use";
    case EventClass::kNone: break;
  }
  return "none";
}

std::string path_class(std::string_view path) {
  path = only_path(path);
  if (path.empty() || path == "*") return std::string(path);
  if (!path.starts_with('/')) return "{id}";  // CONNECT's authority, or no HTTP
  std::string out;
  while (!path.empty()) {
    path.remove_prefix(1);
    auto end = std::min(path.find('/'), path.size());
    std::string_view segment = path.substr(0, end);
    out += '/';
    out += is_word(segment) ? segment : std::string_view("{id}");
    path.remove_prefix(end);
  }
  return out;
}

EventClasses::EventClasses() {
  struct Default {
    EventClass event;
    std::string_view path;
  };
  static constexpr Default kDefaults[] = {
      {EventClass::kIssuance, "/{app}/oauth2/token"},
      {EventClass::kIssuance, "/oauth/token"},
      {EventClass::kIssuance, "/realms/{realm}/protocol/openid-connect/token"},
      {EventClass::kExchange, "/{app}/oauth2/token_exchange"},
      {EventClass::kExchange, "/oauth/token/exchange"},
      {EventClass::kIntrospection, "/oauth2/introspect"},
      {EventClass::kIntrospection, "/oauth/introspect"},
  };
  for (const auto& pattern : kDefaults) static_cast<void>(add(pattern.event, "POST", pattern.path));
}

Status EventClasses::add(EventClass event, std::string_view method, std::string_view path) {
  if (patterns_.size() == kMaxPatterns) return fail(ErrorCode::kLimit, "there are more than {} patterns", kMaxPatterns);
  if (method.empty() || method.size() >= CASA_METHOD_LEN || !std::ranges::all_of(method, is_letter))
    return fail(ErrorCode::kInvalidArgument, "not a method; write one such as POST");
  Pattern pattern{event, std::string(method), {}};
  std::ranges::transform(pattern.method, pattern.method.begin(), [](unsigned char c) { return std::toupper(c); });
  auto segments = segments_of(path);
  if (segments.empty() || path.size() >= CASA_PATH_LEN)
    return fail(ErrorCode::kInvalidArgument,
                "not a path; write at most {} characters and {} segments, as in /realms/{{realm}}/token",
                CASA_PATH_LEN - 1, kMaxSegments);
  for (auto segment : segments) {
    bool any = is_placeholder(segment);
    if (!any && (segment.empty() || !std::ranges::all_of(segment, is_plain)))
      return fail(ErrorCode::kInvalidArgument,
                  "not a path; a segment is letters, digits and - . _ ~, or {{x}} for any one segment");
    // The kernel tells longer ones as '*': they could never fit.
    if (!any && segment.size() > CASA_PATH_SEGMENT_MAX)
      return fail(ErrorCode::kInvalidArgument, "a segment of a path has at most {} characters", CASA_PATH_SEGMENT_MAX);
    pattern.segments.emplace_back(any ? std::string_view() : segment);
  }
  if (pattern.segments.back().empty())
    return fail(ErrorCode::kInvalidArgument,
                "the last segment cannot be {{x}}: the kernel knows token endpoints by it");
  patterns_.push_back(std::move(pattern));
  return {};
}

EventClass EventClasses::classify(std::string_view method, std::string_view path, bool with_token) const {
  auto segments = segments_of(only_path(path));
  if (segments.size() > 1 && segments.back().empty()) segments.pop_back();  // servers take a slash at the end
  auto fits = [&](const Pattern& pattern) {
    return !segments.empty() && pattern.method == method &&
           std::ranges::equal(pattern.segments, segments, [](const std::string& wanted, std::string_view segment) {
             return wanted.empty() ? !segment.empty() : wanted == segment;
           });
  };
  auto pattern = std::ranges::find_if(patterns_, fits);
  if (pattern != patterns_.end()) return pattern->event;
  return with_token ? EventClass::kUse : EventClass::kNone;
}

std::vector<std::string> EventClasses::last_segments() const {
  std::vector<std::string> out;
  for (const auto& pattern : patterns_)
    if (std::ranges::find(out, pattern.segments.back()) == out.end()) out.push_back(pattern.segments.back());
  return out;
}

}  // namespace casa::event

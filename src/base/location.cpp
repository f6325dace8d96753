#include "base/location.h"

#include <algorithm>

#include "base/text.h"

namespace casa {
namespace {

constexpr std::size_t kMaxLocation = 2048;
constexpr std::size_t kMaxHost = 253;

bool is_host_name(std::string_view text) {
  if (text.empty() || text.size() > kMaxHost || text.front() == '.' || text.back() == '.') return false;
  if (text.find("..") != std::string_view::npos) return false;
  return std::ranges::all_of(
      text, [](char c) { return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '.'; });
}

// HOST, HOST:PORT, [ADDRESS]:PORT
Status read_authority(std::string_view text, Location& location) {
  std::string_view host = text, port;
  bool bracketed = text.starts_with('[');
  auto end = bracketed ? text.find(']') : text.find(':');
  if (bracketed && end == std::string_view::npos) return fail(ErrorCode::kInvalidArgument, "its '[' has no ']'");
  if (end != std::string_view::npos) {
    host = bracketed ? text.substr(1, end - 1) : text.substr(0, end);
    port = text.substr(bracketed ? end + 1 : end);
  }
  location.port = location.kind == Location::Kind::kHttps ? 443 : 80;
  if (!port.empty()) {
    auto number = port.starts_with(':') ? parse_number(port.substr(1), 65535) : std::nullopt;
    if (!number || *number == 0) return fail(ErrorCode::kInvalidArgument, "its port is no number from 1 to 65535");
    location.port = static_cast<std::uint16_t>(*number);
  }
  location.host = host;
  std::ranges::transform(location.host, location.host.begin(),
                         [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c | 0x20) : c; });
  location.address = parse_ip(location.host);
  if (bracketed != (location.address && !location.address->is_v4()) ||
      (!location.address && !is_host_name(location.host)))
    return fail(ErrorCode::kInvalidArgument, "its host is neither a name nor an address (IPv6 in brackets)");
  return {};
}

Result<Location> parse_url(std::string_view text, Location::Kind kind) {
  Location location;
  location.kind = kind;
  auto bad = [](char c) { return c <= ' ' || c > '~' || c == '#' || c == '\\' || c == '"'; };
  if (std::ranges::any_of(text, bad))
    return fail(ErrorCode::kInvalidArgument, "it has a character that no URL has, or a fragment (#)");
  auto slash = std::min(text.find('/'), text.find('?'));
  std::string_view authority = text.substr(0, slash);
  if (authority.find('@') != std::string_view::npos)
    return fail(ErrorCode::kInvalidArgument, "it has a user or a password in it; casad sends none");
  TRY(read_authority(authority, location));
  location.path = slash == std::string_view::npos ? "/" : std::string(text.substr(slash));
  if (location.path.starts_with('?')) location.path.insert(0, "/");
  bool loopback = location.host == "localhost" || (location.address && location.address->is_loopback());
  if (kind == Location::Kind::kHttp && !loopback)
    return fail(ErrorCode::kInvalidArgument, "http:// is for loopback addresses only; write https://");
  return location;
}

}  // namespace

Result<Location> parse_location(std::string_view text) {
  if (text.size() > kMaxLocation)
    return fail(ErrorCode::kInvalidArgument, "it is longer than {} characters", kMaxLocation);
  if (text.starts_with("https://")) return parse_url(text.substr(8), Location::Kind::kHttps);
  if (text.starts_with("http://")) return parse_url(text.substr(7), Location::Kind::kHttp);
  if (!text.starts_with('/') || text.find('\0') != std::string_view::npos)
    return fail(ErrorCode::kInvalidArgument, "it is neither an absolute path nor an https:// URL");
  Location location;
  location.path = text;
  return location;
}

std::string to_string(const Location& location) {
  if (location.kind == Location::Kind::kFile) return location.path;
  bool v6 = location.address && !location.address->is_v4();
  return fmt::format("{}://{}{}{}:{}{}", location.kind == Location::Kind::kHttps ? "https" : "http", v6 ? "[" : "",
                     location.host, v6 ? "]" : "", location.port, location.path);
}

}  // namespace casa

// See sighting.h; and those members of Decoder that make one.
#include "event/sighting.h"

#include <algorithm>
#include <cstring>

#include "event/decoder.h"

namespace casa::event {
namespace {

int hex_digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

std::string_view padded(const char* text, std::size_t size) {
  return {text, static_cast<std::size_t>(std::find(text, text + size, '\0') - text)};
}

// A method is letters; whatever else a request began with is not told.
std::string method_of(const casa_token_event& record) {
  std::string_view method = padded(record.method, sizeof record.method);
  bool good = std::ranges::all_of(
      method, [](char c) { return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || c == '-' || c == '_'; });
  return good ? std::string(method) : std::string("?");
}

// A number that has no word here comes from a newer kernel side: it is nothing that this daemon can speak of.
template <typename Enum>
Enum known_or(casa_u8 value, Enum last, Enum otherwise) {
  return value <= static_cast<casa_u8>(last) ? static_cast<Enum>(value) : otherwise;
}

}  // namespace

std::string to_hex(const Sha256& hash) {
  static constexpr char kDigits[] = "0123456789abcdef";
  std::string out;
  out.reserve(2 * hash.size());
  for (auto byte : hash) {
    out += kDigits[byte >> 4];
    out += kDigits[byte & 15];
  }
  return out;
}

std::optional<Sha256> parse_sha256(std::string_view hex) {
  Sha256 hash{};
  if (hex.size() != 2 * hash.size()) return std::nullopt;
  for (std::size_t i = 0; i < hash.size(); ++i) {
    int high = hex_digit(hex[2 * i]), low = hex_digit(hex[2 * i + 1]);
    if (high < 0 || low < 0) return std::nullopt;
    hash[i] = static_cast<std::uint8_t>(high * 16 + low);
  }
  return hash;
}

const char* to_string(casa_app app) {
  switch (app) {
    case CASA_APP_HTTP1: return "http";
    case CASA_APP_HTTP2: return "http2";
    case CASA_APP_TLS: return "tls";
    case CASA_APP_OTHER: return "other";
    case CASA_APP_UNKNOWN: break;
  }
  return "";
}

const char* to_string(casa_via via) { return via == CASA_VIA_TLS ? "tls" : "wire"; }

const char* to_string(casa_token_shape shape) {
  switch (shape) {
    case CASA_TOKEN_JWT: return "jwt";
    case CASA_TOKEN_OPAQUE: return "opaque-bearer";
    case CASA_TOKEN_UNHASHED: return "unhashed";
    case CASA_TOKEN_NONE: break;
  }
  return "";
}

const char* to_string(casa_unread unread) {
  switch (unread) {
    case CASA_UNREAD_START: return "start";
    case CASA_UNREAD_OPAQUE: return "opaque";
    case CASA_UNREAD_TRUNCATED: return "truncated";
    case CASA_UNREAD_AMBIGUOUS: return "ambiguous";
    case CASA_UNREAD_NOTHING: break;
  }
  return "";
}

const char* to_string(casa_signature signature) {
  switch (signature) {
    case CASA_SIGNATURE_VALID: return "valid";
    case CASA_SIGNATURE_INVALID: return "invalid";
    case CASA_SIGNATURE_EXPIRED: return "expired";
    case CASA_SIGNATURE_UNKNOWN_KEY: return "unknown_key";
    case CASA_SIGNATURE_UNVERIFIED: break;
  }
  return "unverified";
}

Instance Decoder::instance_of(std::uint64_t cgroup_id) const {
  auto it = instances_.find(cgroup_id);
  return {cgroup_id, it == instances_.end() ? nullptr : it->second};
}

std::optional<Sighting> Decoder::decode_sighting(const casa_token_event& r, const EventClasses& classes) const {
  if (r.event.kind != CASA_EVENT_TOKEN) return std::nullopt;
  Sighting s;
  s.flow = flow_of(r.event);
  s.flow.news = News::kUpdate;
  s.instance = instance_of(r.instance);
  s.shape = known_or(r.shape, CASA_TOKEN_UNHASHED, CASA_TOKEN_UNHASHED);
  if (s.is_token()) std::memcpy(s.sha256.data(), r.sha256, CASA_SHA256_LEN);
  s.length = r.length;
  s.request = r.request;
  s.alg_none = (r.flags & CASA_TOKEN_ALG_NONE) != 0;
  s.duplicate = (r.flags & CASA_TOKEN_DUPLICATE) != 0;
  s.known = (r.flags & CASA_TOKEN_KNOWN) != 0;
  s.app = known_or(r.app, CASA_APP_OTHER, CASA_APP_OTHER);
  s.via = known_or(r.via, CASA_VIA_TLS, CASA_VIA_WIRE);
  s.signature = known_or(r.signature, CASA_SIGNATURE_UNKNOWN_KEY, CASA_SIGNATURE_UNVERIFIED);
  s.method = method_of(r);
  std::string_view path = padded(r.path, sizeof r.path);
  s.event = classes.classify(s.method, path, s.shape != CASA_TOKEN_NONE);
  s.path = path_class(path);
  // A POST without a token to a path that only ends like a token endpoint's.
  if (s.event == EventClass::kNone) return std::nullopt;
  return s;
}

std::optional<AppNews> Decoder::decode_app(const casa_token_event& r) const {
  if (r.event.kind != CASA_EVENT_APP) return std::nullopt;
  AppNews news;
  news.flow = flow_of(r.event);
  news.flow.news = News::kUpdate;
  news.instance = instance_of(r.instance);
  news.app = known_or(r.app, CASA_APP_OTHER, CASA_APP_OTHER);
  news.via = known_or(r.via, CASA_VIA_TLS, CASA_VIA_WIRE);
  news.unread = known_or(r.unread, CASA_UNREAD_AMBIGUOUS, CASA_UNREAD_OPAQUE);
  return news;
}

}  // namespace casa::event

#include "jwt/token.h"

#include <simdjson.h>

#include <algorithm>
#include <array>
#include <cmath>

#include "jwt/base64url.h"

namespace casa::jwt {
namespace {

using simdjson::dom::element;
using simdjson::dom::object;

constexpr std::int64_t kMaxSeconds = std::int64_t{1} << 53;

// One JSON object. simdjson copies every text into a buffer of its own; claims are wiped there too.
class JsonObject {
 public:
  JsonObject() = default;
  JsonObject(const JsonObject&) = delete;
  JsonObject& operator=(const JsonObject&) = delete;
  ~JsonObject() {
    // The size that document::allocate gives it, or a little less.
    if (parser_.doc.string_buf)
      OPENSSL_cleanse(parser_.doc.string_buf.get(), 5 * parser_.doc.capacity() / 3 + simdjson::SIMDJSON_PADDING);
  }

  // `bytes` has simdjson::SIMDJSON_PADDING bytes of capacity behind it.
  Result<object> parse(const SecretBytes& bytes, const char* what) {
    if (bytes.size() == 0) return fail(ErrorCode::kInvalidArgument, "its {} is empty", what);
    element root;
    if (auto error = parser_.parse(bytes.data(), bytes.size(), false).get(root))
      return fail(ErrorCode::kInvalidArgument, "its {} is not JSON ({})", what, simdjson::error_message(error));
    object fields;
    if (root.get(fields)) return fail(ErrorCode::kInvalidArgument, "its {} is no JSON object", what);
    return fields;
  }

 private:
  simdjson::dom::parser parser_;
};

// Of names that matter, a second one is an error: readers differ in which of the two they take.
Status find_once(const object& fields, std::string_view name, std::optional<element>& found) {
  for (auto field : fields) {
    if (field.key != name) continue;
    if (found) return fail(ErrorCode::kInvalidArgument, "it has '{}' twice", name);
    found = field.value;
  }
  return {};
}

Algorithm algorithm_of(std::string_view name) {
  if (name == "RS256") return Algorithm::kRs256;
  if (name == "ES256") return Algorithm::kEs256;
  if (name == "EdDSA") return Algorithm::kEdDsa;
  auto is_none = [](std::string_view text) {
    constexpr std::string_view kNone = "none";
    return std::ranges::equal(text, kNone, [](char a, char b) { return (a | 0x20) == b; });
  };
  if (is_none(name)) return Algorithm::kNone;
  if (name == "HS256" || name == "HS384" || name == "HS512") return Algorithm::kHmac;
  return Algorithm::kOther;
}

Status read_header(std::string_view text, Token& token) {
  auto bytes = decode_base64url(text, simdjson::SIMDJSON_PADDING);
  if (!bytes) return fail(ErrorCode::kInvalidArgument, "its header is not base64url");
  JsonObject json;
  TRY_ASSIGN(object fields, json.parse(*bytes, "header"));
  std::optional<element> alg, kid, crit;
  TRY(find_once(fields, "alg", alg));
  TRY(find_once(fields, "kid", kid));
  TRY(find_once(fields, "crit", crit));
  if (!alg || !alg->is_string()) return fail(ErrorCode::kInvalidArgument, "its header names no 'alg'");
  token.algorithm = algorithm_of(std::string_view(*alg));
  // Extensions that must be understood, and there is none that casad understands.
  if (crit) return fail(ErrorCode::kInvalidArgument, "its header has 'crit'");
  if (kid && !kid->is_string()) return fail(ErrorCode::kInvalidArgument, "its 'kid' is no text");
  if (kid) token.key_id = std::string(std::string_view(*kid));
  return {};
}

Status read_seconds(const object& fields, std::string_view name, std::optional<std::int64_t>& into) {
  std::optional<element> found;
  TRY(find_once(fields, name, found));
  if (!found) return {};
  double number = 0;
  if (!found->is_number() || found->get(number))
    return fail(ErrorCode::kInvalidArgument, "its '{}' is no number", name);
  constexpr auto kMost = static_cast<double>(kMaxSeconds);
  into = static_cast<std::int64_t>(std::floor(std::clamp(number, -kMost, kMost)));
  return {};
}

Status read_claims(std::string_view text, Token& token) {
  auto bytes = decode_base64url(text, simdjson::SIMDJSON_PADDING);
  if (!bytes) return fail(ErrorCode::kInvalidArgument, "its claims are not base64url");
  JsonObject json;
  TRY_ASSIGN(object fields, json.parse(*bytes, "claims"));
  TRY(read_seconds(fields, "exp", token.expires));
  return read_seconds(fields, "nbf", token.not_before);
}

}  // namespace

Result<Token> parse_token(std::string_view text) {
  if (text.size() > kMaxTokenBytes)
    return fail(ErrorCode::kInvalidArgument, "it is longer than {} bytes", kMaxTokenBytes);
  auto first = text.find('.');
  auto second = first == std::string_view::npos ? first : text.find('.', first + 1);
  if (second == std::string_view::npos || text.find('.', second + 1) != std::string_view::npos)
    return fail(ErrorCode::kInvalidArgument, "it does not have three parts");
  Token token;
  token.signed_part = text.substr(0, second);
  TRY(read_header(text.substr(0, first), token));
  TRY(read_claims(text.substr(first + 1, second - first - 1), token));
  auto signature = decode_base64url(text.substr(second + 1));
  if (!signature) return fail(ErrorCode::kInvalidArgument, "its signature is not base64url");
  token.signature = std::move(*signature);
  return token;
}

}  // namespace casa::jwt

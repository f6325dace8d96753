// libFuzzer target of the jwt room: any bytes as a token, as a key set with a token behind a line break, as the place of a key set. No token
// that the fuzzer makes may be valid: it has no key.
//   build/test/fuzz/jwt/jwt_fuzz -max_total_time=60 test/fuzz/jwt/corpus
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "jwt/check.h"
#include "base/location.h"

namespace {

using namespace casa::jwt;

// P-256 and Ed25519, whose private halves were thrown away.
constexpr std::string_view kKeys =
    R"({"keys":[{"kty":"EC","crv":"P-256","kid":"c","x":"MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4","y":"4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM"},)"
    R"({"kty":"OKP","crv":"Ed25519","kid":"d","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]})";

void require(bool condition) {
  if (!condition) std::abort();
}

const KeySet& keys() {
  static const KeySet set = [] {
    auto parsed = parse_key_set(kKeys);
    require(parsed && parsed->keys.size() == 2);
    return std::move(*parsed);
  }();
  return set;
}

void check_one_token(std::string_view text, const KeySet& set, bool others_keys) {
  auto token = parse_token(text);
  Finding found = check_token(text, set, 1'750'000'000);
  require(found.signature != CASA_SIGNATURE_UNVERIFIED);
  if (!token) require(found.signature == CASA_SIGNATURE_INVALID && !found.other_keys_may_differ);
  if (token) {
    require(text.starts_with(token->signed_part));
    require(text.size() <= kMaxTokenBytes);
    if (token->algorithm == Algorithm::kNone || token->algorithm == Algorithm::kHmac)
      require(found.signature == CASA_SIGNATURE_INVALID);
  }
  if (found.signature == CASA_SIGNATURE_VALID || found.signature == CASA_SIGNATURE_EXPIRED)
    require(others_keys && found.key && set.has(*found.key));
  else require(!found.why.empty());
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  std::string_view text(reinterpret_cast<const char*>(data), size);
  check_one_token(text, keys(), false);
  auto line = text.find('\n');
  std::string_view json = text.substr(0, line);
  if (auto set = parse_key_set(json)) {
    require(!set->keys.empty() && set->keys.size() <= kMaxKeys && set->same_keys(*set));
    for (const auto& note : set->notes)
      for (char c : note) require(c >= ' ' && c <= '~');
    if (line != std::string_view::npos) check_one_token(text.substr(line + 1), *set, true);
  }
  if (auto location = casa::parse_location(text)) {
    auto again = casa::parse_location(to_string(*location));
    require(again && to_string(*again) == to_string(*location));
    if (location->kind == casa::Location::Kind::kHttp)
      require(location->host == "localhost" || (location->address && location->address->is_loopback()));
  }
  return 0;
}

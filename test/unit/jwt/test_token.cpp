// Reading a token, strictly.
#include <catch2/catch_test_macros.hpp>

#include "jwt/base64url.h"
#include "jwt/token.h"
#include "keys.h"

using namespace casa::jwt;
using casa::jwt::test::base64url;

namespace {

std::string token(std::string_view header, std::string_view claims, std::string_view signature = "signature") {
  return base64url(header) + "." + base64url(claims) + "." + base64url(signature);
}

std::string error_of(std::string_view text) {
  auto parsed = parse_token(text);
  return parsed ? "" : parsed.error().context;
}

constexpr const char* kHeader = R"({"alg":"RS256","typ":"JWT","kid":"k"})";

}  // namespace

TEST_CASE("base64url, its one form") {
  auto decoded = [](std::string_view text) {
    auto bytes = decode_base64url(text);
    return bytes ? std::string(bytes->view()) : std::string("-none-");
  };
  CHECK(decoded("") == "");
  CHECK(decoded("Zg") == "f");
  CHECK(decoded("Zm8") == "fo");
  CHECK(decoded("Zm9v") == "foo");
  CHECK(decoded("-_-_") == "\xfb\xff\xbf");
  for (const char* bad : {"Z", "Zg==", "Zm9vY", "Zh", "Zm9", "Zm 9v", "Zm9v\n", "+/+/", "Zm9v=", "Zm.v"})
    CHECK(decoded(bad) == "-none-");
}

TEST_CASE("a token and what is read of it") {
  std::string text = token(kHeader, R"({"sub":"a","exp":1700000000,"nbf":1600000000.75,"act":{"exp":"x"}})");
  auto parsed = parse_token(text);
  REQUIRE(parsed);
  CHECK(parsed->algorithm == Algorithm::kRs256);
  CHECK(parsed->key_id == "k");
  CHECK(parsed->expires == 1700000000);
  CHECK(parsed->not_before == 1600000000);
  CHECK(parsed->signed_part == text.substr(0, text.rfind('.')));
  CHECK(parsed->signature.view() == "signature");
}

TEST_CASE("algorithms by their exact names") {
  auto algorithm = [](const std::string& name) {
    std::string text = token(R"({"alg":")" + name + "\"}", "{}");
    auto parsed = parse_token(text);
    REQUIRE(parsed);
    return parsed->algorithm;
  };
  CHECK(algorithm("ES256") == Algorithm::kEs256);
  CHECK(algorithm("EdDSA") == Algorithm::kEdDsa);
  for (const char* none : {"none", "None", "NONE", "nOnE"}) CHECK(algorithm(none) == Algorithm::kNone);
  for (const char* hmac : {"HS256", "HS384", "HS512"}) CHECK(algorithm(hmac) == Algorithm::kHmac);
  for (const char* other : {"rs256", "RS512", "PS256", "ES384", "ES256K", "", "RS256 "})
    CHECK(algorithm(other) == Algorithm::kOther);
  CHECK(algorithm("RS\\u003256") == Algorithm::kRs256);
}

TEST_CASE("tokens that two readers could read in two ways, or nobody") {
  auto has = [](const std::string& text, const char* part) {
    INFO(text);
    return error_of(text).find(part) != std::string::npos;
  };
  std::string good = token(kHeader, "{}");
  CHECK(error_of(good).empty());
  CHECK(has("", "three parts"));
  CHECK(has("a.b", "three parts"));
  CHECK(has(good + ".x", "three parts"));
  CHECK(has(good + "=", "signature is not base64url"));
  CHECK(has(" " + good, "header is not base64url"));
  CHECK(has("." + good.substr(good.find('.') + 1), "header is empty"));
  CHECK(has(token("[]", "{}"), "header is no JSON object"));
  CHECK(has(token("{}", "{}"), "names no 'alg'"));
  CHECK(has(token(R"({"alg":1})", "{}"), "names no 'alg'"));
  CHECK(has(token(R"({"alg":"RS256","alg":"none"})", "{}"), "'alg' twice"));
  CHECK(has(token(R"({"alg":"RS256","\u0061lg":"none"})", "{}"), "'alg' twice"));
  CHECK(has(token(R"({"alg":"RS256","kid":1})", "{}"), "'kid' is no text"));
  CHECK(has(token(R"({"alg":"RS256","crit":["exp"]})", "{}"), "'crit'"));
  CHECK(has(token(R"({"alg":"RS256"}x)", "{}"), "header is not JSON"));
  CHECK(has(token(R"({"alg":"RS256")", "{}"), "header is not JSON"));
  CHECK(has(token("{\"alg\":\"RS256\",\"x\":\"\xff\"}", "{}"), "header is not JSON"));
  CHECK(has(token(kHeader, ""), "claims is empty"));
  CHECK(has(token(kHeader, "null"), "claims is no JSON object"));
  CHECK(has(token(kHeader, R"({"exp":"1"})"), "'exp' is no number"));
  CHECK(has(token(kHeader, R"({"exp":null})"), "'exp' is no number"));
  CHECK(has(token(kHeader, R"({"nbf":true})"), "'nbf' is no number"));
  CHECK(has(token(kHeader, R"({"exp":1,"exp":9999999999})"), "'exp' twice"));
  CHECK(has(token(kHeader, std::string(2000, '[') + std::string(2000, ']')), "claims is not JSON"));
  // A signature may be empty; whether it is good is not this file's business.
  CHECK(error_of(token(kHeader, "{}", "")).empty());
}

TEST_CASE("numbers far away are cut, not wrapped") {
  auto expires = [](const char* number) {
    std::string text = token(kHeader, std::string(R"({"exp":)") + number + "}");
    auto parsed = parse_token(text);
    REQUIRE(parsed);
    return *parsed->expires;
  };
  CHECK(expires("1e300") == std::int64_t{1} << 53);
  CHECK(expires("-1e300") == -(std::int64_t{1} << 53));
  CHECK(expires("18446744073709551615") == std::int64_t{1} << 53);
  CHECK(expires("-0.5") == -1);
}

TEST_CASE("sizes: the longest that is read, and one byte more") {
  std::string claims = R"({"x":")", text;
  std::size_t filler = kMaxTokenBytes * 3 / 4;
  do {
    text = token(kHeader, claims + std::string(--filler, 'a') + "\"}");
  } while (text.size() > kMaxTokenBytes);
  CHECK(text.size() > kMaxTokenBytes - 3);
  CHECK(error_of(text).empty());
  CHECK(error_of(text + std::string(kMaxTokenBytes + 1 - text.size(), 'A')).find("longer than") != std::string::npos);
}

TEST_CASE("no error has anything of the token in it") {
  const std::string secret = "SECRETSECRET";
  for (const auto& text :
       {token("{\"alg\":\"" + secret + "\",\"kid\":1}", "{}"), token(kHeader, secret), secret + ".a.b",
        token(kHeader, "{\"exp\":\"" + secret + "\"}"), token("{\"" + secret + "\":1}", "{}")}) {
    std::string error = error_of(text);
    CHECK_FALSE(error.empty());
    CHECK(error.find(secret) == std::string::npos);
    CHECK(error.find(base64url(secret)) == std::string::npos);
  }
}

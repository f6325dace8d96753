// What signatures are worth: each algorithm, and each way to lie about it.
#include <catch2/catch_test_macros.hpp>

#include <openssl/pem.h>

#include "jwt/check.h"
#include "keys.h"

using namespace casa::jwt;
using namespace casa::jwt::test;

namespace {

constexpr std::int64_t kNow = 1'750'000'000;
const std::string kClaims = R"({"sub":"agent","exp":1750000300})";

struct Keys {
  SigningKey rsa = SigningKey::rsa(), ec = SigningKey::ec(), ed = SigningKey::ed25519();
  KeySet set = keys_of({rsa.jwk(R"("kid":"r")"), ec.jwk(R"("kid":"c")"), ed.jwk(R"("kid":"d")")});
};
const Keys& keys() {
  static const Keys made;
  return made;
}

casa_signature signature_of(const std::string& token, std::int64_t now = kNow) {
  return check_token(token, keys().set, now).signature;
}

std::string hmac_token(const std::string& header, const std::string& secret) {
  std::string text = base64url(header) + "." + base64url(kClaims);
  std::string mac(32, '\0');
  unsigned length = 0;
  HMAC(EVP_sha256(), secret.data(), static_cast<int>(secret.size()),
       reinterpret_cast<const unsigned char*>(text.data()), text.size(), reinterpret_cast<unsigned char*>(mac.data()),
       &length);
  return text + "." + base64url(mac);
}

std::string pem_of(const SigningKey& key) {
  BIO* bio = BIO_new(BIO_s_mem());
  PEM_write_bio_PUBKEY(bio, key.get());
  char* bytes = nullptr;
  long length = BIO_get_mem_data(bio, &bytes);
  std::string text(bytes, static_cast<std::size_t>(length));
  BIO_free(bio);
  return text;
}

}  // namespace

TEST_CASE("each algorithm, with and without kid") {
  const auto& k = keys();
  for (auto [key, kid] : {std::pair{&k.rsa, "r"}, std::pair{&k.ec, "c"}, std::pair{&k.ed, "d"}}) {
    CAPTURE(kid);
    for (const auto& token : {key->token_of(kClaims, kid), key->token_of(kClaims)}) {
      Finding found = check_token(token, k.set, kNow);
      CHECK(found.signature == CASA_SIGNATURE_VALID);
      CHECK(found.why.empty());
      CHECK(found.expires == 1750000300 + kLeewaySeconds);
      REQUIRE(found.key);
      CHECK(k.set.has(*found.key));
    }
  }
}

TEST_CASE("each byte counts") {
  const auto& k = keys();
  for (const auto* key : {&k.rsa, &k.ec, &k.ed}) {
    std::string token = key->token_of(kClaims);
    auto second = token.rfind('.');
    std::string forged =
        token.substr(0, token.find('.') + 1) + base64url(R"({"sub":"root","exp":1750000300})") + token.substr(second);
    CHECK(signature_of(forged) == CASA_SIGNATURE_INVALID);
    std::string bent = token;
    bent[second + 5] = bent[second + 5] == 'A' ? 'B' : 'A';
    CHECK(signature_of(bent) == CASA_SIGNATURE_INVALID);
    CHECK(signature_of(token.substr(0, second + 1)) == CASA_SIGNATURE_INVALID);        // no signature
    CHECK(signature_of(token.substr(0, token.size() - 4)) == CASA_SIGNATURE_INVALID);  // a short one
    CHECK(signature_of(token + "AAAA") == CASA_SIGNATURE_INVALID);                     // a long one
    CHECK(signature_of(token.substr(0, second)) == CASA_SIGNATURE_INVALID);
    CHECK(signature_of(token + std::string(kMaxTokenBytes, 'A')) == CASA_SIGNATURE_INVALID);
  }
  // The same signature in another text would be another hash for the same token.
  std::string rsa = k.rsa.token_of(kClaims);  // 256 bytes: two characters at the end, four bits of the last one free
  std::string twin = rsa;
  twin.back() = twin.back() == 'A' ? 'B' : static_cast<char>(twin.back() + 1);
  CHECK(signature_of(twin) == CASA_SIGNATURE_INVALID);
}

TEST_CASE("a key that nobody trusts") {
  auto foreign = SigningKey::rsa();
  CHECK(signature_of(foreign.token_of(kClaims)) == CASA_SIGNATURE_INVALID);
  CHECK(signature_of(foreign.token_of(kClaims, "r")) == CASA_SIGNATURE_INVALID);
  Finding unknown = check_token(foreign.token_of(kClaims, "elsewhere"), keys().set, kNow);
  CHECK(unknown.signature == CASA_SIGNATURE_UNKNOWN_KEY);
  CHECK(unknown.other_keys_may_differ);
  // A token cannot bring its own key.
  std::string embedded = foreign.token(R"({"alg":"RS256","kid":"r","jwk":)" + foreign.jwk() + "}", kClaims);
  CHECK(signature_of(embedded) == CASA_SIGNATURE_INVALID);
}

TEST_CASE("alg confusion: the key decides, not the token") {
  const auto& k = keys();
  // The classic: the public key as the secret of an HMAC, in every form that it could have.
  for (const auto& secret : {pem_of(k.rsa), k.rsa.jwk(), number_text(k.rsa.get(), OSSL_PKEY_PARAM_RSA_N)})
    for (const char* header : {R"({"alg":"HS256","kid":"r"})", R"({"alg":"HS256"})", R"({"alg":"RS256","kid":"r"})"})
      CHECK(signature_of(hmac_token(header, secret)) == CASA_SIGNATURE_INVALID);
  // A good signature of one key under the name or the algorithm of another.
  CHECK(signature_of(k.ec.token_of(kClaims, "r")) == CASA_SIGNATURE_INVALID);
  CHECK(signature_of(k.ed.token_of(kClaims, "c")) == CASA_SIGNATURE_INVALID);
  CHECK(signature_of(k.rsa.token(R"({"alg":"ES256","kid":"r"})", kClaims)) == CASA_SIGNATURE_INVALID);
  CHECK(signature_of(k.rsa.token(R"({"alg":"EdDSA"})", kClaims)) == CASA_SIGNATURE_INVALID);
  // A set that lists a shared secret still has no key for HMAC.
  auto with_secret = keys_of({k.rsa.jwk(R"("kid":"r")"), R"({"kty":"oct","kid":"s","k":"c2VjcmV0"})"});
  CHECK(check_token(hmac_token(R"({"alg":"HS256","kid":"s"})", "secret"), with_secret, kNow).signature ==
        CASA_SIGNATURE_INVALID);
}

TEST_CASE("none is no signature, whatever stands behind the dot") {
  const auto& k = keys();
  for (const char* alg : {"none", "None", "NONE"}) {
    std::string header = R"({"alg":")" + std::string(alg) + R"(","kid":"r"})";
    std::string text = base64url(header) + "." + base64url(kClaims) + ".";
    Finding found = check_token(text, k.set, kNow);
    CHECK(found.signature == CASA_SIGNATURE_INVALID);
    CHECK_FALSE(found.other_keys_may_differ);
    CHECK(signature_of(k.rsa.token(header, kClaims)) == CASA_SIGNATURE_INVALID);
  }
}

TEST_CASE("algorithms that casad does not check: no key for them") {
  const auto& k = keys();
  for (const char* alg : {"RS512", "PS256", "ES384", "ES512", "RSA-OAEP", "x"})
    CHECK(signature_of(k.rsa.token(R"({"alg":")" + std::string(alg) + R"(","kid":"r"})", kClaims)) ==
          CASA_SIGNATURE_UNKNOWN_KEY);
}

TEST_CASE("ES256: signatures that only look like one") {
  const auto& k = keys();
  std::string text = base64url(R"({"alg":"ES256"})") + "." + base64url(kClaims) + ".";
  CHECK(signature_of(text + base64url(std::string(64, '\0'))) == CASA_SIGNATURE_INVALID);  // r = s = 0 (CVE-2022-21449)
  CHECK(signature_of(text + base64url(std::string(64, '\xff'))) == CASA_SIGNATURE_INVALID);
  std::string raw = k.ec.sign(text.substr(0, text.size() - 1));
  CHECK(signature_of(text + base64url(raw)) == CASA_SIGNATURE_VALID);
  CHECK(signature_of(text + base64url(raw.substr(0, 32) + std::string(1, '\0') + raw.substr(32))) ==
        CASA_SIGNATURE_INVALID);
}

TEST_CASE("times, to the second") {
  const auto& k = keys();
  auto at = [&](const std::string& claims, std::int64_t now) { return check_token(k.ed.token_of(claims), k.set, now); };
  const std::string expires = R"({"exp":1000})", begins = R"({"nbf":1000})";
  CHECK(at(expires, 1059).signature == CASA_SIGNATURE_VALID);
  CHECK(at(expires, 1060).signature == CASA_SIGNATURE_EXPIRED);
  CHECK_FALSE(at(expires, 1060).valid_from);
  CHECK(at(begins, 940).signature == CASA_SIGNATURE_VALID);
  Finding early = at(begins, 939);
  CHECK(early.signature == CASA_SIGNATURE_EXPIRED);
  CHECK(early.valid_from == 940);
  CHECK_FALSE(at("{}", kNow).expires);
  CHECK(at("{}", kNow).signature == CASA_SIGNATURE_VALID);
  CHECK(at(R"({"exp":1e300})", kNow).signature == CASA_SIGNATURE_VALID);
  CHECK(at(R"({"exp":-1e300})", kNow).signature == CASA_SIGNATURE_EXPIRED);
  // A bad signature is bad, expired or not.
  CHECK(check_token(SigningKey::ed25519().token_of(expires), k.set, kNow).signature == CASA_SIGNATURE_INVALID);
}

TEST_CASE("two keys with one name are both tried") {
  auto a = SigningKey::ec(), b = SigningKey::ec();
  auto set = keys_of({a.jwk(R"("kid":"k")"), b.jwk(R"("kid":"k")")});
  CHECK(check_token(a.token_of(kClaims, "k"), set, kNow).signature == CASA_SIGNATURE_VALID);
  CHECK(check_token(b.token_of(kClaims, "k"), set, kNow).signature == CASA_SIGNATURE_VALID);
}

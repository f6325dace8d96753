// Keys made at test time by OpenSSL, their JWKs, and tokens signed by them: the other side of what the room checks.
#pragma once

#include <openssl/core_names.h>
#include <openssl/ec.h>
#include <openssl/ecdsa.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/rsa.h>
#include <openssl/sha.h>

#include <catch2/catch_test_macros.hpp>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "jwt/key_set.h"
#include "jwt/verifier.h"

namespace casa::jwt::test {

inline std::string base64url(std::string_view bytes) {
  static constexpr char kDigits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
  std::string out;
  out.reserve(bytes.size() * 4 / 3 + 4);  // one buffer, so that a caller can wipe all of it
  unsigned held = 0, bits = 0;
  for (unsigned char c : bytes) {
    held = (held << 8 | c) & 0xffff;
    for (bits += 8; bits >= 6; bits -= 6) out += kDigits[held >> (bits - 6) & 63];
  }
  if (bits != 0) out += kDigits[held << (6 - bits) & 63];
  return out;
}

inline Sha256 sha256(std::string_view text) {
  Sha256 out;
  SHA256(reinterpret_cast<const unsigned char*>(text.data()), text.size(), out.data());
  return out;
}

inline std::string number_text(EVP_PKEY* key, const char* name, int pad = 0) {
  BIGNUM* number = nullptr;
  REQUIRE(EVP_PKEY_get_bn_param(key, name, &number) == 1);
  std::string bytes(static_cast<std::size_t>(pad != 0 ? pad : BN_num_bytes(number)), '\0');
  REQUIRE(BN_bn2binpad(number, reinterpret_cast<unsigned char*>(bytes.data()), static_cast<int>(bytes.size())) >= 0);
  BN_free(number);
  return base64url(bytes);
}

class SigningKey {
 public:
  static SigningKey rsa(unsigned bits = 2048) { return {EVP_RSA_gen(bits), "RS256"}; }
  static SigningKey ec(const char* curve = "P-256") { return {EVP_EC_gen(curve), "ES256"}; }
  static SigningKey ed25519() { return {EVP_PKEY_Q_keygen(nullptr, nullptr, "ED25519"), "EdDSA"}; }

  [[nodiscard]] const std::string& alg() const { return alg_; }

  // The members of the JWK, without braces; `more` such as R"("kid":"a")".
  [[nodiscard]] std::string jwk(const std::string& more = "") const {
    std::string text;
    if (alg_ == "RS256") {
      text = R"("kty":"RSA","n":")" + number_text(key_.get(), OSSL_PKEY_PARAM_RSA_N) + R"(","e":")" +
             number_text(key_.get(), OSSL_PKEY_PARAM_RSA_E) + "\"";
    } else if (alg_ == "ES256") {
      text = R"("kty":"EC","crv":"P-256","x":")" + number_text(key_.get(), OSSL_PKEY_PARAM_EC_PUB_X, 32) +
             R"(","y":")" + number_text(key_.get(), OSSL_PKEY_PARAM_EC_PUB_Y, 32) + "\"";
    } else {
      std::string raw(32, '\0');
      std::size_t length = raw.size();
      REQUIRE(EVP_PKEY_get_raw_public_key(key_.get(), reinterpret_cast<unsigned char*>(raw.data()), &length) == 1);
      text = R"("kty":"OKP","crv":"Ed25519","x":")" + base64url(raw) + "\"";
    }
    return "{" + text + (more.empty() ? "" : "," + more) + "}";
  }

  [[nodiscard]] std::string sign(const std::string& text) const {
    std::unique_ptr<EVP_MD_CTX, void (*)(EVP_MD_CTX*)> context(EVP_MD_CTX_new(), EVP_MD_CTX_free);
    const auto* bytes = reinterpret_cast<const unsigned char*>(text.data());
    REQUIRE(EVP_DigestSignInit(context.get(), nullptr, alg_ == "EdDSA" ? nullptr : EVP_sha256(), nullptr, key_.get()) ==
            1);
    std::size_t length = 0;
    REQUIRE(EVP_DigestSign(context.get(), nullptr, &length, bytes, text.size()) == 1);
    std::string signature(length, '\0');
    REQUIRE(EVP_DigestSign(context.get(), reinterpret_cast<unsigned char*>(signature.data()), &length, bytes,
                           text.size()) == 1);
    signature.resize(length);
    return alg_ == "ES256" ? raw_pair(signature) : signature;
  }

  // The token with this header and these claims, both as JSON.
  [[nodiscard]] std::string token(const std::string& header, const std::string& claims) const {
    std::string text = base64url(header) + "." + base64url(claims);
    return text + "." + base64url(sign(text));
  }
  [[nodiscard]] std::string token_of(const std::string& claims, const std::string& kid = "") const {
    return token(R"({"alg":")" + alg_ + "\"" + (kid.empty() ? "" : R"(,"kid":")" + kid + "\"") + "}", claims);
  }

  [[nodiscard]] EVP_PKEY* get() const { return key_.get(); }

 private:
  SigningKey(EVP_PKEY* key, const char* alg) : key_(key), alg_(alg) { REQUIRE(key != nullptr); }

  static std::string raw_pair(const std::string& der) {
    const auto* at = reinterpret_cast<const unsigned char*>(der.data());
    ECDSA_SIG* pair = d2i_ECDSA_SIG(nullptr, &at, static_cast<long>(der.size()));
    REQUIRE(pair != nullptr);
    std::string raw(64, '\0');
    auto* out = reinterpret_cast<unsigned char*>(raw.data());
    REQUIRE(BN_bn2binpad(ECDSA_SIG_get0_r(pair), out, 32) == 32);
    REQUIRE(BN_bn2binpad(ECDSA_SIG_get0_s(pair), out + 32, 32) == 32);
    ECDSA_SIG_free(pair);
    return raw;
  }

  KeyPtr key_;
  std::string alg_;
};

inline std::string jwks(const std::vector<std::string>& keys) {
  std::string text = R"({"keys":[)";
  for (const auto& key : keys) text += (text.ends_with('[') ? "" : ",") + key;
  return text + "]}";
}

inline KeySet keys_of(const std::vector<std::string>& keys) {
  auto set = parse_key_set(jwks(keys));
  REQUIRE(set);
  return std::move(*set);
}

inline std::shared_ptr<const KeySet> shared_keys(const std::vector<std::string>& keys) {
  return std::make_shared<const KeySet>(keys_of(keys));
}

}  // namespace casa::jwt::test

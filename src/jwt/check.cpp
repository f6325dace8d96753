#include "jwt/check.h"

#include <openssl/ecdsa.h>
#include <openssl/err.h>

#include <memory>

namespace casa::jwt {
namespace {

constexpr std::size_t kEcPart = 32;  // of r and of s, P-256
constexpr std::size_t kEd25519Signature = 64;

struct ContextFree {
  void operator()(EVP_MD_CTX* context) const { EVP_MD_CTX_free(context); }
};
struct EcdsaFree {
  void operator()(ECDSA_SIG* signature) const { ECDSA_SIG_free(signature); }
};

const unsigned char* bytes_of(std::string_view text) { return reinterpret_cast<const unsigned char*>(text.data()); }

bool digest_verify(const Key& key, const EVP_MD* digest, const unsigned char* signature, std::size_t length,
                   std::string_view text) {
  std::unique_ptr<EVP_MD_CTX, ContextFree> context(EVP_MD_CTX_new());
  bool good = context && EVP_DigestVerifyInit(context.get(), nullptr, digest, nullptr, key.key.get()) == 1 &&
              EVP_DigestVerify(context.get(), signature, length, bytes_of(text), text.size()) == 1;
  ERR_clear_error();
  return good;
}

// JWS has r and s one after the other, OpenSSL wants them as DER.
bool verify_es256(const Key& key, const Token& token) {
  if (token.signature.size() != 2 * kEcPart) return false;
  std::unique_ptr<ECDSA_SIG, EcdsaFree> pair(ECDSA_SIG_new());
  BIGNUM* r = BN_bin2bn(token.signature.data(), kEcPart, nullptr);
  BIGNUM* s = BN_bin2bn(token.signature.data() + kEcPart, kEcPart, nullptr);
  if (!pair || r == nullptr || s == nullptr || ECDSA_SIG_set0(pair.get(), r, s) != 1) {
    BN_free(r);
    BN_free(s);
    return false;
  }
  unsigned char* der = nullptr;
  int length = i2d_ECDSA_SIG(pair.get(), &der);
  if (length <= 0) return false;
  bool good = digest_verify(key, EVP_sha256(), der, static_cast<std::size_t>(length), token.signed_part);
  OPENSSL_clear_free(der, static_cast<std::size_t>(length));
  return good;
}

bool verify(const Key& key, const Token& token) {
  switch (key.algorithm) {
    case Algorithm::kRs256:
      return digest_verify(key, EVP_sha256(), token.signature.data(), token.signature.size(), token.signed_part);
    case Algorithm::kEs256: return verify_es256(key, token);
    case Algorithm::kEdDsa:
      return token.signature.size() == kEd25519Signature &&
             digest_verify(key, nullptr, token.signature.data(), token.signature.size(), token.signed_part);
    default: return false;
  }
}

Finding invalid(std::string why, bool other_keys_may_differ) {
  return {CASA_SIGNATURE_INVALID, std::move(why), {}, {}, {}, other_keys_may_differ};
}
Finding unknown_key(const char* why) { return {CASA_SIGNATURE_UNKNOWN_KEY, why, {}, {}, {}, true}; }

Finding check_times(const Token& token, const Key& key, std::int64_t now) {
  Finding finding{CASA_SIGNATURE_VALID, "", {}, {}, key.fingerprint, true};
  if (token.expires) finding.expires = *token.expires + kLeewaySeconds;
  if (finding.expires && now >= *finding.expires) {
    finding.signature = CASA_SIGNATURE_EXPIRED;
    finding.why = "its time is over";
  } else if (token.not_before && now + kLeewaySeconds < *token.not_before) {
    finding.signature = CASA_SIGNATURE_EXPIRED;
    finding.why = "its time has not come yet";
    finding.valid_from = *token.not_before - kLeewaySeconds;
  }
  return finding;
}

}  // namespace

Finding check_token(std::string_view text, const KeySet& keys, std::int64_t now) {
  auto token = parse_token(text);
  if (!token) return invalid(fmt::format("it is no JWT that casad reads: {}", token.error().context), false);
  switch (token->algorithm) {
    case Algorithm::kNone: return invalid("its alg is none: it is not signed", false);
    case Algorithm::kHmac: return invalid("its alg takes a shared secret, and keys of a key set are public", false);
    case Algorithm::kOther: return unknown_key("its alg is none of RS256, ES256 and EdDSA");
    default: break;
  }
  bool named = false, tried = false;
  for (const Key& key : keys.keys) {
    if (token->key_id && key.id != *token->key_id) continue;
    named = true;
    if (key.algorithm != token->algorithm) continue;
    tried = true;
    if (verify(key, *token)) return check_times(*token, key, now);
  }
  if (tried) return invalid("its signature is not that of the key", true);
  if (token->key_id && named) return invalid("its alg is not that of the key that it names", true);
  return unknown_key(token->key_id ? "no key of the set has its kid" : "no key of the set is for its alg");
}

}  // namespace casa::jwt

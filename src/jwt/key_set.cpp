#include "jwt/key_set.h"

#include <openssl/core_names.h>
#include <openssl/param_build.h>
#include <openssl/sha.h>
#include <openssl/x509.h>
#include <simdjson.h>

#include <algorithm>
#include <map>
#include <tuple>

#include "jwt/base64url.h"

namespace casa::jwt {
namespace {

using simdjson::dom::array;
using simdjson::dom::element;
using simdjson::dom::object;

constexpr int kMinRsaBits = 2048, kMaxRsaBits = 8192;
constexpr std::size_t kCoordinateBytes = 32;  // of P-256 and Ed25519
constexpr std::size_t kShownId = 64;

template <auto Free>
struct Freed {
  template <typename T>
  void operator()(T* what) const {
    Free(what);
  }
};
using Number = std::unique_ptr<BIGNUM, Freed<BN_free>>;
using Builder = std::unique_ptr<OSSL_PARAM_BLD, Freed<OSSL_PARAM_BLD_free>>;
using Params = std::unique_ptr<OSSL_PARAM, Freed<OSSL_PARAM_free>>;
using Context = std::unique_ptr<EVP_PKEY_CTX, Freed<EVP_PKEY_CTX_free>>;

// The fields of one key that are texts; another kind, or the same name twice, makes the key unusable.
using Texts = std::map<std::string, std::string, std::less<>>;

constexpr std::string_view kTextFields[] = {"kty", "kid", "use", "alg", "crv", "n", "e", "x", "y", "d"};

Result<Texts> texts_of(const object& fields) {
  Texts texts;
  for (auto field : fields) {
    if (std::ranges::find(kTextFields, field.key) == std::end(kTextFields)) continue;
    std::string_view text;
    if (field.value.get(text)) return fail(ErrorCode::kInvalidArgument, "its '{}' is no text", field.key);
    if (!texts.emplace(field.key, text).second)
      return fail(ErrorCode::kInvalidArgument, "it has '{}' twice", field.key);
  }
  return texts;
}

Result<SecretBytes> bytes_of(const Texts& texts, const char* name) {
  auto text = texts.find(name);
  auto bytes = text == texts.end() ? std::nullopt : decode_base64url(text->second);
  if (!bytes || bytes->size() == 0)
    return fail(ErrorCode::kInvalidArgument, "its '{}' is missing or not base64url", name);
  return std::move(*bytes);
}

Number number_of(const SecretBytes& bytes) {
  return Number(BN_bin2bn(bytes.data(), static_cast<int>(bytes.size()), nullptr));
}

Result<KeyPtr> make_key(const char* type, OSSL_PARAM_BLD* builder) {
  Params params(OSSL_PARAM_BLD_to_param(builder));
  Context context(EVP_PKEY_CTX_new_from_name(nullptr, type, nullptr));
  EVP_PKEY* key = nullptr;
  bool made = params && context && EVP_PKEY_fromdata_init(context.get()) == 1 &&
              EVP_PKEY_fromdata(context.get(), &key, EVP_PKEY_PUBLIC_KEY, params.get()) == 1;
  if (!made) return fail(ErrorCode::kInvalidArgument, "it is no {} key", type);
  return KeyPtr(key);
}

Result<KeyPtr> rsa_key(const Texts& texts) {
  TRY_ASSIGN(SecretBytes n, bytes_of(texts, "n"));
  TRY_ASSIGN(SecretBytes e, bytes_of(texts, "e"));
  Number modulus = number_of(n), exponent = number_of(e);
  Builder builder(OSSL_PARAM_BLD_new());
  if (!modulus || !exponent || !builder) return fail(ErrorCode::kInternal, "no memory for it");
  int bits = BN_num_bits(modulus.get());
  if (bits < kMinRsaBits || bits > kMaxRsaBits)
    return fail(ErrorCode::kInvalidArgument, "it has {} bits; from {} to {} are taken", bits, kMinRsaBits, kMaxRsaBits);
  if (!BN_is_odd(modulus.get()) || !BN_is_odd(exponent.get()) || BN_is_one(exponent.get()) ||
      BN_num_bits(exponent.get()) > 64)
    return fail(ErrorCode::kInvalidArgument, "it is no RSA key");
  OSSL_PARAM_BLD_push_BN(builder.get(), OSSL_PKEY_PARAM_RSA_N, modulus.get());
  OSSL_PARAM_BLD_push_BN(builder.get(), OSSL_PKEY_PARAM_RSA_E, exponent.get());
  return make_key("RSA", builder.get());
}

Result<KeyPtr> ec_key(const Texts& texts) {
  TRY_ASSIGN(SecretBytes x, bytes_of(texts, "x"));
  TRY_ASSIGN(SecretBytes y, bytes_of(texts, "y"));
  if (x.size() != kCoordinateBytes || y.size() != kCoordinateBytes)
    return fail(ErrorCode::kInvalidArgument, "it is no point of P-256");
  std::vector<unsigned char> point{4};  // uncompressed
  point.insert(point.end(), x.data(), x.data() + x.size());
  point.insert(point.end(), y.data(), y.data() + y.size());
  Builder builder(OSSL_PARAM_BLD_new());
  if (!builder) return fail(ErrorCode::kInternal, "no memory for it");
  OSSL_PARAM_BLD_push_utf8_string(builder.get(), OSSL_PKEY_PARAM_GROUP_NAME, "prime256v1", 0);
  OSSL_PARAM_BLD_push_octet_string(builder.get(), OSSL_PKEY_PARAM_PUB_KEY, point.data(), point.size());
  return make_key("EC", builder.get());
}

Result<KeyPtr> ed25519_key(const Texts& texts) {
  TRY_ASSIGN(SecretBytes x, bytes_of(texts, "x"));
  if (x.size() != kCoordinateBytes) return fail(ErrorCode::kInvalidArgument, "it is no Ed25519 key");
  KeyPtr key(EVP_PKEY_new_raw_public_key(EVP_PKEY_ED25519, nullptr, x.data(), x.size()));
  if (!key) return fail(ErrorCode::kInvalidArgument, "it is no Ed25519 key");
  return key;
}

Result<Fingerprint> fingerprint_of(EVP_PKEY* key) {
  unsigned char* der = nullptr;
  int length = i2d_PUBKEY(key, &der);
  if (length <= 0) return fail(ErrorCode::kInternal, "it cannot be written as DER");
  Fingerprint fingerprint;
  SHA256(der, static_cast<std::size_t>(length), fingerprint.data());
  OPENSSL_free(der);
  return fingerprint;
}

std::string value_or_empty(const Texts& texts, std::string_view name) {
  auto it = texts.find(name);
  return it == texts.end() ? std::string() : it->second;
}

struct Kind {
  std::string_view kty, crv, alg;
  Algorithm algorithm;
  Result<KeyPtr> (*make)(const Texts&);
};
constexpr Kind kKinds[] = {{"RSA", "", "RS256", Algorithm::kRs256, rsa_key},
                           {"EC", "P-256", "ES256", Algorithm::kEs256, ec_key},
                           {"OKP", "Ed25519", "EdDSA", Algorithm::kEdDsa, ed25519_key}};

// Only for checking signatures, as far as the key says what it is for.
Status check_purpose(const object& fields, const Texts& texts, const Kind& kind) {
  std::string use = value_or_empty(texts, "use"), alg = value_or_empty(texts, "alg");
  if (!use.empty() && use != "sig") return fail(ErrorCode::kInvalidArgument, "its 'use' is not sig");
  if (!alg.empty() && alg != kind.alg) return fail(ErrorCode::kInvalidArgument, "its 'alg' is not {}", kind.alg);
  for (auto field : fields) {
    if (field.key != "key_ops") continue;
    array operations;
    if (field.value.get(operations)) return fail(ErrorCode::kInvalidArgument, "its 'key_ops' is no list");
    bool verify = false;
    for (auto operation : operations) {
      std::string_view name;
      verify = verify || (!operation.get(name) && name == "verify");
    }
    if (!verify) return fail(ErrorCode::kInvalidArgument, "its 'key_ops' has no verify");
  }
  return {};
}

Result<Key> read_key(const object& fields, std::string& id) {
  TRY_ASSIGN(Texts texts, texts_of(fields));
  id = value_or_empty(texts, "kid");
  std::string kty = value_or_empty(texts, "kty"), crv = value_or_empty(texts, "crv");
  const auto* kind =
      std::ranges::find_if(kKinds, [&](const Kind& k) { return k.kty == kty && (k.crv.empty() || k.crv == crv); });
  if (kind == std::end(kKinds))
    return fail(ErrorCode::kUnsupported, "its kind is none of RSA, EC P-256 and OKP Ed25519");
  TRY(check_purpose(fields, texts, *kind));
  Key key{id, kind->algorithm, {}, {}};
  TRY_ASSIGN(key.key, kind->make(texts));
  TRY_ASSIGN(key.fingerprint, fingerprint_of(key.key.get()));
  return key;
}

// A text from outside, fit for a log.
std::string shown(std::string_view text) {
  std::string safe;
  for (char c : text.substr(0, kShownId)) safe += c > ' ' && c <= '~' ? c : '?';
  return text.size() > kShownId ? safe + "..." : safe;
}

auto order_of(const Key& key) { return std::tie(key.algorithm, key.id, key.fingerprint); }

void read_keys(const array& list, KeySet& set) {
  std::size_t index = 0;
  for (auto item : list) {
    if (index == kMaxKeys) {
      set.notes.push_back(fmt::format("keys behind the first {} are left out", kMaxKeys));
      break;
    }
    std::string id;
    object fields;
    Result<Key> key =
        item.get(fields) ? fail(ErrorCode::kInvalidArgument, "it is no JSON object") : read_key(fields, id);
    if (key) {
      set.keys.push_back(std::move(*key));
    } else {
      set.notes.push_back(fmt::format("key {}{} is left out: {}", index, id.empty() ? "" : " (" + shown(id) + ")",
                                      key.error().context));
    }
    ++index;
  }
}

void note_doubles(KeySet& set) {
  for (std::size_t i = 1; i < set.keys.size(); ++i) {
    const Key &a = set.keys[i - 1], &b = set.keys[i];
    if (!a.id.empty() && a.id == b.id && a.algorithm == b.algorithm)
      set.notes.push_back(fmt::format("several keys of one kind are called {}; all of them are tried", shown(a.id)));
  }
}

}  // namespace

bool KeySet::has(const Fingerprint& fingerprint) const {
  return std::ranges::any_of(keys, [&](const Key& key) { return key.fingerprint == fingerprint; });
}

bool KeySet::same_keys(const KeySet& other) const {
  return std::ranges::equal(keys, other.keys, [](const Key& a, const Key& b) { return order_of(a) == order_of(b); });
}

Result<KeySet> parse_key_set(std::string_view json) {
  if (json.size() > kMaxKeySetBytes)
    return fail(ErrorCode::kLimit, "the key set is larger than {} bytes", kMaxKeySetBytes);
  simdjson::dom::parser parser;
  simdjson::padded_string padded(json);
  element root;
  if (auto error = parser.parse(padded).get(root))
    return fail(ErrorCode::kInvalidArgument, "the key set is not JSON ({})", simdjson::error_message(error));
  array list;
  object top;
  if (root.get(top) || top["keys"].get(list))
    return fail(ErrorCode::kInvalidArgument, "the key set is no JSON object with a list 'keys'");
  KeySet set;
  read_keys(list, set);
  std::ranges::sort(set.keys, [](const Key& a, const Key& b) { return order_of(a) < order_of(b); });
  auto doubles = std::ranges::unique(set.keys, [](const Key& a, const Key& b) { return order_of(a) == order_of(b); });
  set.keys.erase(doubles.begin(), doubles.end());
  note_doubles(set);
  if (set.keys.empty())
    return fail(ErrorCode::kInvalidArgument, "the key set has no key that casad can check a signature with{}{}",
                set.notes.empty() ? "" : ": ", set.notes.empty() ? "" : set.notes.front());
  return set;
}

}  // namespace casa::jwt

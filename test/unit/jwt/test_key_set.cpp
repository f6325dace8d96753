// Reading a key set: what is taken, what is left out and why.
#include <catch2/catch_test_macros.hpp>

#include "keys.h"

using namespace casa::jwt;
using namespace casa::jwt::test;

namespace {

// The only note about a set of one good key and this one.
std::string note_of(const std::string& jwk) {
  static const SigningKey good = SigningKey::ed25519();
  auto set = keys_of({good.jwk(R"("kid":"good")"), jwk});
  CHECK(set.keys.size() == 1);
  REQUIRE(set.notes.size() == 1);
  return set.notes[0];
}

bool has(const std::string& text, const char* part) {
  INFO(text);
  return text.find(part) != std::string::npos;
}

std::string replaced(std::string text, const std::string& from, const std::string& to) {
  auto at = text.find(from);
  REQUIRE(at != std::string::npos);
  return text.replace(at, from.size(), to);
}

}  // namespace

TEST_CASE("the three kinds, with what a key may say of its purpose") {
  auto rsa = SigningKey::rsa(), ec = SigningKey::ec(), ed = SigningKey::ed25519();
  auto set = keys_of({rsa.jwk(R"("kid":"r","use":"sig","alg":"RS256","x5c":["x"],"x5t":"y")"),
                      ec.jwk(R"("key_ops":["verify","sign"])"), ed.jwk(R"("kid":"e","alg":"EdDSA")")});
  CHECK(set.notes.empty());
  REQUIRE(set.keys.size() == 3);
  CHECK(set.keys[0].algorithm == Algorithm::kRs256);
  CHECK(set.keys[0].id == "r");
  CHECK(set.keys[1].algorithm == Algorithm::kEs256);
  CHECK(set.keys[1].id.empty());
  CHECK(set.keys[2].algorithm == Algorithm::kEdDsa);
  CHECK(set.has(set.keys[2].fingerprint));
}

TEST_CASE("keys that are left out") {
  auto rsa = SigningKey::rsa(), ec = SigningKey::ec(), ed = SigningKey::ed25519();
  CHECK(has(note_of(R"({"kty":"oct","k":"c2VjcmV0","kid":"shared"})"),
            "key 1 (shared) is left out: its kind is none of"));
  CHECK(has(note_of(R"({"kid":"bare"})"), "its kind is none of"));
  CHECK(has(note_of("\"text\""), "no JSON object"));
  CHECK(has(note_of(replaced(ec.jwk(), "P-256", "P-384")), "its kind is none of"));
  CHECK(has(note_of(replaced(ed.jwk(), "Ed25519", "X25519")), "its kind is none of"));
  CHECK(has(note_of(rsa.jwk(R"("use":"enc")")), "'use' is not sig"));
  CHECK(has(note_of(rsa.jwk(R"("alg":"RS512")")), "'alg' is not RS256"));
  CHECK(has(note_of(rsa.jwk(R"("alg":"HS256")")), "'alg' is not RS256"));
  CHECK(has(note_of(ec.jwk(R"("key_ops":["sign"])")), "'key_ops' has no verify"));
  CHECK(has(note_of(ec.jwk(R"("key_ops":"verify")")), "'key_ops' is no list"));
  CHECK(has(note_of(SigningKey::rsa(1024).jwk()), "it has 1024 bits"));
  CHECK(has(note_of(rsa.jwk(R"("kty":"RSA")")), "'kty' twice"));
  CHECK(has(note_of(rsa.jwk(R"("kid":7)")), "'kid' is no text"));
  CHECK(has(note_of(replaced(rsa.jwk(), R"("e":"AQAB")", R"("e":"AQ")")), "no RSA key"));
  CHECK(has(note_of(replaced(rsa.jwk(), R"("e":"AQAB")", R"("e":"AQ==")")), "'e' is missing or not base64url"));
  CHECK(has(note_of(replaced(rsa.jwk(), R"("e":"AQAB")", R"("f":"AQAB")")), "'e' is missing or not base64url"));
  CHECK(has(note_of(R"({"kty":"OKP","crv":"Ed25519","x":"AAAA"})"), "no Ed25519 key"));
  std::string off_curve = R"({"kty":"EC","crv":"P-256","x":")" + base64url(std::string(32, 1)) + R"(","y":")" +
                          base64url(std::string(32, 2)) + "\"}";
  CHECK(has(note_of(off_curve), "no EC key"));
  CHECK(has(note_of(R"({"kty":"oct","kid":"a\u001b[31m\nb"})"), "key 1 (a?[31m?b) is left out"));
}

TEST_CASE("keys that stand twice") {
  auto a = SigningKey::ed25519(), b = SigningKey::ed25519();
  auto same = keys_of({a.jwk(R"("kid":"k")"), a.jwk(R"("kid":"k")")});
  CHECK(same.keys.size() == 1);
  CHECK(same.notes.empty());
  auto other = keys_of({a.jwk(R"("kid":"k")"), b.jwk(R"("kid":"k")")});
  CHECK(other.keys.size() == 2);
  REQUIRE(other.notes.size() == 1);
  CHECK(has(other.notes[0], "several keys of one kind are called k"));
}

TEST_CASE("the order in which keys stand is of no matter, their names are") {
  auto a = SigningKey::ed25519(), b = SigningKey::ec();
  auto one = keys_of({a.jwk(R"("kid":"a")"), b.jwk(R"("kid":"b")")});
  CHECK(one.same_keys(keys_of({b.jwk(R"("kid":"b","use":"sig")"), a.jwk(R"("kid":"a")")})));
  CHECK_FALSE(one.same_keys(keys_of({a.jwk(R"("kid":"a")"), b.jwk(R"("kid":"c")")})));
  CHECK_FALSE(one.same_keys(keys_of({a.jwk(R"("kid":"a")")})));
}

TEST_CASE("no key set at all") {
  auto error = [](const std::string& text) {
    auto set = parse_key_set(text);
    REQUIRE_FALSE(set);
    return set.error().context;
  };
  CHECK(has(error(""), "not JSON"));
  CHECK(has(error("<html>"), "not JSON"));
  CHECK(has(error(R"({"keys":[]} x)"), "not JSON"));
  CHECK(has(error("[]"), "no JSON object with a list 'keys'"));
  CHECK(has(error(R"({"keys":{}})"), "no JSON object with a list 'keys'"));
  CHECK(has(error(R"({"keys":[]})"), "no key that casad can check"));
  CHECK(has(error(R"({"keys":[{"kty":"oct","k":"AA"}]})"), "key 0 is left out"));
  CHECK(has(error(std::string(kMaxKeySetBytes + 1, ' ')), "larger than"));
}

TEST_CASE("more keys than are taken") {
  auto ed = SigningKey::ed25519();
  std::vector<std::string> many;
  for (std::size_t i = 0; i <= kMaxKeys; ++i) many.push_back(ed.jwk(R"("kid":")" + std::to_string(i) + "\""));
  auto set = keys_of(many);
  CHECK(set.keys.size() == kMaxKeys);
  REQUIRE(set.notes.size() == 1);
  CHECK(has(set.notes[0], "behind the first 256"));
}

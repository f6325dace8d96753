// Each token once for each set of keys; what a change of keys takes back; and nothing left of a token.
#include <fcntl.h>
#include <unistd.h>

#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <chrono>
#include <cstring>
#include <fstream>
#include <map>

#include "../run_until.h"
#include "jwt/token_room.h"
#include "keys.h"

using namespace casa::jwt;
using namespace casa::jwt::test;
using std::chrono::milliseconds;

namespace {

constexpr std::int64_t kNow = 1'750'000'000;

struct Bench {
  explicit Bench(VerifierOptions options = {}) {
    options.now = [this] { return now.load(); };
    verifier = std::make_unique<Verifier>(io, [this](const Verdict& verdict) { verdicts.push_back(verdict); }, options);
  }
  bool offer(const std::string& token) { return verifier->offer(sha256(token), token); }
  // Runs the executor until there are so many verdicts, or a while has passed.
  void wait(std::size_t count) {
    casa::test::run_until(io, [&] { return verdicts.size() >= count; });
    REQUIRE(verdicts.size() == count);
  }
  void settle() {
    io.restart();
    io.run_for(milliseconds{100});
  }

  std::atomic<std::int64_t> now = kNow;
  boost::asio::io_context io;
  boost::asio::executor_work_guard<boost::asio::io_context::executor_type> busy{io.get_executor()};
  std::vector<Verdict> verdicts;
  std::unique_ptr<Verifier> verifier;
};

const SigningKey& key() {
  static const SigningKey made = SigningKey::ec();
  return made;
}
std::string claims(const std::string& name, std::int64_t expires = kNow + 300) {
  return R"({"sub":")" + name + R"(","exp":)" + std::to_string(expires) + "}";
}

}  // namespace

TEST_CASE("a token is checked once, and its verdict told again to who asks again") {
  Bench bench;
  std::string token = key().token_of(claims("a"), "k");
  CHECK_FALSE(bench.offer(token));  // no keys yet: it may be offered again
  bench.verifier->set_keys(shared_keys({key().jwk(R"("kid":"k")")}));
  CHECK(bench.offer(token));
  CHECK(bench.offer(token));  // waits already
  bench.wait(1);
  CHECK(bench.verdicts[0].sha256 == sha256(token));
  CHECK(bench.verdicts[0].signature == CASA_SIGNATURE_VALID);
  CHECK(bench.verdicts[0].expires == kNow + 360);
  CHECK(bench.offer(token));  // the kernel forgot it
  bench.wait(2);
  CHECK(bench.verdicts[1].signature == CASA_SIGNATURE_VALID);
  bench.settle();
  CHECK(bench.verifier->counts().checked == 1);
  CHECK(bench.verifier->counts().not_queued == 1);
  // Told again when it is over.
  bench.now = kNow + 360;
  CHECK(bench.offer(token));
  bench.wait(3);
  CHECK(bench.verdicts[2].signature == CASA_SIGNATURE_EXPIRED);
  CHECK(bench.verifier->counts().checked == 1);
}

TEST_CASE("a change of keys takes back what it may change, and nothing else") {
  Bench bench;
  auto next = SigningKey::ed25519();
  std::string valid = key().token_of(claims("v"), "k"), unknown = next.token_of(claims("u"), "n"),
              none = base64url(R"({"alg":"none"})") + "." + base64url("{}") + ".",
              wrong = SigningKey::ec().token_of(claims("w"), "k");
  auto first = shared_keys({key().jwk(R"("kid":"k")")});
  bench.verifier->set_keys(first);
  for (const auto& token : {valid, unknown, none, wrong}) CHECK(bench.offer(token));
  bench.wait(4);
  CHECK(bench.verdicts[0].signature == CASA_SIGNATURE_VALID);
  CHECK(bench.verdicts[1].signature == CASA_SIGNATURE_UNKNOWN_KEY);
  CHECK(bench.verdicts[2].signature == CASA_SIGNATURE_INVALID);
  CHECK(bench.verdicts[3].signature == CASA_SIGNATURE_INVALID);
  bench.verifier->set_keys(shared_keys({key().jwk(R"("kid":"k","use":"sig")")}));  // the same keys
  CHECK(bench.verdicts.size() == 4);

  bench.verifier->set_keys(shared_keys({key().jwk(R"("kid":"k")"), next.jwk(R"("kid":"n")")}));
  REQUIRE(bench.verdicts.size() == 6);
  for (std::size_t i : {4u, 5u}) {
    CHECK(bench.verdicts[i].signature == CASA_SIGNATURE_UNVERIFIED);
    CHECK((bench.verdicts[i].sha256 == sha256(unknown) || bench.verdicts[i].sha256 == sha256(wrong)));
  }
  CHECK(bench.offer(unknown));
  bench.wait(7);
  CHECK(bench.verdicts[6].signature == CASA_SIGNATURE_VALID);

  // A key that is withdrawn takes its tokens with it.
  bench.verifier->set_keys(shared_keys({next.jwk(R"("kid":"n")")}));
  REQUIRE(bench.verdicts.size() == 8);
  CHECK(bench.verdicts[7].sha256 == sha256(valid));
  CHECK(bench.verdicts[7].signature == CASA_SIGNATURE_UNVERIFIED);
  CHECK(bench.offer(valid));
  bench.wait(9);
  CHECK(bench.verdicts[8].signature == CASA_SIGNATURE_UNKNOWN_KEY);
}

TEST_CASE("what was found under the keys before does not count for those that are in force") {
  Bench bench;
  std::string token = key().token_of(claims("a"), "k");
  bench.verifier->set_keys(shared_keys({key().jwk(R"("kid":"other")")}));
  CHECK(bench.offer(token));
  bench.verifier->set_keys(shared_keys({key().jwk(R"("kid":"k")")}));  // before the result is back
  bench.settle();
  CHECK(bench.verdicts.empty());
  CHECK(bench.offer(token));
  bench.wait(1);
  CHECK(bench.verdicts[0].signature == CASA_SIGNATURE_VALID);
}

TEST_CASE("a token that is too early is taken back when its time comes") {
  Bench bench;
  bench.verifier->set_keys(shared_keys({key().jwk()}));
  std::string token = key().token_of(R"({"nbf":)" + std::to_string(kNow + 100) + "}");
  CHECK(bench.offer(token));
  bench.wait(1);
  CHECK(bench.verdicts[0].signature == CASA_SIGNATURE_EXPIRED);
  bench.now = kNow + 39;
  bench.verifier->every_second();
  CHECK(bench.verdicts.size() == 1);
  bench.now = kNow + 40;
  bench.verifier->every_second();
  REQUIRE(bench.verdicts.size() == 2);
  CHECK(bench.verdicts[1].signature == CASA_SIGNATURE_UNVERIFIED);
  CHECK(bench.offer(token));
  bench.wait(3);
  CHECK(bench.verdicts[2].signature == CASA_SIGNATURE_VALID);
}

TEST_CASE("a hash that is not that of the token gets no verdict") {
  Bench bench;
  bench.verifier->set_keys(shared_keys({key().jwk()}));
  std::string token = key().token_of(claims("a"));
  CHECK(bench.verifier->offer(sha256("another"), token));
  bench.settle();
  CHECK(bench.verdicts.empty());
  CHECK(bench.verifier->counts().mismatched == 1);
}

TEST_CASE("only so many hashes are remembered") {
  Bench bench({.queue = 16, .remembered = 2, .now = {}});
  bench.verifier->set_keys(shared_keys({key().jwk()}));
  std::vector<std::string> tokens;
  for (const char* name : {"a", "b", "c"}) tokens.push_back(key().token_of(claims(name)));
  for (const auto& token : tokens) CHECK(bench.offer(token));
  bench.wait(3);
  CHECK(bench.offer(tokens[0]));
  bench.wait(4);
  CHECK(bench.verifier->counts().checked == 4);
  CHECK(bench.offer(tokens[2]));
  bench.wait(5);
  CHECK(bench.verifier->counts().checked == 4);
}

TEST_CASE("no verdict after stop, and none is waited for") {
  Bench bench;
  bench.verifier->set_keys(shared_keys({key().jwk()}));
  for (int i = 0; i < 50; ++i) bench.offer(key().token_of(claims(std::to_string(i))));
  bench.verifier->stop();
  CHECK_FALSE(bench.offer(key().token_of(claims("late"))));
  bench.settle();
  CHECK(bench.verdicts.empty());
}

TEST_CASE("the room: full, too long, closed") {
  TokenRoom room(2);
  std::string token(kMaxTokenBytes, 'x'), longer = token + "x";
  CHECK_FALSE(room.put({{}, {}, 0, longer}));
  CHECK(room.put({{}, {}, 1, token}));
  CHECK(room.put({{}, {}, 2, "b"}));
  CHECK_FALSE(room.put({{}, {}, 3, "c"}));
  std::vector<std::string> seen;
  const char* place = nullptr;
  CHECK(room.take([&](const Job& job) {
    place = job.token.data();
    seen.emplace_back(job.token);
    CHECK_FALSE(room.put({{}, {}, 3, "c"}));  // its place is in use until it is wiped
  }));
  CHECK(seen == std::vector{token});
  CHECK(std::string(place, kMaxTokenBytes) == std::string(kMaxTokenBytes, '\0'));
  CHECK(room.put({{}, {}, 3, "c"}));
  room.close();
  CHECK_FALSE(room.put({{}, {}, 4, "d"}));
  CHECK_FALSE(room.take([](const Job&) { FAIL("closed"); }));
}

// The whole memory of this process is searched for the token, as it is and decoded. What the test itself holds is wiped before.
TEST_CASE("nothing of a token is left in memory when it was checked") {
#ifdef __has_feature
#if __has_feature(address_sanitizer)
  SKIP("the sanitizer keeps what was freed, and has terabytes of its own");
#endif
#endif
  // The marks are put together at run time, and inverted while they wait, so that they stand nowhere else.
  std::string inverted;
  for (char c : std::string_view("mark-of-claims-7f3a9c51")) inverted += static_cast<char>(~c);
  auto mark = [&] {
    std::string text;
    for (char c : inverted) text += static_cast<char>(~c);
    return text;
  };
  auto find_in_memory = [&](const std::string& inverse) {
    std::ifstream maps("/proc/self/maps");
    int fd = ::open("/proc/self/mem", O_RDONLY | O_CLOEXEC);
    REQUIRE(fd >= 0);
    std::size_t found = 0;
    for (std::string line; std::getline(maps, line);) {
      unsigned long begin = 0, end = 0;
      char rights[5] = {};
      if (std::sscanf(line.c_str(), "%lx-%lx %4s", &begin, &end, rights) != 3 || rights[1] != 'w') continue;
      std::vector<char> bytes(end - begin);
      auto n = ::pread(fd, bytes.data(), bytes.size(), static_cast<off_t>(begin));
      for (ssize_t i = 0; i + static_cast<ssize_t>(inverse.size()) <= n; ++i) {
        bool same = true;
        for (std::size_t k = 0; same && k < inverse.size(); ++k)
          same = bytes[static_cast<std::size_t>(i) + k] == static_cast<char>(~inverse[k]);
        found += same;
      }
      OPENSSL_cleanse(bytes.data(), bytes.size());
    }
    ::close(fd);
    return found;
  };
  Bench bench;
  bench.verifier->set_keys(shared_keys({key().jwk()}));
  auto inverse_of = [](std::string_view text) {
    std::string inverse;
    for (char c : text) inverse += static_cast<char>(~c);
    return inverse;
  };
  std::string in_claims, in_signature;
  {
    std::string secret = mark(), body;
    body.reserve(200);
    body.append(R"({"secret":")").append(secret).append(R"(","exp":1750000300})");
    std::string encoded = base64url(body), token;
    token.reserve(kMaxTokenBytes);
    token.append(base64url(R"({"alg":"ES256","x":"plain"})")).append(".").append(encoded);
    std::string signature = key().sign(token), signature_text = base64url(signature);
    token.append(".").append(signature_text);
    in_claims = inverse_of(std::string_view(token).substr(token.find('.') + 10, 30));
    in_signature = inverse_of(std::string_view(token).substr(token.rfind('.') + 10, 30));
    // The search finds what there is.
    CHECK(find_in_memory(inverted) >= 1);
    CHECK(find_in_memory(in_claims) >= 2);
    CHECK(find_in_memory(in_signature) >= 2);
    CHECK(bench.offer(token));
    bench.wait(1);
    CHECK(bench.verdicts[0].signature == CASA_SIGNATURE_VALID);
    for (auto* text : {&secret, &body, &encoded, &token, &signature, &signature_text})
      OPENSSL_cleanse(text->data(), text->size());
  }
  bench.settle();
  CHECK(find_in_memory(inverted) == 0);
  CHECK(find_in_memory(in_claims) == 0);
  CHECK(find_in_memory(in_signature) == 0);
}

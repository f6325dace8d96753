// Key sets from files and URLs: what is good is taken, whatever is bad keeps the last good one and says why.
#include <sys/stat.h>

#include <chrono>

#include "../run_until.h"
#include "jwt/key_source.h"
#include "key_server.h"

using namespace casa::jwt;
using namespace casa::jwt::test;
using casa::parse_ip;
using std::chrono::milliseconds;

namespace {

const KeySourceOptions kQuick{.ca_file = {},
                              .refresh = milliseconds{200},
                              .first_retry = milliseconds{20},
                              .least_pause = milliseconds{30},
                              .timeout = milliseconds{300},
                              .file_period = milliseconds{10}};

struct Watched {
  explicit Watched(const std::string& where, KeySourceOptions options = kQuick) { begin(where, std::move(options)); }
  Watched() = default;
  void begin(const std::string& where, KeySourceOptions options) {
    auto location = casa::parse_location(where);
    REQUIRE(location);
    source = KeySource::make(
        io, *location, [this](std::shared_ptr<const KeySet> set) { sets.push_back(std::move(set)); },
        [this](const std::string& text) {
          if (problems.empty() || problems.back() != text) problems.push_back(text);
        },
        std::move(options));
    source->start();
  }
  template <typename Done>
  bool until(Done done) {
    return casa::test::run_until(io, done, milliseconds{4000});
  }
  bool problem(const char* part) {
    bool found = until([&] { return !problems.empty() && problems.back().find(part) != std::string::npos; });
    INFO((problems.empty() ? std::string("no problem") : problems.back()));
    CHECK(found);
    return found;
  }
  bool keys(std::size_t count) {
    return until([&] { return !sets.empty() && sets.back()->keys.size() == count; });
  }
  void pass(milliseconds time) {
    auto end = std::chrono::steady_clock::now() + time;
    while (std::chrono::steady_clock::now() < end) {
      io.restart();
      io.run_for(milliseconds{5});
    }
  }

  asio::io_context io;
  asio::executor_work_guard<asio::io_context::executor_type> busy{io.get_executor()};
  std::vector<std::shared_ptr<const KeySet>> sets;
  std::vector<std::string> problems;
  std::unique_ptr<KeySource> source;
};

std::string one_key() {
  static const std::string text = jwks({SigningKey::ed25519().jwk()});
  return text;
}
std::string two_keys() {
  static const std::string text = jwks({SigningKey::ed25519().jwk(), SigningKey::ec().jwk()});
  return text;
}

struct Authority {
  Certificate root{"", nullptr}, server{"DNS:keys.example,IP:127.0.0.1", &root};
  TempFile ca{root.pem()};
};
const Authority& authority() {
  static const Authority made;
  return made;
}

// A TLS server and who watches it.
struct Remote : Watched {
  explicit Remote(const Certificate& certificate = authority().server, const std::string& host = "127.0.0.1",
                  const std::string& ca = authority().ca.path(), const std::string& answer = http_answer(one_key()))
      : server(io, &certificate) {
    server.answer = answer;
    KeySourceOptions options = kQuick;
    options.ca_file = ca;
    begin("https://" + host + ":" + std::to_string(server.port()) + "/realms/a/certs?x=1", options);
  }
  KeyServer server;
};

}  // namespace

TEST_CASE("a file: read, replaced by garbage, by nothing, by another, by a renamed one") {
  TempFile file(one_key());
  Watched watched(file.path());
  REQUIRE(watched.keys(1));
  watched.pass(milliseconds{60});
  CHECK(watched.sets.size() == 1);  // unchanged: not told again
  file.write("{\"keys\":[");
  CHECK(watched.problem("is not JSON"));
  CHECK(watched.problems.back().ends_with("; the keys that were read last are used on"));
  ::unlink(file.path().c_str());
  CHECK(watched.problem("cannot read the keys in"));
  CHECK(watched.sets.size() == 1);
  file.write(two_keys());
  CHECK(watched.keys(2));
  CHECK(watched.problems.back().empty());
  file.replace(one_key());
  CHECK(watched.keys(1));
  std::size_t told = watched.sets.size();
  watched.source->stop();
  file.replace(two_keys());
  watched.pass(milliseconds{60});
  CHECK(watched.sets.size() == told);
}

TEST_CASE("a file that is none, too large, or not there yet") {
  Watched directory("/tmp");
  CHECK(directory.problem("is not a regular file"));
  TempFile file(std::string(kMaxKeySetBytes + 1, ' '));
  Watched large(file.path());
  CHECK(large.problem("larger than"));
  std::string fifo = file.path() + ".fifo";
  REQUIRE(::mkfifo(fifo.c_str(), 0600) == 0);
  Watched pipe(fifo);
  CHECK(pipe.problem("is not a regular file"));
  ::unlink(fifo.c_str());
  Watched later(fifo);
  CHECK(later.problem("cannot read the keys in"));
  CHECK(later.problems.back().find("are used on") == std::string::npos);
  std::ofstream(fifo) << one_key();
  CHECK(later.keys(1));
  ::unlink(fifo.c_str());
}

TEST_CASE("a URL: asked for again and again, the last good keys kept in between") {
  Remote remote;
  REQUIRE(remote.keys(1));
  CHECK(remote.server.last_request.starts_with("GET /realms/a/certs?x=1 HTTP/1.1\r\n"));
  CHECK(remote.server.last_request.find("Host: 127.0.0.1:" + std::to_string(remote.server.port())) !=
        std::string::npos);
  remote.server.answer = http_answer(two_keys());
  CHECK(remote.keys(2));
  remote.server.answer = http_answer("oops", "500 Internal Server Error");
  CHECK(remote.problem("it answers 500; the keys that were read last are used on"));
  std::size_t told = remote.sets.size();
  remote.server.answer = http_answer("<html>");
  CHECK(remote.problem("is not JSON"));
  remote.server.answer = http_answer("{\"keys\":[]}");
  CHECK(remote.problem("no key that casad can check"));
  CHECK(remote.sets.size() == told);
  remote.server.answer = http_answer(one_key());
  CHECK(remote.keys(1));
  CHECK(remote.problems.back().empty());
}

TEST_CASE("a server that says nothing, or little by little, or too much, or goes away") {
  Remote silent(authority().server, "127.0.0.1", authority().ca.path(), "");
  CHECK(silent.problem("it did not answer in time"));
  CHECK(silent.sets.empty());
  Remote slow;
  slow.server.drip = true;
  CHECK(slow.problem("it did not answer in time"));
  Remote large(authority().server, "127.0.0.1", authority().ca.path(),
               http_answer(std::string(kMaxKeySetBytes + 1, ' ')));
  CHECK(large.problem("its answer is larger than 1048576 bytes"));
  Remote endless(authority().server, "127.0.0.1", authority().ca.path(),
                 "HTTP/1.1 200 OK\r\nX: " + std::string(20'000, 'x') + "\r\n\r\n");
  CHECK(endless.problem("reading the answer"));
  Remote nonsense(authority().server, "127.0.0.1", authority().ca.path(), "SSH-2.0-x\r\n\r\n");
  CHECK(nonsense.problem("reading the answer"));
}

TEST_CASE("redirects are not followed") {
  Remote remote(authority().server, "127.0.0.1", authority().ca.path(),
                http_answer("", "302 Found", "Location: /elsewhere\r\n"));
  CHECK(remote.problem("it answers 302, a redirect, which is not followed"));
  CHECK(remote.server.last_request.find("elsewhere") == std::string::npos);
}

TEST_CASE("certificates that are not trusted") {
  const Authority& good = authority();
  Certificate other_root("", nullptr);
  TempFile other_ca(other_root.pem());
  Remote wrong_ca(good.server, "127.0.0.1", other_ca.path());
  CHECK(wrong_ca.problem("its certificate is not trusted"));
  Certificate expired("IP:127.0.0.1", &good.root, -7200, -3600);
  Remote old(expired);
  CHECK(old.problem("certificate has expired"));
  Certificate future("IP:127.0.0.1", &good.root, 3600, 7200);
  Remote early(future);
  CHECK(early.problem("not yet valid"));
  Certificate elsewhere("DNS:elsewhere.example,IP:192.0.2.1", &good.root);
  Remote misnamed(elsewhere);
  CHECK(misnamed.problem("its certificate is not trusted"));
  Remote self_signed(other_root);
  CHECK(self_signed.problem("its certificate is not trusted"));
  Remote no_ca(good.server, "127.0.0.1", "/nonexistent/ca.pem");
  CHECK(no_ca.problem("cannot read the certificates in /nonexistent/ca.pem"));
  Remote system_ca(good.server, "127.0.0.1", "");
  CHECK(system_ca.problem("its certificate is not trusted"));
  for (auto* remote : {&wrong_ca, &old, &early, &misnamed, &self_signed, &no_ca, &system_ca}) {
    CHECK(remote->sets.empty());
    CHECK(remote->server.last_request.empty());
  }
}

TEST_CASE("a host with a name: its addresses come from outside, its certificate must have it") {
  Remote named(authority().server, "keys.example");
  CHECK(named.problem("its host has no address"));
  CHECK(named.server.connections == 0);
  named.source->set_addresses({*parse_ip("::1"), *parse_ip("127.0.0.1")});  // nobody listens at the first
  CHECK(named.keys(1));
  CHECK(named.server.last_request.find("Host: keys.example:") != std::string::npos);
  Remote other(authority().server, "other.example");
  other.source->set_addresses({*parse_ip("127.0.0.1")});
  CHECK(other.problem("its certificate is not trusted"));
}

TEST_CASE("plain HTTP, for loopback") {
  Watched watched;
  KeyServer server(watched.io, nullptr);
  server.answer = http_answer(one_key());
  watched.begin("http://localhost:" + std::to_string(server.port()) + "/k", kQuick);
  CHECK(watched.keys(1));
  // TLS where plain HTTP is, and the other way round.
  Watched confused;
  KeyServer plain(confused.io, nullptr);
  plain.answer = http_answer(one_key());
  confused.begin("https://127.0.0.1:" + std::to_string(plain.port()) + "/k", kQuick);
  CHECK(confused.problem("127.0.0.1"));
  CHECK(confused.sets.empty());
}

TEST_CASE("newer keys can be asked for, but not as often as somebody likes") {
  Watched watched;
  KeyServer server(watched.io, nullptr);
  server.answer = http_answer(one_key());
  KeySourceOptions options = kQuick;
  options.refresh = milliseconds{60'000};
  options.least_pause = milliseconds{100};
  watched.begin("http://127.0.0.1:" + std::to_string(server.port()) + "/k", options);
  REQUIRE(watched.keys(1));
  server.answer = http_answer(two_keys());
  auto start = std::chrono::steady_clock::now();
  CHECK(watched.until([&] {
    watched.source->ask_for_newer();
    return server.connections == 4;
  }));
  CHECK(std::chrono::steady_clock::now() - start >= milliseconds{250});
  CHECK(watched.keys(2));
}

TEST_CASE("a source that is stopped or destroyed in the middle of a fetch says nothing more") {
  Remote stopped(authority().server, "127.0.0.1", authority().ca.path(), "");
  CHECK(stopped.until([&] { return !stopped.server.last_request.empty(); }));
  stopped.source->stop();
  stopped.pass(milliseconds{400});
  CHECK(stopped.problems.empty());
  Remote gone(authority().server, "127.0.0.1", authority().ca.path(), "");
  CHECK(gone.until([&] { return !gone.server.last_request.empty(); }));
  gone.source.reset();
  gone.pass(milliseconds{400});
  CHECK(gone.problems.empty());
}

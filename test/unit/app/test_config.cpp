// The config file: every key, and errors with their place and what to write instead.
#include "app/config.h"

#include <catch2/catch_test_macros.hpp>
#include <cstdlib>
#include <filesystem>
#include <fstream>

namespace {

struct Folder {
  Folder() { REQUIRE(::mkdtemp(path) != nullptr); }
  ~Folder() { std::filesystem::remove_all(path); }
  char path[64] = "/tmp/casad-config-XXXXXX";
};

struct Read {
  explicit Read(const std::string& text) {
    std::string path = std::string(folder.path) + "/casad.yaml";
    std::ofstream(path) << text;
    status = casa::app::read_config(path, true, config);
  }
  // The error without the file's path, which differs from run to run.
  std::string error() const {
    if (status) return {};
    std::string text = status.error().context, path = std::string(folder.path) + "/casad.yaml:";
    for (auto at = text.find(path); at != std::string::npos; at = text.find(path)) text.erase(at, path.size());
    return text;
  }
  Folder folder;
  casa::app::Config config;
  casa::Status status;
};

}  // namespace

TEST_CASE("config: every key, and errors with place and suggestion") {
  Folder folder;
  std::string path = std::string(folder.path) + "/casad.yaml";
  casa::app::Config config;
  CHECK(casa::app::read_config(path, false, config));
  CHECK_FALSE(casa::app::read_config(path, true, config));
  std::ofstream(path)
      << "policyDir: /p\napiSocket: /s\ncgroupRoot: /c\nbpffs: /b\nstateDir: /d\nlogLevel: debug\nenforcement: "
         "audit\nlimits: {cgroups: 7, workloads: 8, policyEntries: 9, addresses: 10, prefixes: 11}\n";
  REQUIRE(casa::app::read_config(path, true, config));
  CHECK(config.policy_dir == "/p");
  CHECK(config.audit);
  CHECK(config.limits.cgroups == 7);
  CHECK(config.limits.prefixes == 11);
  std::ofstream(path) << "polcyDir: /p\nlimits: {cgroups: many}\n";
  auto bad = casa::app::read_config(path, true, config);
  REQUIRE_FALSE(bad);
  CHECK(bad.error().context.find("casad.yaml:1:1: error:") != std::string::npos);
  CHECK(bad.error().context.find("policyDir") != std::string::npos);
  CHECK(bad.error().context.find(":2:19: error:") != std::string::npos);
}

TEST_CASE("config dns: resolvers, resolv.conf, cluster domain") {
  Read r(
      "dns:\n  resolvers: [192.0.2.53, 'fd00::35', '::ffff:10.0.0.2']\n  resolvConf: /run/resolv.conf\n"
      "  clusterDomain: Cluster.Test.\nlimits: {names: 12}\n");
  REQUIRE(r.status);
  REQUIRE(r.config.resolvers.size() == 3);
  CHECK(to_string(r.config.resolvers[0]) == "192.0.2.53");
  CHECK(to_string(r.config.resolvers[1]) == "fd00::35");
  CHECK(to_string(r.config.resolvers[2]) == "10.0.0.2");
  CHECK(r.config.resolv_conf == "/run/resolv.conf");
  CHECK(r.config.cluster_domain == "cluster.test");
  CHECK(r.config.limits.names == 12);
}

TEST_CASE("config dns: what is not said stays as it is") {
  for (const char* text : {"dns:\n", "dns: {}\n", "dns: {resolvers: }\n", "dns: {resolvers: []}\n", ""}) {
    Read r(text);
    CAPTURE(text, r.error());
    REQUIRE(r.status);
    CHECK(r.config.resolvers.empty());
    CHECK(r.config.resolv_conf == "/etc/resolv.conf");
    CHECK(r.config.cluster_domain == "cluster.local");
  }
}

TEST_CASE("config dns: errors say where, and what to write") {
  const std::pair<const char*, const char*> cases[] = {
      {"dns: {resolver: [10.0.0.2]}\n", "1:7: error: dns.resolver: unknown field; did you mean resolvers?"},
      {"dns:\n  resolvers: [10.0.0.2, dns.example]\n",
       "2:25: error: dns.resolvers: not an address; write one such as 10.0.0.2 or fd00::2, its port is 53"},
      {"dns:\n  resolvers: [10.0.0.2:5353]\n",
       "2:15: error: dns.resolvers: not an address; write one such as 10.0.0.2 or fd00::2, its port is 53"},
      {"dns:\n  resolvers:\n  - {ip: 10.0.0.2}\n",
       "3:5: error: dns.resolvers: not an address; write one such as 10.0.0.2 or fd00::2, its port is 53"},
      {"dns:\n  resolvers: 10.0.0.2\n",
       "2:14: error: dns.resolvers: not a list; write the addresses of DNS servers, such as [10.0.0.2]"},
      {"limits: {name: 3}\n", "1:10: error: limits.name: unknown field; did you mean names?"},
      {"limits: {names: 0}\n",
       "1:17: error: limits.names: not a number of entries; write a whole number from 1 to 16777216"},
  };
  for (const auto& [text, error] : cases) {
    CAPTURE(text);
    CHECK(Read(text).error() == error);
  }
  CHECK(Read("dns: [10.0.0.2]\n").error().starts_with("1:6: error: dns: "));
  CHECK(Read("dns: {clusterDomain: 10.0.0.1}\n").error().starts_with("1:22: error: dns.clusterDomain: "));
  CHECK(Read("dns: {resolvConf: [x]}\n").error().starts_with("1:19: error: dns.resolvConf: "));
}

TEST_CASE("config tokens: event classes replace those that are built in") {
  Read r(
      "tokens:\n  eventClasses:\n  - {class: issuance, path: /sso/token}\n"
      "  - {class: introspection, method: GET, path: '/{x}/whoami'}\n");
  CAPTURE(r.error());
  REQUIRE(r.status);
  CHECK(r.config.event_classes.last_segments() == std::vector<std::string>{"token", "whoami"});
  CHECK(r.config.event_classes.classify("GET", "/a/whoami", false) == casa::event::EventClass::kIntrospection);
  for (const char* text : {"tokens:\n", "tokens: {}\n", "tokens: {eventClasses: }\n"}) {
    Read same(text);
    REQUIRE(same.status);
    CHECK(same.config.event_classes.last_segments().size() == 4);
  }
  Read none("tokens: {eventClasses: []}\n");
  REQUIRE(none.status);
  CHECK(none.config.event_classes.last_segments().empty());
}

TEST_CASE("config tokens.signature") {
  Read off("policyDir: /p\n");
  REQUIRE(off.status);
  CHECK_FALSE(off.config.tokens.signature.enabled);
  CHECK(off.config.tokens.signature.refresh_seconds == 300);
  Read on(
      "tokens:\n  signature: {enabled: true, jwks: 'https://auth.example/certs', ca: /etc/ca.pem, refreshSeconds: "
      "60}\n");
  CAPTURE(on.error());
  REQUIRE(on.status);
  CHECK(on.config.tokens.signature.enabled);
  CHECK(on.config.tokens.signature.jwks == "https://auth.example/certs");
  CHECK(on.config.tokens.signature.ca == "/etc/ca.pem");
  CHECK(on.config.tokens.signature.refresh_seconds == 60);
  const std::pair<const char*, const char*> cases[] = {
      {"tokens: {signature: {enabled: true}}\n",
       "1:21: error: tokens.signature: it does not say where the keys are; write jwks: <a file's path or an https:// "
       "URL>"},
      {"tokens: {signature: {jwk: /a}}\n", "1:22: error: tokens.signature.jwk: unknown field; did you mean jwks?"},
      {"tokens: {signature: {jwks: jwks.json}}\n",
       "1:28: error: tokens.signature.jwks: it is neither an absolute path nor an https:// URL"},
      {"tokens: {signature: {jwks: 'http://auth.example/'}}\n",
       "1:28: error: tokens.signature.jwks: http:// is for loopback addresses only; write https://"},
      {"tokens: {signature: {refreshSeconds: 9}}\n",
       "1:38: error: tokens.signature.refreshSeconds: not a number of seconds; write a whole number from 10 to 86400"},
      {"tokens: {signature: {refreshSeconds: 5m}}\n",
       "1:38: error: tokens.signature.refreshSeconds: not a number of seconds; write a whole number from 10 to 86400"},
      {"tokens: {signature: {enabled: yes}}\n",
       "1:31: error: tokens.signature.enabled: this must be true or false, not the text \"yes\"; write true, without "
       "quotes"},
  };
  for (const auto& [text, error] : cases) {
    CAPTURE(text);
    CHECK(Read(text).error() == error);
  }
}

TEST_CASE("config tokens: errors say where, and what to write") {
  const std::pair<const char*, const char*> cases[] = {
      {"tokens: {eventClass: []}\n", "1:10: error: tokens.eventClass: unknown field; did you mean eventClasses?"},
      {"tokens: {eventClasses: /a}\n",
       "1:24: error: tokens.eventClasses: not a list; write items such as {class: issuance, path: /oauth/token}"},
      {"tokens:\n  eventClasses:\n  - {class: issuance}\n",
       "3:5: error: tokens.eventClasses[0]: class and path are needed, as in {class: issuance, path: /oauth/token}"},
      {"tokens:\n  eventClasses:\n  - {class: issuance, path: '/a/{x}'}\n",
       "3:5: error: tokens.eventClasses[0]: the last segment cannot be {x}: the kernel knows token endpoints by it"},
  };
  for (const auto& [text, error] : cases) {
    CAPTURE(text);
    CHECK(Read(text).error() == error);
  }
  CHECK(Read("tokens: {eventClasses: [{class: use, path: /a}]}\n").error().find("issuance") != std::string::npos);
}

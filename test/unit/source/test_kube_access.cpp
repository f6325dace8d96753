// Where the API server is and how to log in: kubeconfigs as they are found, and what is refused.
#include <cstdlib>

#include "source/kube_access.h"
#include "source/kube_login.h"
#include "source_harness.h"

using namespace casa::source;
using namespace casa::source::test;

namespace {

// LS0tLS1CRUdJTiBYLS0tLS0K: "-----BEGIN X-----\n"
constexpr const char* kPem = "LS0tLS1CRUdJTiBYLS0tLS0K";

std::string config(const std::string& cluster, const std::string& user) {
  return "apiVersion: v1\nkind: Config\ncurrent-context: here\n"
         "contexts:\n- name: other\n  context: {cluster: none, user: none}\n"
         "- name: here\n  context:\n    cluster: c\n    user: u\n"
         "clusters:\n- name: c\n  cluster: {" +
         cluster + "}\nusers:\n- name: u\n  user: {" + user + "}\n";
}

struct Kubeconfig {
  casa::Result<KubeAccess> read(const std::string& text, const std::string& context = {}) {
    write_file(dir / "config", text);
    return read_kubeconfig((dir / "config").string(), context);
  }
  // The error's text, which names the file.
  std::string error(const std::string& text, const std::string& context = {}) {
    auto access = read(text, context);
    if (access) return "no error";
    CHECK(access.error().context.find((dir / "config").string()) != std::string::npos);
    return access.error().context;
  }
  TempDir dir;
};

bool has(const std::string& text, const std::string& part) {
  INFO(text);
  CHECK(text.find(part) != std::string::npos);
  return text.find(part) != std::string::npos;
}

const std::string kServer = "server: 'https://10.0.0.1:6443'";

}  // namespace

TEST_CASE("a kubeconfig with a token, a prefix and an authority beside it") {
  Kubeconfig k;
  auto access =
      k.read(config("server: 'https://API.example:6443/k8s/clusters/c-1/', certificate-authority: pki/ca.crt, "
                    "tls-server-name: kubernetes, insecure-skip-tls-verify: false",
                    "token: abc.def"));
  REQUIRE(access);
  CHECK(access->server.host == "api.example");
  CHECK(access->server.port == 6443);
  CHECK(access->server.path == "/k8s/clusters/c-1");
  CHECK(access->authorities.file == (k.dir / "pki/ca.crt").string());
  CHECK(access->tls_server_name == "kubernetes");
  CHECK(access->token == "abc.def");
  CHECK(access->certificate.empty());
}

TEST_CASE("a kubeconfig with data in it, as JSON, and with a token's file") {
  Kubeconfig k;
  auto access =
      k.read(R"({"current-context":"a","contexts":[{"name":"a","context":{"cluster":"c","user":"u"}}],)"
             R"("clusters":[{"name":"c","cluster":{"server":"https://[fd00::1]","certificate-authority-data":")" +
             std::string(kPem) + R"("}}],"users":[{"name":"u","user":{"client-certificate-data":")" + kPem +
             R"(","client-key-data":")" + kPem + R"(","token":"unused","tokenFile":"/run/token"}}]})");
  REQUIRE(access);
  CHECK(access->server.port == 443);
  CHECK(access->server.path.empty());
  CHECK(access->authorities.text == "-----BEGIN X-----\n");
  CHECK(access->certificate.text == "-----BEGIN X-----\n");
  CHECK(access->key.text == "-----BEGIN X-----\n");
  CHECK(access->token_file == "/run/token");
  CHECK(access->token.empty());
}

TEST_CASE("another context than the current one") {
  Kubeconfig k;
  CHECK(k.read(config(kServer, "token: abc"), "here"));
  CHECK(has(k.error(config(kServer, "token: abc"), "gone"), "contexts has no context 'gone'"));
  CHECK(has(k.error(config(kServer, "token: abc"), "other"), "clusters has no cluster 'none'"));
}

TEST_CASE("what a kubeconfig may not say is refused, with the field and what to use") {
  Kubeconfig k;
  struct Case {
    std::string cluster, user, part;
  };
  auto [cluster, user, part] = GENERATE_COPY(values<Case>({
      {kServer, "exec: {command: aws}",
       "users[u].user.exec is refused: casad runs no program to log in; give the user a token"},
      {kServer, "auth-provider: {name: gcp}", "users[u].user.auth-provider is refused"},
      {kServer, "username: a, password: b", "users[u].user.username is refused"},
      {kServer, "token: abc, as: admin", "users[u].user.as is not supported"},
      {kServer, "token: 'a b'", "users[u].user.token has a character"},
      {kServer, "client-certificate: a", "users[u].user has one of client-certificate and client-key"},
      {kServer, "client-certificate-data: '!', client-key: k",
       "users[u].user.client-certificate-data is not PEM in base64"},
      {kServer, "client-certificate-data: aGFsbG8=, client-key: k", "client-certificate-data is not PEM"},
      {kServer, "", "gives context 'here' no token, tokenFile or client-certificate"},
      {kServer + ", insecure-skip-tls-verify: true", "token: abc",
       "clusters[c].cluster.insecure-skip-tls-verify is refused"},
      {kServer + ", proxy-url: 'http://p'", "token: abc", "clusters[c].cluster.proxy-url is not supported"},
      {"server: 'http://127.0.0.1:8001'", "token: abc", "clusters[c].cluster.server is not usable"},
      {"server: 'https://u:p@h'", "token: abc", "clusters[c].cluster.server is not usable"},
      {"", "token: abc", "clusters[c].cluster.server is not usable"},
  }));
  std::string error = k.error(config(cluster, user));
  has(error, part);
  CHECK(error.find("abc") == std::string::npos);
}

TEST_CASE("a kubeconfig that is none") {
  Kubeconfig k;
  has(k.error("a: [1\nb: 2"), "not YAML");
  has(k.error(""), "current-context is not set");
  has(k.error("%TAG ! tag:x\n---\na: 1"), "%TAG");
  has(k.error("current-context: a\ncontexts: &x [*x]"), "contexts has no context 'a'");
  has(k.error(std::string((1u << 20) + 1, '#')), "is larger than 1048576 bytes");
  CHECK_FALSE(read_kubeconfig((k.dir / "absent").string()));
  CHECK_FALSE(read_kubeconfig((k.dir / ".").string()));
}

TEST_CASE("a pod's service account") {
  TempDir dir;
  std::string path = (dir / ".").string();
  ::unsetenv("KUBERNETES_SERVICE_HOST");
  ::unsetenv("KUBERNETES_SERVICE_PORT");
  auto none = read_service_account(path);
  REQUIRE_FALSE(none);
  has(none.error().context, "KUBERNETES_SERVICE_HOST");
  ::setenv("KUBERNETES_SERVICE_HOST", GENERATE("10.96.0.1", "fd00::1"), 1);
  ::setenv("KUBERNETES_SERVICE_PORT", "443", 1);
  auto empty = read_service_account(path);
  REQUIRE_FALSE(empty);
  has(empty.error().context, "ca.crt");
  write_file(dir / "ca.crt", "x");
  write_file(dir / "token", "\n t1 \n");
  auto access = read_service_account(path);
  REQUIRE(access);
  CHECK(access->server.address.has_value());
  CHECK(access->server.port == 443);
  CHECK(access->token_file == path + "/token");
  KubeLogin login(*access, std::chrono::hours(1));
  CHECK(*login.authorization() == "Bearer t1");
  replace_file(dir / "token", "t2");
  CHECK(*login.authorization() == "Bearer t1");
  CHECK(login.renewed("Bearer t1"));
  CHECK(*login.authorization() == "Bearer t2");
  CHECK_FALSE(login.renewed("Bearer t2"));
  CHECK(login.renewed("Bearer t1"));
  replace_file(dir / "token", "a\r\nX-Evil: b");
  CHECK_FALSE(login.renewed("Bearer t2"));
  CHECK(*login.authorization() == "Bearer t2");
  ::unsetenv("KUBERNETES_SERVICE_HOST");
  ::unsetenv("KUBERNETES_SERVICE_PORT");
}

#include "source/kube_access.h"

#include <openssl/evp.h>
#include <yaml.h>

#include <cstdlib>
#include <filesystem>
#include <memory>
#include <string_view>

#include "source/small_file.h"

namespace casa::source {
namespace {

constexpr std::size_t kMaxKubeconfig = 1u << 20;

// A kubeconfig as libyaml's tree. Everything that is asked for is a path of names, so an alias that leads back to itself is walked only as
// far as the path is long.
class YamlFile {
 public:
  YamlFile() = default;
  YamlFile(const YamlFile&) = delete;
  YamlFile& operator=(const YamlFile&) = delete;
  ~YamlFile() {
    if (loaded_) yaml_document_delete(&document_);
  }

  Status load(const std::string& path) {
    TRY_ASSIGN(std::string bytes, read_small_file(path, kMaxKubeconfig));
    if (bytes.find("%TAG") != std::string::npos)  // more than linear time in libyaml
      return fail(ErrorCode::kInvalidArgument, "{}: %TAG directives are not supported", path);
    yaml_parser_t parser;
    if (yaml_parser_initialize(&parser) != 1) return fail(ErrorCode::kSystem, "{}: out of memory", path);
    std::unique_ptr<yaml_parser_t, decltype(&yaml_parser_delete)> owner(&parser, yaml_parser_delete);
    yaml_parser_set_encoding(&parser, YAML_UTF8_ENCODING);
    yaml_parser_set_input_string(&parser, reinterpret_cast<const unsigned char*>(bytes.data()), bytes.size());
    loaded_ = yaml_parser_load(&parser, &document_) == 1;
    if (!loaded_)
      return fail(ErrorCode::kInvalidArgument, "{}:{}: not YAML: {}", path, parser.problem_mark.line + 1,
                  parser.problem == nullptr ? "out of memory" : parser.problem);
    return {};
  }

  yaml_node_t* root() { return yaml_document_get_root_node(&document_); }

  yaml_node_t* find(yaml_node_t* mapping, std::string_view name) {
    if (mapping == nullptr || mapping->type != YAML_MAPPING_NODE) return nullptr;
    for (auto* pair = mapping->data.mapping.pairs.start; pair < mapping->data.mapping.pairs.top; ++pair)
      if (text(yaml_document_get_node(&document_, pair->key)) == name)
        return yaml_document_get_node(&document_, pair->value);
    return nullptr;
  }

  // Of a scalar; null, a list and a mapping are as good as an empty text.
  static std::string text(const yaml_node_t* node) {
    if (node == nullptr || node->type != YAML_SCALAR_NODE) return {};
    std::string value(reinterpret_cast<const char*>(node->data.scalar.value), node->data.scalar.length);
    bool plain = node->data.scalar.style == YAML_PLAIN_SCALAR_STYLE;
    return plain && (value == "null" || value == "~") ? std::string() : value;
  }
  std::string text_of(yaml_node_t* mapping, std::string_view name) { return text(find(mapping, name)); }

  // In LIST (clusters), the entry of that name; in it, what BODY (cluster) is.
  yaml_node_t* named(std::string_view list, std::string_view name, std::string_view body) {
    yaml_node_t* entries = find(root(), list);
    if (entries == nullptr || entries->type != YAML_SEQUENCE_NODE) return nullptr;
    for (auto* item = entries->data.sequence.items.start; item < entries->data.sequence.items.top; ++item) {
      yaml_node_t* entry = yaml_document_get_node(&document_, *item);
      if (text_of(entry, "name") == name) return find(entry, body);
    }
    return nullptr;
  }

 private:
  yaml_document_t document_{};
  bool loaded_ = false;
};

Result<std::string> decode_base64(const std::string& text) {
  std::unique_ptr<EVP_ENCODE_CTX, decltype(&EVP_ENCODE_CTX_free)> context(EVP_ENCODE_CTX_new(), EVP_ENCODE_CTX_free);
  std::string bytes(text.size() + 3, '\0');
  auto* out = reinterpret_cast<unsigned char*>(bytes.data());
  int have = 0, more = 0;
  EVP_DecodeInit(context.get());
  bool good = EVP_DecodeUpdate(context.get(), out, &have, reinterpret_cast<const unsigned char*>(text.data()),
                               static_cast<int>(text.size())) >= 0 &&
              EVP_DecodeFinal(context.get(), out + have, &more) == 1;
  if (!good) return fail(ErrorCode::kInvalidArgument, "not base64");
  bytes.resize(static_cast<std::size_t>(have) + static_cast<std::size_t>(more));
  return bytes;
}

bool is_header_text(std::string_view token) {
  for (char c : token)
    if (c <= ' ' || c > '~') return false;
  return !token.empty();
}

Status read_server(std::string url, KubeAccess& access) {
  while (url.ends_with('/')) url.pop_back();
  TRY_ASSIGN(access.server, parse_location(url));
  if (access.server.kind != Location::Kind::kHttps)
    return fail(ErrorCode::kInvalidArgument, "'{}' is no https:// URL", url);
  if (access.server.path == "/") access.server.path.clear();
  if (access.server.path.find('?') != std::string::npos) return fail(ErrorCode::kInvalidArgument, "it has a query (?)");
  return {};
}

class Reader {
 public:
  explicit Reader(const std::string& path) : path_(path) {}

  Result<KubeAccess> read(std::string context) {
    TRY(yaml_.load(path_));
    if (context.empty()) context = yaml_.text_of(yaml_.root(), "current-context");
    if (context.empty()) return wrong("current-context", "is not set; name a context with it");
    yaml_node_t* chosen = yaml_.named("contexts", context, "context");
    if (chosen == nullptr) return wrong("contexts", fmt::format("has no context '{}'", context));
    std::string cluster = yaml_.text_of(chosen, "cluster"), user = yaml_.text_of(chosen, "user");
    access_.from = path_;
    TRY(read_cluster(cluster, yaml_.named("clusters", cluster, "cluster")));
    if (!user.empty()) TRY(read_user(user, yaml_.named("users", user, "user")));
    if (access_.token.empty() && access_.token_file.empty() && access_.certificate.empty())
      return wrong("users",
                   fmt::format("gives context '{}' no token, tokenFile or client-certificate to log in with", context));
    return std::move(access_);
  }

 private:
  [[nodiscard]] std::unexpected<Error> wrong(std::string_view field, std::string_view what) const {
    return fail(ErrorCode::kInvalidArgument, "{}: {} {}", path_, field, what);
  }

  Status read_cluster(const std::string& name, yaml_node_t* cluster) {
    std::string place = fmt::format("clusters[{}].cluster", name);
    if (cluster == nullptr) return wrong("clusters", fmt::format("has no cluster '{}'", name));
    std::string skip = yaml_.text_of(cluster, "insecure-skip-tls-verify");
    if (!skip.empty() && skip != "false")
      return wrong(place + ".insecure-skip-tls-verify",
                   "is refused: whoever stands between could change every policy; give certificate-authority in its "
                   "place");
    if (!yaml_.text_of(cluster, "proxy-url").empty())
      return wrong(place + ".proxy-url", "is not supported; give a server that can be reached directly");
    Status server = read_server(yaml_.text_of(cluster, "server"), access_);
    if (!server) return wrong(place + ".server", fmt::format("is not usable: {}", server.error().context));
    access_.tls_server_name = yaml_.text_of(cluster, "tls-server-name");
    TRY(read_pem(cluster, place, "certificate-authority", access_.authorities));
    return {};
  }

  Status read_user(const std::string& name, yaml_node_t* user) {
    std::string place = fmt::format("users[{}].user", name);
    if (user == nullptr) return wrong("users", fmt::format("has no user '{}'", name));
    constexpr std::string_view kInstead = "give the user a token, a tokenFile or a client-certificate in its place";
    for (std::string_view plugin : {"exec", "auth-provider"})
      if (yaml_.find(user, plugin) != nullptr)
        return wrong(fmt::format("{}.{}", place, plugin),
                     fmt::format("is refused: casad runs no program to log in; {}", kInstead));
    for (std::string_view field : {"username", "password"})
      if (yaml_.find(user, field) != nullptr)
        return wrong(fmt::format("{}.{}", place, field),
                     fmt::format("is refused: API servers have no passwords any more; {}", kInstead));
    for (std::string_view field : {"as", "as-uid", "as-groups", "as-user-extra"})
      if (yaml_.find(user, field) != nullptr)
        return wrong(fmt::format("{}.{}", place, field),
                     "is not supported: casad acts as nobody else; give it a user of its own");
    TRY(read_pem(user, place, "client-certificate", access_.certificate));
    TRY(read_pem(user, place, "client-key", access_.key));
    if (access_.certificate.empty() != access_.key.empty())
      return wrong(place, "has one of client-certificate and client-key; both are needed");
    access_.token_file = relative(yaml_.text_of(user, "tokenFile"));
    if (access_.token_file.empty()) access_.token = yaml_.text_of(user, "token");
    if (!access_.token.empty() && !is_header_text(access_.token))
      return wrong(place + ".token", "has a character that no token has");
    return {};
  }

  Status read_pem(yaml_node_t* mapping, const std::string& place, const std::string& field, PemSource& pem) {
    std::string data = yaml_.text_of(mapping, field + "-data");
    if (data.empty()) {
      pem.file = relative(yaml_.text_of(mapping, field));
      return {};
    }
    auto decoded = decode_base64(data);
    if (!decoded || decoded->find("-----BEGIN ") == std::string::npos)
      return wrong(fmt::format("{}.{}-data", place, field), "is not PEM in base64");
    pem.text = std::move(*decoded);
    return {};
  }

  // As kubectl: from the kubeconfig's folder.
  [[nodiscard]] std::string relative(const std::string& path) const {
    if (path.empty() || path.starts_with('/')) return path;
    return (std::filesystem::path(path_).parent_path() / path).lexically_normal().string();
  }

  const std::string path_;
  YamlFile yaml_;
  KubeAccess access_;
};

}  // namespace

Result<KubeAccess> read_kubeconfig(const std::string& path, const std::string& context) {
  return Reader(path).read(context);
}

Result<KubeAccess> read_service_account(const std::string& dir) {
  const char* host = std::getenv("KUBERNETES_SERVICE_HOST");
  const char* port = std::getenv("KUBERNETES_SERVICE_PORT");
  if (host == nullptr || *host == '\0' || port == nullptr || *port == '\0')
    return fail(ErrorCode::kNotFound,
                "KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT are not set: this is no pod of a cluster; give a "
                "kubeconfig in their place");
  KubeAccess access;
  auto ip = parse_ip(host);
  bool bracket = ip && !ip->is_v4();
  Status server =
      read_server(fmt::format("https://{}{}{}:{}", bracket ? "[" : "", host, bracket ? "]" : "", port), access);
  if (!server)
    return fail(ErrorCode::kInvalidArgument, "KUBERNETES_SERVICE_HOST ({}) and KUBERNETES_SERVICE_PORT ({}): {}", host,
                port, server.error().context);
  access.authorities.file = dir + "/ca.crt";
  access.token_file = dir + "/token";
  access.from = "the service account in " + dir;
  TRY(read_small_file(access.authorities.file, kMaxKubeconfig));
  TRY(read_small_file(access.token_file, kMaxKubeconfig));
  return access;
}

}  // namespace casa::source

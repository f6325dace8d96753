// Where a Kubernetes API server is, and how to log in: from a kubeconfig, or from what a pod is given. Small files are read here and
// nothing is sent; errors name the file and the field. What is secret is in no error's text.
#pragma once

#include <chrono>
#include <optional>
#include <string>

#include "base/error.h"
#include "base/location.h"

namespace casa::source {

// A PEM text, or the file that has it. A file is read again for each connection: it may have been renewed.
struct PemSource {
  std::string file;  // empty: `text`
  std::string text;

  [[nodiscard]] bool empty() const { return file.empty() && text.empty(); }
};

struct KubeAccess {
  Location server;              // https; `path` is a prefix of all paths, without a slash at its end
  std::string tls_server_name;  // the name that the server's certificate must have; empty: the server's host
  PemSource authorities;        // empty: the system's
  PemSource certificate, key;   // of the client, or both empty
  std::string token;            // a bearer token, or empty
  std::string token_file;       // or the file that has it
  std::string from;             // for people: the kubeconfig's path, or "the service account"
};

// token_file is read again so often, and at once after a 401.
inline constexpr std::chrono::milliseconds kTokenPeriod{60'000};

// The current context, or the named one. Refused with a sentence that says what to use in its place: exec and auth-provider plugins, user
// names with passwords, insecure-skip-tls-verify, proxies, servers without https.
Result<KubeAccess> read_kubeconfig(const std::string& path, const std::string& context = {});

inline constexpr const char* kServiceAccountDir = "/var/run/secrets/kubernetes.io/serviceaccount";

// A pod's: KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT, and the token and ca.crt in `dir`.
Result<KubeAccess> read_service_account(const std::string& dir = kServiceAccountDir);

}  // namespace casa::source

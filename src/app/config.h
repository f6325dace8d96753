// How the daemon is to run: /etc/casad/casad.yaml, and a flag for every key of it (the flag wins).
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/error.h"
#include "compile/compile.h"
#include "event/token_class.h"

namespace casa::app {

// The check of signatures (docs/tokens.md).
struct SignatureConfig {
  bool enabled = false;
  std::string jwks;  // a file's absolute path, or a URL
  std::string ca;    // PEM file of the URL's certificate authorities; empty: the system's
  std::uint32_t refresh_seconds = 300;
};

struct TokenConfig {
  SignatureConfig signature;
};

// A node of a Kubernetes cluster (docs/operations.md).
struct KubernetesConfig {
  std::string node_name;  // as in spec.nodeName of its Pods; empty: a bare node
  bool strict = false;    // a Pod that is not known yet is denied everything
  // The API server as a source of objects, beside the policy directory: by a kubeconfig's path, or as the Pod's service account says.
  std::string kubeconfig;
  bool in_cluster = false;
  std::string daemon_namespace = "casa-system";  // of casad's own Pods

  [[nodiscard]] bool has_server() const { return in_cluster || !kubeconfig.empty(); }
};

struct Config {
  std::string policy_dir = "/etc/casad/policies.d";
  std::string api_socket = "/run/casad/casad.sock";
  std::string cgroup_root;  // empty: the cgroup2 mount
  std::string bpffs = "/sys/fs/bpf/casad";
  std::string state_dir = "/var/lib/casad";
  std::string log_level = "info";
  bool audit = false;  // enforcement: audit, for the whole node
  compile::Limits limits;
  std::string resolv_conf = "/etc/resolv.conf";
  std::vector<IpAddress> resolvers;  // trusted instead of those of resolv.conf, at port 53
  std::string cluster_domain = "cluster.local";
  event::EventClasses event_classes;  // tokens.eventClasses
  TokenConfig tokens;
  KubernetesConfig kubernetes;
};

// What must hold of the whole, once flags are in it.
Status check_config(const Config& config);

inline constexpr const char* kDefaultConfigPath = "/etc/casad/casad.yaml";

// Reads `path` over `config`. A missing default file is no error; a missing file that was named is. Errors carry
// file:line:col and a suggestion for unknown keys.
Status read_config(const std::string& path, bool named, Config& config);

}  // namespace casa::app

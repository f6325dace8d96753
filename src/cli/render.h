// `casad render cilium|networkpolicy`: the policies of files as objects that a CNI enforces. Reads the files that `casad check` reads, prints, and
// changes nothing; what the objects say is compile/'s.
#pragma once

#include <cstdio>
#include <string>
#include <vector>

namespace casa::cli {

struct RenderCommand {
  std::vector<std::string> paths;  // as read_policy_files() takes them
  std::string cluster_domain = "cluster.local";
  std::vector<std::string> search;  // domains that the nodes add to their Pods' search list
  bool beside_casad = false, any_dns_name = false;
};

// YAML to `out`, diagnostics and notes to `err`. Returns 0: rendered, with warnings perhaps; 1: an object is invalid, or what it says cannot be
// said without allowing more, and nothing is printed to `out`; 2: nothing to render, or a path that does not exist or cannot be read.
int run_render_cilium(const RenderCommand& command, std::FILE* out, std::FILE* err);
int run_render_network_policy(const RenderCommand& command, std::FILE* out, std::FILE* err);

}  // namespace casa::cli

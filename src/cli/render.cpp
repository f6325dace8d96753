#include "cli/render.h"

#include <fmt/format.h>

#include "cli/policy_files.h"
#include "compile/render.h"

namespace casa::cli {
namespace {

using Render = compile::Rendered (*)(std::span<const policy::Object>, const compile::RenderOptions&);

int run(const RenderCommand& command, Render render, std::FILE* out, std::FILE* err) {
  if (command.paths.empty()) {
    fmt::print(err, "casad render: error: no file is named; write casad render cilium FILE|DIR...\n");
    return 2;
  }
  PolicyFiles found = read_policy_files(command.paths, "casad render", err);
  if (found.unreadable) return 2;
  if (found.errors > 0) return 1;
  compile::RenderOptions options;
  options.dns.cluster_domain = command.cluster_domain;
  options.dns.search = command.search;
  options.beside_casad = command.beside_casad;
  options.any_dns_name = command.any_dns_name;
  compile::Rendered rendered = render(found.objects, options);
  for (const auto& note : rendered.notes) fmt::print(err, "{}\n", to_string(note));
  if (!rendered.ok()) return 1;
  fmt::print(out, "{}", rendered.yaml);
  return 0;
}

}  // namespace

int run_render_cilium(const RenderCommand& command, std::FILE* out, std::FILE* err) {
  return run(command, compile::render_cilium, out, err);
}

int run_render_network_policy(const RenderCommand& command, std::FILE* out, std::FILE* err) {
  return run(command, compile::render_network_policy, out, err);
}

}  // namespace casa::cli

// What this kernel can do, found by loading: version numbers lie where distributions backport.
#include <bpf/libbpf.h>
#include <linux/netlink.h>
#include <sys/socket.h>

#include <cstdio>
#include <fstream>

#include "datapath/datapath.h"
#include "datapath/objects.h"

namespace casa::datapath {
namespace {

template <typename Object>
Probe probe_of(const char* feature, bool required, Result<Object> loaded) {
  Probe probe{feature, loaded.has_value(), required, {}};
  if (!loaded) probe.detail = loaded.error().context;
  return probe;
}

Probe probe_mount(const char* type, const char* feature) {
  std::ifstream in("/proc/self/mountinfo");
  std::string line, needle = std::string(" - ") + type + " ";
  while (std::getline(in, line))
    if (line.find(needle) != std::string::npos) return {feature, true, true, {}};
  return {feature, false, true, std::string("no file system of type ") + type + " is mounted"};
}

void append_costs(const bpf_object* object, std::vector<ProgramCost>& costs) {
  bpf_program* program = nullptr;
  bpf_object__for_each_program(program, object) {
    bpf_prog_info info{};
    std::uint32_t length = sizeof info;
    if (bpf_obj_get_info_by_fd(bpf_program__fd(program), &info, &length) == 0)
      costs.push_back({bpf_program__name(program), info.verified_insns});
  }
}

}  // namespace

std::vector<Probe> probe_kernel() {
  LoadOptions options;
  std::vector<Probe> probes;
  probes.push_back(probe_mount("cgroup2", "cgroup2 mounted"));
  probes.push_back(probe_mount("bpf", "bpf file system mounted"));
  probes.push_back(probe_of("enforcement programs", true, load_enforce(options)));
  probes.push_back(probe_of("cgroup watch (new cgroups enforced from mkdir)", false, load_cgroup_watch(options)));
  probes.push_back(probe_of("sweep (idle connections end, live counters)", false, load_sweep(options)));
  probes.push_back(probe_of("inspection (DNS names, TLS server names: llmEndpoint)", false, load_inspect(options)));
  Fd fd(::socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_SOCK_DIAG));
  probes.push_back({"sock_diag (refused connections end at once)", static_cast<bool>(fd), false,
                    fd ? "" : "cannot open a sock_diag socket"});
  return probes;
}

Result<std::vector<ProgramCost>> verifier_costs() {
  LoadOptions options;
  TRY_ASSIGN(EnforceObject enforce, load_enforce(options));
  TRY_ASSIGN(WatchObject watch, load_cgroup_watch(options));
  TRY_ASSIGN(SweepObject sweep, load_sweep(options));
  auto inspect = load_inspect(options);
  std::vector<ProgramCost> costs;
  append_costs(enforce->obj, costs);
  append_costs(watch->obj, costs);
  append_costs(sweep->obj, costs);
  if (inspect) append_costs((*inspect)->obj, costs);
  return costs;
}

}  // namespace casa::datapath

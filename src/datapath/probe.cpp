// What this kernel can do, found by loading: version numbers lie where distributions backport.
#include <linux/netlink.h>
#include <sys/socket.h>

#include <cstdio>
#include <fstream>

#include "datapath/datapath.h"
#include "datapath/objects.h"

namespace casa::datapath {
namespace {

// Once for the costs; a second time, for the verifier's words, where it is refused.
template <typename Object>
Probe probe_object(const char* feature, bool required, Result<Object> (*load)(const LoadOptions&),
                   std::vector<ProgramCost>& costs) {
  if (load({.costs = &costs})) return {feature, true, required, {}};
  auto loaded = load({});
  return {feature, loaded.has_value(), required, loaded ? "" : loaded.error().context};
}

Probe probe_mount(const char* type, const char* feature) {
  std::ifstream in("/proc/self/mountinfo");
  std::string line, needle = std::string(" - ") + type + " ";
  while (std::getline(in, line))
    if (line.find(needle) != std::string::npos) return {feature, true, true, {}};
  return {feature, false, true, std::string("no file system of type ") + type + " is mounted"};
}

}  // namespace

KernelReport probe_kernel() {
  KernelReport report;
  auto& probes = report.probes;
  auto& costs = report.programs;
  probes.push_back(probe_mount("cgroup2", "cgroup2 mounted"));
  probes.push_back(probe_mount("bpf", "bpf file system mounted"));
  probes.push_back(probe_object("enforcement programs", true, load_enforce, costs));
  probes.push_back(probe_object("cgroup watch (new cgroups enforced from mkdir)", false, load_cgroup_watch, costs));
  probes.push_back(probe_object("sweep (idle connections end, live counters)", false, load_sweep, costs));
  probes.push_back(probe_object("inspection (DNS names, TLS server names: llmEndpoint)", false, load_inspect, costs));
  probes.push_back(probe_object("requests (tokens in HTTP requests)", false, load_requests, costs));
  probes.push_back(probe_object("TLS observers (tokens.tlsObserver)", false, load_tls_observer, costs));
  Fd fd(::socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_SOCK_DIAG));
  probes.push_back({"sock_diag (refused connections end at once)", static_cast<bool>(fd), false,
                    fd ? "" : "cannot open a sock_diag socket"});
  return report;
}

}  // namespace casa::datapath

// Whether a generation fits the kernel's maps, before anything of it is written.
#include "compile/compile.h"

namespace casa::compile {
namespace {

Status check_path(const std::string& path) {
  if (path.size() + 2 <= CASA_CGROUP_PATH_MAX) return {};
  return fail(ErrorCode::kLimit, "cgroup path {} is longer than {} bytes", path, CASA_CGROUP_PATH_MAX - 2);
}

}  // namespace

Status check_limits(const MapImage& image, const Limits& limits, const Touched* touched) {
  auto check = [](const char* what, std::size_t used, std::size_t limit, const char* knob) -> Status {
    if (used <= limit) return {};
    return fail(ErrorCode::kLimit,
                "the policies need {} {}, the kernel map holds {}; raise {} in the config and run `casad detach` once",
                used, what, limit, knob);
  };
  TRY(check("declared cgroups", std::max(image.cgroup_paths.size(), image.cgroups.size()), limits.cgroups,
            "limits.cgroups"));
  TRY(check("workloads", image.subjects.size(), limits.subjects, "limits.workloads"));
  TRY(check("policy entries", image.policy.size(), limits.policy, "limits.policyEntries"));
  TRY(check("addresses", image.addresses.size(), limits.addresses, "limits.addresses"));
  TRY(check("prefixes", image.prefixes.size(), limits.prefixes, "limits.prefixes"));
  TRY(check("DNS names", image.names.size(), limits.names, "limits.names"));
  if (image.resolvers.size() > CASA_MAX_RESOLVERS)
    return fail(ErrorCode::kLimit, "{} resolvers are configured, the kernel map holds {}", image.resolvers.size(),
                CASA_MAX_RESOLVERS);
  if (touched == nullptr) {
    for (const auto& [path, payload] : image.cgroup_paths) TRY(check_path(path));
    return {};
  }
  for (const auto& path : touched->cgroup_paths)
    if (image.cgroup_paths.contains(path)) TRY(check_path(path));
  return {};
}

}  // namespace casa::compile

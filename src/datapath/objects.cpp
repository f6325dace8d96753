#include "datapath/objects.h"

#include <sys/random.h>
#include <sys/resource.h>

#include <algorithm>
#include <cstdarg>
#include <cstdio>
#include <cstring>

namespace casa::datapath {
namespace {

constexpr std::size_t kLogBytes = 8192;
thread_local std::string libbpf_log;  // two objects can be loaded at once

int keep_message(enum libbpf_print_level level, const char* format, va_list args) {
  if (level == LIBBPF_DEBUG) return 0;
  va_list again;
  va_copy(again, args);
  int n = std::vsnprintf(nullptr, 0, format, again);
  va_end(again);
  if (n <= 0) return 0;
  // A verifier's log comes as one message, and what it is about stands at its end.
  std::string line(static_cast<std::size_t>(n), '\0');
  std::vsnprintf(line.data(), line.size() + 1, format, args);
  // libbpf asks for a BPF token at each load and says so; that is no news.
  if (line.find("BPF token") != std::string::npos) return 0;
  libbpf_log += line;
  if (libbpf_log.size() > kLogBytes) libbpf_log.erase(0, libbpf_log.size() - kLogBytes);
  return 0;
}

std::string last_lines(const std::string& text, std::size_t lines) {
  std::size_t at = text.size();
  while (at > 0 && lines > 0) {
    at = text.rfind('\n', at - 1);
    if (at == std::string::npos) return text;
    --lines;
  }
  return text.substr(at);
}

// Map sizes: what is pinned keeps its size; what is made gets the configured one.
void size_maps(bpf_object* object, const LoadOptions& options) {
  const std::map<std::string, std::size_t> wanted = {
      {"casa_cgroup", options.limits.cgroups},   {"casa_cgpath", options.limits.cgroups},
      {"casa_subject", options.limits.subjects}, {"casa_policy", options.limits.policy},
      {"casa_addr", options.limits.addresses},   {"casa_lpm", options.limits.prefixes},
      {"casa_name", options.limits.names},
  };
  bpf_map* map = nullptr;
  bpf_object__for_each_map(map, object) {
    std::string name = bpf_map__name(map);
    if (name.starts_with(".") || bpf_map__is_internal(map)) continue;
    if (bpf_map__pin_path(map) == nullptr) continue;  // declared without CASA_PINNED: lives as long as this load
    if (auto it = wanted.find(name); it != wanted.end())
      bpf_map__set_max_entries(map, static_cast<std::uint32_t>(it->second));
    if (options.pin_dir.empty()) {
      bpf_map__set_pin_path(map, nullptr);
      continue;
    }
    std::string path = options.pin_dir + "/" + name;
    bpf_map__set_pin_path(map, path.c_str());
    int fd = bpf_obj_get(path.c_str());
    if (fd < 0) continue;
    bpf_map_info info{};
    std::uint32_t length = sizeof info;
    if (bpf_map_get_info_by_fd(fd, &info, &length) == 0) bpf_map__set_max_entries(map, info.max_entries);
    ::close(fd);
  }
}

// The verifier's own statistics, one line at the end of its log: kernels before 5.16 do not tell in any other way.
constexpr std::uint32_t kStatisticsOnly = 4;
constexpr std::size_t kStatisticsBytes = 256 * 1024;  // 6.12 has words about each global function before them
using Statistics = std::map<std::string, std::vector<char>>;

Statistics ask_for_statistics(bpf_object* object) {
  Statistics statistics;
  bpf_program* program = nullptr;
  bpf_object__for_each_program(program, object) {
    auto& buffer = statistics[bpf_program__name(program)];
    buffer.resize(kStatisticsBytes);
    bpf_program__set_log_level(program, kStatisticsOnly);
    bpf_program__set_log_buf(program, buffer.data(), buffer.size());
  }
  return statistics;
}

void append_costs(const bpf_object* object, const Statistics& statistics, std::vector<ProgramCost>& costs) {
  bpf_program* program = nullptr;
  bpf_object__for_each_program(program, object) {
    std::string name = bpf_program__name(program);
    const char* line = std::strstr(statistics.at(name).data(), "processed ");
    unsigned walked = 0;
    if (line != nullptr) std::sscanf(line, "processed %u insns", &walked);
    costs.push_back({std::move(name), walked});
  }
}

template <typename T>
Result<Skeleton<T>> load_object(const char* what, const LoadOptions& options) {
  libbpf_set_print(keep_message);
  take_libbpf_log();
  // Kernels before 5.11 charge maps to RLIMIT_MEMLOCK.
  rlimit unlimited{RLIM_INFINITY, RLIM_INFINITY};
  ::setrlimit(RLIMIT_MEMLOCK, &unlimited);
  Skeleton<T> object(T::open());
  if (!object) return fail_errno(errno, "cannot open the BPF object '{}'", what);
  size_maps(object->obj, options);
  if constexpr (requires { object->rodata->casa_print_key; }) {
    if (::getrandom(object->rodata->casa_print_key, sizeof object->rodata->casa_print_key, 0) < 0)
      return fail_errno(errno, "cannot make a random key for the BPF object '{}'", what);
  }
  Statistics statistics;
  if (options.costs != nullptr) statistics = ask_for_statistics(object->obj);
  if (int err = T::load(object.get()); err != 0) {
    std::string log = last_lines(take_libbpf_log(), 12);
    return fail_errno(err, "the kernel does not take the BPF object '{}'{}{}", what, log.empty() ? "" : ":", log);
  }
  if (options.costs != nullptr) append_costs(object->obj, statistics, *options.costs);
  return object;
}

}  // namespace

std::string take_libbpf_log() { return std::exchange(libbpf_log, {}); }

Result<EnforceObject> load_enforce(const LoadOptions& options) { return load_object<casa_enforce>("enforce", options); }
Result<WatchObject> load_cgroup_watch(const LoadOptions& options) {
  return load_object<casa_cgroup_watch>("cgroup_watch", options);
}
Result<SweepObject> load_sweep(const LoadOptions& options) { return load_object<casa_sweep>("sweep", options); }
Result<InspectObject> load_inspect(const LoadOptions& options) { return load_object<casa_inspect>("inspect", options); }
Result<RequestsObject> load_requests(const LoadOptions& options) {
  return load_object<casa_requests>("requests", options);
}
Result<TlsObserverObject> load_tls_observer(const LoadOptions& options) {
  return load_object<casa_tls_observer>("tls_observer", options);
}

}  // namespace casa::datapath

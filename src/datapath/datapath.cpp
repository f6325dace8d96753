#include "datapath/datapath.h"

#include <bpf/libbpf.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <thread>

#include "datapath/links.h"
#include "datapath/objects.h"
#include "datapath/pins.h"
#include "datapath/sock_destroy.h"
#include "datapath/staged_table.h"

namespace casa::datapath {
namespace {

using compile::Limits;
using compile::MapImage;
using compile::PolicyKey;

casa_policy_key encode_policy(const PolicyKey& k) {
  return {k.subject, k.peer, k.port, k.protocol, static_cast<casa_u8>(k.direction)};
}
PolicyKey decode_policy(const casa_policy_key& k) {
  return {k.subject, k.peer, static_cast<casa_direction>(k.direction), k.protocol, k.port};
}

casa_addr_key encode_address(const IpAddress& ip) {
  casa_addr_key key{};
  std::memcpy(key.address, ip.bytes.data(), 16);
  return key;
}
IpAddress decode_address(const casa_addr_key& key) { return make_ip(key.address); }

casa_lpm_key encode_prefix(const IpPrefix& p) {
  casa_lpm_key key{};
  key.prefix_bits = p.length;
  std::memcpy(key.address, p.address.bytes.data(), 16);
  return key;
}
IpPrefix decode_prefix(const casa_lpm_key& key) {
  return {make_ip(key.address), static_cast<std::uint8_t>(key.prefix_bits)};
}

// What an address in `prefix` would find without it.
std::uint32_t shorter_prefix(const std::map<IpPrefix, std::uint32_t>& image, const IpPrefix& prefix) {
  std::uint32_t payload = 0;
  int longest = -1;
  for (const auto& [other, identity] : image) {
    if (other == prefix || other.length <= longest || !other.contains(prefix)) continue;
    longest = other.length;
    payload = identity;
  }
  return payload;
}

template <typename T>
T same(const T& value) {
  return value;
}

struct MappedConfig {
  casa_config* at = nullptr;
  MappedConfig() = default;
  MappedConfig(const MappedConfig&) = delete;
  MappedConfig& operator=(const MappedConfig&) = delete;
  ~MappedConfig() {
    if (at != nullptr) ::munmap(at, static_cast<std::size_t>(::sysconf(_SC_PAGESIZE)));
  }
};

std::uint64_t own_netns_cookie() {
#ifndef SO_NETNS_COOKIE
#define SO_NETNS_COOKIE 71
#endif
  Fd fd(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  std::uint64_t cookie = 0;
  socklen_t length = sizeof cookie;
  if (!fd || ::getsockopt(fd.get(), SOL_SOCKET, SO_NETNS_COOKIE, &cookie, &length) != 0) return 0;
  return cookie;
}

class KernelDatapath final : public Datapath {
 public:
  explicit KernelDatapath(const Options& options)
      : options_(options), dir_(abi_dir(options.bpffs)), link_dir_(dir_ + "/links") {}

  Status start() {
    TRY_ASSIGN(lock_, lock_pins(options_.bpffs));
    for (const auto& dir : {dir_, link_dir_})
      if (::mkdir(dir.c_str(), 0700) != 0 && errno != EEXIST) return fail_errno(errno, "cannot make {}", dir);
    adopted_ = has_live_links(link_dir_);
    LoadOptions load{dir_, options_.limits, false};
    TRY_ASSIGN(enforce_, load_enforce(load));
    load_optional(load);
    TRY(map_config());
    bind_tables();
    TRY(adopt_tables());
    return make_ring();
  }

  Result<bool> commit(const MapImage& image) override {
    TRY(compile::check_limits(image, limits_));
    MapImage next = with_kernel_names(image);
    if (generation() != 0 && !differs(next)) return false;
    TRY(check_room(next));
    widen_levels(next);
    std::uint32_t target = generation() + 1;
    if (Status staged = stage(next, target); !staged) {
      revert();
      return std::unexpected(std::move(staged).error());
    }
    std::atomic_ref<std::uint32_t>(config_.at->gen).store(target, std::memory_order_seq_cst);
    set_levels(next);
    // What could not be deleted means nothing in the new generation; the next adoption removes it.
    (void)clean(next);
    return true;
  }

  Status attach() override {
    struct stat st{};
    if (::stat(options_.mount.root.c_str(), &st) != 0)
      return fail_errno(errno, "the enforcement root {}", options_.mount.root);
    TRY(attach_enforce(enforce_, options_.mount.root, link_dir_));
    attached_root_ = st.st_ino;
    if (watch_) {
      if (Status attached = attach_cgroup_watch(watch_, link_dir_); !attached)
        features_["cgroup watch"] = "off: " + attached.error().context;
    }
    for (const auto& dir : other_abi_dirs(options_.bpffs)) TRY(remove_pins(dir));
    return {};
  }

  bool is_attached() const override {
    struct stat st{};
    return ::stat(options_.mount.root.c_str(), &st) == 0 && st.st_ino == attached_root_;
  }

  bool adopted() const override { return adopted_; }
  std::uint32_t generation() const override {
    return std::atomic_ref<std::uint32_t>(config_.at->gen).load(std::memory_order_relaxed);
  }
  const Limits& limits() const override { return limits_; }

  int ring_fd() const override { return ring_buffer__epoll_fd(ring_.get()); }

  std::size_t drain(std::size_t most, const std::function<void(const casa_event&)>& handle) override {
    handler_ = &handle;
    remaining_ = most;
    handled_ = 0;
    ring_buffer__consume(ring_.get());
    handler_ = nullptr;
    return handled_;
  }

  bool sleep_on_ring() override {
    std::atomic_ref<std::uint32_t>(config_.at->reader_idle).store(1, std::memory_order_seq_cst);
    if (ring__avail_data_size(ring_buffer__ring(ring_.get(), 0)) == 0) return true;
    std::atomic_ref<std::uint32_t>(config_.at->reader_idle).store(0, std::memory_order_relaxed);
    return false;
  }

  Status sweep(const std::function<void(const casa_event&)>& handle) override {
    if (!sweep_) return fail(ErrorCode::kUnsupported, "{}", features_.at("sweep"));
    LIBBPF_OPTS(bpf_iter_attach_opts, attach_options);
    bpf_iter_link_info info{};
    info.map.map_fd = static_cast<std::uint32_t>(bpf_map__fd(enforce_->maps.casa_sk));
    attach_options.link_info = &info;
    attach_options.link_info_len = sizeof info;
    std::unique_ptr<bpf_link, int (*)(bpf_link*)> link(
        bpf_program__attach_iter(sweep_->progs.casa_sweep, &attach_options), bpf_link__destroy);
    if (!link) return fail_errno(errno, "cannot start the sweep");
    Fd fd(bpf_iter_create(bpf_link__fd(link.get())));
    if (!fd) return fail_errno(errno, "cannot start the sweep");
    std::vector<casa_event> buffer(256);
    std::size_t held = 0;
    auto* bytes = reinterpret_cast<char*>(buffer.data());
    for (;;) {
      ssize_t n = ::read(fd.get(), bytes + held, buffer.size() * sizeof(casa_event) - held);
      if (n < 0 && (errno == EINTR || errno == EAGAIN)) continue;
      if (n < 0) return fail_errno(errno, "the sweep broke off");
      if (n == 0) return {};
      held += static_cast<std::size_t>(n);
      std::size_t whole = held / sizeof(casa_event);
      for (std::size_t i = 0; i < whole; ++i) handle(buffer[i]);
      held -= whole * sizeof(casa_event);
      std::memmove(bytes, bytes + whole * sizeof(casa_event), held);
    }
  }

  std::vector<UdpFlow> udp_flows() override {
    std::vector<UdpFlow> flows;
    udp_.each([&](const casa_udp_key& key, const casa_sk& state) { flows.push_back({key, state}); });
    return flows;
  }
  void forget_udp_flow(const casa_udp_key& key) override { (void)udp_.erase(key); }

  std::vector<Denial> denials() override {
    std::vector<Denial> found;
    denials_.each([&](const casa_denial_key& key, const casa_denial& value) { found.push_back({key, value}); });
    return found;
  }

  Status end_connection(const casa_event& event) override {
    if (event.flags & CASA_EVENT_PEER_WAITS)
      return destroy_tcp_socket({make_ip(event.remote), make_ip(event.local), event.remote_port, event.local_port},
                                event.cookie);
    return destroy_tcp_socket({make_ip(event.local), make_ip(event.remote), event.local_port, event.remote_port},
                              event.cookie);
  }

  std::array<std::uint64_t, CASA_STAT_COUNT> stats() const override {
    std::array<std::uint64_t, CASA_STAT_COUNT> sums{};
    int cpus = libbpf_num_possible_cpus();
    if (cpus <= 0) return sums;
    std::vector<std::uint64_t> values(static_cast<std::size_t>(cpus));
    for (std::uint32_t i = 0; i < CASA_STAT_COUNT; ++i) {
      if (bpf_map_lookup_elem(bpf_map__fd(enforce_->maps.casa_stat), &i, values.data()) != 0) continue;
      for (auto value : values) sums[i] += value;
    }
    return sums;
  }

  std::vector<MapUse> map_use() const override {
    return {
        {"casa_cgroup", cgroups_.size(), limits_.cgroups},    {"casa_cgpath", paths_.size(), limits_.cgroups},
        {"casa_subject", subjects_.size(), limits_.subjects}, {"casa_policy", policy_.size(), limits_.policy},
        {"casa_addr", addresses_.size(), limits_.addresses},  {"casa_lpm", prefixes_.size(), limits_.prefixes},
    };
  }

  const std::map<std::string, std::string>& features() const override { return features_; }

 private:
  void load_optional(const LoadOptions& load) {
    auto keep = [this](const char* feature, auto& object, auto loaded) {
      if (loaded) {
        object = std::move(*loaded);
        features_[feature] = "on";
      } else {
        features_[feature] = "off: " + loaded.error().context;
      }
    };
    keep("cgroup watch", watch_, load_cgroup_watch(load));
    keep("sweep", sweep_, load_sweep(load));
  }

  Status map_config() {
    void* at = ::mmap(nullptr, static_cast<std::size_t>(::sysconf(_SC_PAGESIZE)), PROT_READ | PROT_WRITE, MAP_SHARED,
                      bpf_map__fd(enforce_->maps.casa_config), 0);
    if (at == MAP_FAILED) return fail_errno(errno, "cannot map casa_config");
    config_.at = static_cast<casa_config*>(at);
    config_.at->host_netns_cookie = own_netns_cookie();
    return {};
  }

  void bind_tables() {
    const auto& maps = enforce_->maps;
    cgroups_ = {{bpf_map__fd(maps.casa_cgroup), "casa_cgroup"}, same<std::uint64_t>, same<std::uint64_t>};
    // Only the watch declares it, and without the watch nobody reads it.
    if (watch_) {
      auto encode = [](const std::string& path) {
        casa_cgpath_key key{};
        std::memcpy(key.path, path.data(), std::min<std::size_t>(path.size(), sizeof key.path - 1));
        return key;
      };
      auto decode = [](const casa_cgpath_key& key) {
        return std::string(key.path, ::strnlen(key.path, sizeof key.path));
      };
      paths_ = {{bpf_map__fd(watch_->maps.casa_cgpath), "casa_cgpath"}, encode, decode};
    }
    subjects_ = {{bpf_map__fd(maps.casa_subject), "casa_subject"}, same<std::uint32_t>, same<std::uint32_t>};
    policy_ = {{bpf_map__fd(maps.casa_policy), "casa_policy"}, encode_policy, decode_policy};
    addresses_ = {{bpf_map__fd(maps.casa_addr), "casa_addr"}, encode_address, decode_address};
    prefixes_ = {{bpf_map__fd(maps.casa_lpm), "casa_lpm"}, encode_prefix, decode_prefix, shorter_prefix};
    udp_ = {bpf_map__fd(maps.casa_udp), "casa_udp"};
    denials_ = {bpf_map__fd(maps.casa_denial), "casa_denial"};
    auto size = [](const bpf_map* map) { return static_cast<std::size_t>(bpf_map__max_entries(map)); };
    limits_ = {size(maps.casa_cgroup), size(maps.casa_subject), size(maps.casa_policy), size(maps.casa_addr),
               size(maps.casa_lpm)};
  }

  Status adopt_tables() {
    std::uint32_t gen = generation();
    TRY(cgroups_.adopt(gen));
    if (watch_) TRY(paths_.adopt(gen));
    TRY(subjects_.adopt(gen));
    TRY(policy_.adopt(gen));
    TRY(addresses_.adopt(gen));
    return prefixes_.adopt(gen);
  }

  struct RingCloser {
    void operator()(ring_buffer* ring) const { ring_buffer__free(ring); }
  };

  Status make_ring() {
    ring_.reset(ring_buffer__new(bpf_map__fd(enforce_->maps.casa_ring), on_record, this, nullptr));
    if (!ring_) return fail_errno(errno, "cannot read the event ring");
    return {};
  }

  static int on_record(void* self, void* data, std::size_t size) {
    auto* that = static_cast<KernelDatapath*>(self);
    if (size >= sizeof(casa_event) && that->handler_ != nullptr)
      (*that->handler_)(*static_cast<const casa_event*>(data));
    ++that->handled_;
    // A negative answer ends this round after the present record.
    return --that->remaining_ == 0 ? -EAGAIN : 0;
  }

  // Paths as the kernel names them: from the cgroup2 mount's root.
  MapImage with_kernel_names(const MapImage& image) const {
    MapImage next = image;
    next.cgroup_paths.clear();
    for (const auto& [path, payload] : image.cgroup_paths)
      next.cgroup_paths.emplace(options_.mount.kernel_root + "/" + path, payload);
    return next;
  }

  bool differs(const MapImage& next) {
    sync_cgroups(next);
    return cgroups_.differs(next.cgroups) || (watch_ && paths_.differs(next.cgroup_paths)) ||
           subjects_.differs(next.subjects) || policy_.differs(next.policy) || addresses_.differs(next.addresses) ||
           prefixes_.differs(next.prefixes);
  }

  // The kernel enters and removes cgroups by itself; what it did is no difference.
  void sync_cgroups(const MapImage& next) {
    auto payload = [&](std::uint64_t id) {
      auto value = cgroups_.map().get(id);
      return value ? (value->since <= generation() ? value->cur : value->prev) : 0u;
    };
    std::vector<std::uint64_t> ids;
    for (const auto& [id, wanted] : next.cgroups)
      if (!cgroups_.applied().contains(id)) ids.push_back(id);
    for (const auto& [id, applied] : cgroups_.applied())
      if (!next.cgroups.contains(id)) ids.push_back(id);
    for (auto id : ids) cgroups_.note(id, payload(id));
  }

  Status check_room(const MapImage& next) const {
    auto check = [](const char* name, std::size_t needed, std::size_t capacity) -> Status {
      if (needed <= capacity) return {};
      return fail(ErrorCode::kLimit,
                  "kernel map {} holds {} entries; old and new generation together need {} for a moment", name,
                  capacity, needed);
    };
    TRY(check("casa_cgroup", cgroups_.size_while_staged(next.cgroups), limits_.cgroups));
    TRY(check("casa_subject", subjects_.size_while_staged(next.subjects), limits_.subjects));
    TRY(check("casa_policy", policy_.size_while_staged(next.policy), limits_.policy));
    TRY(check("casa_addr", addresses_.size_while_staged(next.addresses), limits_.addresses));
    TRY(check("casa_lpm", prefixes_.size_while_staged(next.prefixes), limits_.prefixes));
    if (watch_) TRY(check("casa_cgpath", paths_.size_while_staged(next.cgroup_paths), limits_.cgroups));
    return {};
  }

  // Paths first: a cgroup made from here on is entered by the kernel with the right payload for both generations.
  Status stage(const MapImage& next, std::uint32_t target) {
    if (watch_) TRY(paths_.stage(next.cgroup_paths, target));
    TRY(cgroups_.stage(next.cgroups, target));
    TRY(subjects_.stage(next.subjects, target));
    TRY(policy_.stage(next.policy, target));
    TRY(addresses_.stage(next.addresses, target));
    return prefixes_.stage(next.prefixes, target);
  }

  void revert() {
    std::uint32_t gen = generation();
    if (watch_) (void)paths_.revert(gen);
    (void)cgroups_.revert(gen);
    (void)subjects_.revert(gen);
    (void)policy_.revert(gen);
    (void)addresses_.revert(gen);
    (void)prefixes_.revert(gen);
  }

  Status clean(const MapImage& next) {
    if (watch_) TRY(paths_.clean(next.cgroup_paths));
    TRY(cgroups_.clean(next.cgroups));
    TRY(subjects_.clean(next.subjects));
    TRY(policy_.clean(next.policy));
    TRY(addresses_.clean(next.addresses));
    return prefixes_.clean(next.prefixes);
  }

  void widen_levels(const MapImage& next) {
    unsigned base = options_.mount.root_level;
    if (config_.at->level_max == 0) {
      set_levels(next);
      return;
    }
    config_.at->level_min = std::min(config_.at->level_min, base + next.level_min);
    config_.at->level_max = std::max(config_.at->level_max, base + next.level_max);
  }
  void set_levels(const MapImage& next) {
    unsigned base = options_.mount.root_level;
    config_.at->level_min = base + next.level_min;
    config_.at->level_max = base + next.level_max;
  }

  const Options options_;
  const std::string dir_, link_dir_;
  Fd lock_;
  bool adopted_ = false;
  std::uint64_t attached_root_ = 0;  // inode
  EnforceObject enforce_;
  WatchObject watch_;
  SweepObject sweep_;
  std::map<std::string, std::string> features_;
  MappedConfig config_;
  Limits limits_;
  StagedTable<std::uint64_t, std::uint64_t> cgroups_;
  StagedTable<std::string, casa_cgpath_key> paths_;
  StagedTable<std::uint32_t, std::uint32_t> subjects_;
  StagedTable<PolicyKey, casa_policy_key> policy_;
  StagedTable<IpAddress, casa_addr_key> addresses_;
  StagedTable<IpPrefix, casa_lpm_key> prefixes_;
  BpfMap<casa_udp_key, casa_sk> udp_;
  BpfMap<casa_denial_key, casa_denial> denials_;
  std::unique_ptr<ring_buffer, RingCloser> ring_;
  const std::function<void(const casa_event&)>* handler_ = nullptr;
  std::size_t remaining_ = 0, handled_ = 0;
};

}  // namespace

Result<std::unique_ptr<Datapath>> Datapath::open(const Options& options) {
  auto datapath = std::make_unique<KernelDatapath>(options);
  TRY(datapath->start());
  return std::unique_ptr<Datapath>(std::move(datapath));
}

}  // namespace casa::datapath

#include "datapath/datapath.h"

#include <bpf/libbpf.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <future>
#include <set>
#include <thread>

#include "datapath/links.h"
#include "datapath/objects.h"
#include "datapath/pins.h"
#include "datapath/sock_destroy.h"
#include "datapath/tables.h"

namespace casa::datapath {
namespace {

using compile::Limits;
using compile::MapImage;
using compile::Touched;

// For UDP answers under way when another version's programs are replaced.
constexpr std::chrono::milliseconds kListen{500};

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
    found_links_elsewhere_ = has_links_elsewhere(link_dir_, options_.mount.root);
    LoadOptions load{dir_, options_.limits};
    TRY_ASSIGN(enforce_, load_enforce(load));
    load_optional(load);
    TRY(map_config());
    tables_.bind(enforce_, watch_, options_.mount.kernel_root);
    udp_ = {bpf_map__fd(enforce_->maps.casa_udp), "casa_udp"};
    denials_ = {bpf_map__fd(enforce_->maps.casa_denial), "casa_denial"};
    learnt_ = {bpf_map__fd(enforce_->maps.casa_learnt), "casa_learnt"};
    TRY(tables_.adopt(generation()));
    return make_ring();
  }

  Result<bool> commit(const MapImage& image) override { return bring(image, nullptr); }

  // Whole when an earlier image did not come in force, or when rows are missing or left over beside those named.
  Result<bool> commit(const MapImage& image, const Touched& touched) override {
    return bring(image, image_in_force_ && tables_.follows(image, touched) ? &touched : nullptr);
  }

  Status attach() override {
    struct stat st{};
    if (::stat(options_.mount.root.c_str(), &st) != 0)
      return fail_errno(errno, "the enforcement root {}", options_.mount.root);
    // Another version's programs hold until these do, so there is time to learn what is under way.
    auto listen = stands_beside_another() ? kListen : std::chrono::milliseconds{0};
    TRY(attach_enforce(enforce_, options_.mount.root, link_dir_, listen));
    attached_root_ = st.st_ino;
    if (watch_) {
      if (Status attached = attach_cgroup_watch(watch_, link_dir_); !attached)
        features_["cgroup watch"] = "off: " + attached.error().context;
    }
    for (const auto& dir : other_abi_dirs(options_.bpffs)) TRY(remove_pins(dir));
    return {};
  }

  bool stands_beside_another() const override { return !other_abi_dirs(options_.bpffs).empty(); }

  bool is_attached() const override {
    struct stat st{};
    return ::stat(options_.mount.root.c_str(), &st) == 0 && st.st_ino == attached_root_;
  }

  bool found_links_elsewhere() const override { return found_links_elsewhere_; }

  // No program writes this counter, so nothing is lost by reading and writing it whole.
  void count_root_replacement() override {
    std::vector<std::uint64_t> values(static_cast<std::size_t>(std::max(libbpf_num_possible_cpus(), 1)));
    const std::uint32_t index = CASA_STAT_ROOT_REPLACEMENTS;
    const int map = bpf_map__fd(enforce_->maps.casa_stat);
    if (bpf_map_lookup_elem(map, &index, values.data()) != 0) return;
    ++values[0];
    (void)bpf_map_update_elem(map, &index, values.data(), BPF_ANY);
  }

  bool adopted() const override { return adopted_; }
  const std::map<std::uint64_t, std::uint32_t>& cgroups() const override { return tables_.cgroups(); }
  const std::map<std::uint32_t, std::uint32_t>& subjects() const override { return tables_.subjects(); }
  std::uint32_t generation() const override {
    return std::atomic_ref<std::uint32_t>(config_.at->gen).load(std::memory_order_relaxed);
  }
  const Limits& limits() const override { return tables_.limits(); }

  int ring_fd() const override { return ring_buffer__epoll_fd(ring_.get()); }

  std::size_t drain(std::size_t most, const RecordHandler& handle) override {
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

  std::vector<Learnt> learnt() override {
    std::vector<Learnt> found;
    learnt_.each([&](const casa_learnt_key& key, const casa_learnt& value) { found.push_back({key, value}); });
    return found;
  }

  Status learn(const casa_learn_call& call) override {
    if (!inspect_) return fail(ErrorCode::kUnsupported, "{}", features_.at("inspection"));
    casa_learn_call context = call;
    LIBBPF_OPTS(bpf_test_run_opts, options, .ctx_in = &context, .ctx_size_in = sizeof context);
    if (int err = bpf_prog_test_run_opts(bpf_program__fd(inspect_->progs.casa_learn), &options); err != 0)
      return fail_errno(err, "cannot run casa_learn");
    if (options.retval != 0)
      return fail(ErrorCode::kInvalidArgument, "{} may stand for no name", to_string(make_ip(call.key.address)));
    return {};
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

  Status set_token_paths(const std::vector<std::string>& segments) override {
    if (!requests_) return {};
    BpfMap<casa_token_path_key, std::uint32_t> map(bpf_map__fd(requests_->maps.casa_token_path), "casa_token_path");
    std::set<std::string> wanted(segments.begin(), segments.end());
    std::vector<casa_token_path_key> stale;
    map.each([&](const casa_token_path_key& key, std::uint32_t) {
      if (wanted.erase(key.segment) == 0) stale.push_back(key);
    });
    for (const auto& key : stale) TRY(map.erase(key));
    for (const auto& segment : wanted) {
      if (segment.empty() || segment.size() > CASA_PATH_SEGMENT_MAX)
        return fail(ErrorCode::kInvalidArgument, "'{}' is no path segment of 1 to {} characters", segment,
                    CASA_PATH_SEGMENT_MAX);
      casa_token_path_key key{};
      segment.copy(key.segment, sizeof key.segment);
      TRY(map.put(key, 1));
    }
    return {};
  }

  void enable_raw_tokens(bool on) override {
    if (!requests_) return;
    std::atomic_ref<std::uint32_t>(config_.at->token_flags)
        .store(CASA_TOKENS_READ | (on ? CASA_TOKENS_VERIFY : 0u), std::memory_order_seq_cst);
  }
  RawTokens* raw_tokens() override { return requests_ ? &raw_tokens_ : nullptr; }
  Result<std::unique_ptr<TlsObserver>> observe_tls() override {
    auto observer = TlsObserver::load({dir_, options_.limits});
    features_["tls observer"] = observer ? "on" : "off: " + observer.error().context;
    return observer;
  }

  std::vector<MapUse> map_use() const override { return tables_.use(); }

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
    // The verifier takes its time, and two CPUs can share it. What both objects share was made with the enforcement programs.
    auto requests = std::async(std::launch::async, [&load] { return load_requests(load); });
    keep("cgroup watch", watch_, load_cgroup_watch(load));
    keep("sweep", sweep_, load_sweep(load));
    keep("inspection", inspect_, load_inspect(load));
    keep("requests", requests_, requests.get());
    const bpf_map *out = enforce_->maps.casa_look_out, *in = enforce_->maps.casa_look_in;
    if (inspect_) {
      const auto& programs = inspect_->progs;
      place("inspection", inspect_,
            {{out, CASA_LOOK_DNS, programs.casa_dns_out},
             {in, CASA_LOOK_DNS, programs.casa_dns_in},
             {out, CASA_LOOK_HTTP, programs.casa_http_out},
             {in, CASA_LOOK_HTTP, programs.casa_http_in},
             {out, CASA_LOOK_TLS, programs.casa_tls_out},
             {in, CASA_LOOK_TLS, programs.casa_tls_in}});
    }
    if (requests_) {
      const auto& programs = requests_->progs;
      place("requests", requests_,
            {{out, CASA_LOOK_REQUESTS, programs.casa_req_out}, {in, CASA_LOOK_REQUESTS, programs.casa_req_in}});
    }
  }

  // Into the arrays that the enforcement programs call from; one program is replaced by the next in one step.
  struct Place {
    const bpf_map* array;
    casa_look look;
    const bpf_program* program;
  };
  template <typename Object>
  void place(const char* feature, Object& object, std::initializer_list<Place> places) {
    for (const Place& place : places) {
      auto index = static_cast<std::uint32_t>(place.look);
      int program = bpf_program__fd(place.program);
      if (int err = bpf_map_update_elem(bpf_map__fd(place.array), &index, &program, BPF_ANY); err != 0) {
        features_[feature] =
            "off: " + fail_errno(err, "cannot place {}", bpf_program__name(place.program)).error().context;
        object = {};
        return;
      }
    }
  }

  Status map_config() {
    void* at = ::mmap(nullptr, static_cast<std::size_t>(::sysconf(_SC_PAGESIZE)), PROT_READ | PROT_WRITE, MAP_SHARED,
                      bpf_map__fd(enforce_->maps.casa_config), 0);
    if (at == MAP_FAILED) return fail_errno(errno, "cannot map casa_config");
    config_.at = static_cast<casa_config*>(at);
    config_.at->host_netns_cookie = own_netns_cookie();
    config_.at->token_flags = requests_ ? CASA_TOKENS_READ : 0;
    return {};
  }

  struct RingCloser {
    void operator()(ring_buffer* ring) const { ring_buffer__free(ring); }
  };

  Status make_ring() {
    ring_.reset(ring_buffer__new(bpf_map__fd(enforce_->maps.casa_ring), on_record, this, nullptr));
    if (!ring_) return fail_errno(errno, "cannot read the event ring");
    if (requests_) TRY(raw_tokens_.open(requests_));
    return {};
  }

  static int on_record(void* self, void* data, std::size_t size) {
    auto* that = static_cast<KernelDatapath*>(self);
    if (size >= sizeof(casa_event) && that->handler_ != nullptr) {
      const auto* event = static_cast<const casa_event*>(data);
      bool token = event->kind == CASA_EVENT_TOKEN || event->kind == CASA_EVENT_APP;
      Record record{*event};
      if (token && size >= sizeof(casa_token_event)) record.token = static_cast<const casa_token_event*>(data);
      if (!token && size >= sizeof(casa_named_event)) record.name = static_cast<const casa_named_event*>(data);
      (*that->handler_)(record);
    }
    ++that->handled_;
    // A negative answer ends this round after the present record.
    return --that->remaining_ == 0 ? -EAGAIN : 0;
  }

  // Looks at the rows named, or at all of them.
  Result<bool> bring(const MapImage& next, const Touched* touched) {
    image_in_force_ = false;
    TRY(compile::check_limits(next, limits(), touched));
    bool news = tables_.compare(next, touched, generation()) || generation() == 0;
    if (news) TRY(switch_to(next));
    image_in_force_ = true;
    return news;
  }

  Status switch_to(const MapImage& next) {
    TRY(tables_.check_room());
    widen_levels(next);
    std::uint32_t target = generation() + 1;
    if (Status staged = tables_.stage(next, target); !staged) {
      tables_.revert(generation());
      return staged;
    }
    std::atomic_ref<std::uint32_t>(config_.at->gen).store(target, std::memory_order_seq_cst);
    set_levels(next);
    tables_.clean();
    return {};
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
  bool adopted_ = false, found_links_elsewhere_ = false;
  std::uint64_t attached_root_ = 0;  // inode
  EnforceObject enforce_;
  WatchObject watch_;
  SweepObject sweep_;
  InspectObject inspect_;
  RequestsObject requests_;
  std::map<std::string, std::string> features_;
  MappedConfig config_;
  Tables tables_;
  bool image_in_force_ = false;  // the image that this run was given last; an earlier run's is known by its rows only
  BpfMap<casa_udp_key, casa_sk> udp_;
  BpfMap<casa_denial_key, casa_denial> denials_;
  BpfMap<casa_learnt_key, casa_learnt> learnt_;
  std::unique_ptr<ring_buffer, RingCloser> ring_;
  RawTokens raw_tokens_;
  const RecordHandler* handler_ = nullptr;
  std::size_t remaining_ = 0, handled_ = 0;
};

}  // namespace

Result<std::unique_ptr<Datapath>> Datapath::open(const Options& options) {
  auto datapath = std::make_unique<KernelDatapath>(options);
  TRY(datapath->start());
  return std::unique_ptr<Datapath>(std::move(datapath));
}

}  // namespace casa::datapath

// What one packet costs in the enforcement programs: BPF_PROG_TEST_RUN, hot caches, ns per run less the empty program's.
// Runs in a network namespace of its own (a veth pair, because on lo a peer is looked for by its socket) and needs
// root. Prints a table, and JSON with --json FILE.
#include <bpf/bpf.h>
#include <linux/if_link.h>
#include <net/if.h>
#include <sched.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <string>
#include <vector>

#include <fmt/format.h>

#include "casa/abi/types.h"  // the skeletons need it

#include "base/json.h"
#include "bench_requests.skel.h"
#include "bench_tcp.skel.h"
#include "bench_udp.skel.h"
#include "casa/abi/policy.h"
#include "casa/abi/stats.h"
#include "skeleton.h"

namespace {

constexpr int kRepeat = 200'000;
constexpr int kRounds = 15;
constexpr int kRepeatTold = 10'000;  // where each run may tell something: fewer than the ring has room for
constexpr std::uint32_t kSubject = 1000, kPeer = 1001, kGeneration = 1;

// Ethernet, IPv4 10.0.0.1:40000 -> 10.0.0.2:8080, or back.
std::vector<unsigned char> packet(unsigned char protocol, bool back = false) {
  std::vector<unsigned char> p(14 + 20 + 20 + 64);
  p[12] = 0x08;
  p[14] = 0x45;
  p[14 + 9] = protocol;
  const unsigned char addresses[] = {10, 0, 0, 1, 10, 0, 0, 2};
  std::memcpy(&p[14 + 12], addresses, 8);
  const unsigned char ports[] = {0x9c, 0x40, 0x1f, 0x90};
  std::memcpy(&p[34], ports, 4);
  p[34 + 13] = 0x10;
  if (back) {
    std::swap_ranges(&p[26], &p[30], &p[30]);
    std::swap_ranges(&p[34], &p[36], &p[36]);
  }
  return p;
}

// The same, with bytes behind a TCP header.
std::vector<unsigned char> packet_of(const std::string& bytes) {
  std::vector<unsigned char> p = packet(6);
  p.resize(54);
  p[34 + 12] = 0x50;
  p.insert(p.end(), bytes.begin(), bytes.end());
  return p;
}

// A request whose head has so many bytes: one field is as long as it must be.
std::string request_of(std::size_t bytes, const std::string& field) {
  std::string head = "GET /mcp HTTP/1.1\r\nHost: mcp.tools:8080\r\nAccept: */*\r\n";
  head += field.empty() ? "User-Agent: " : field + "\r\nUser-Agent: ";
  return head + std::string(bytes - head.size() - 4, 'a') + "\r\n\r\n";
}

// A JWT of so many bytes.
std::string token_of(std::size_t bytes) {
  std::string token = "eyJhbGciOiJSUzI1NiJ9.";  // {"alg":"RS256"}
  return token + std::string(bytes - token.size() - 343, 'a') + '.' + std::string(342, 'b');
}

// A cgroup of our own, because a socket at the root of the hierarchy belongs to nobody. The test run's socket gets it.
class OwnCgroup {
 public:
  OwnCgroup() {
    std::ifstream in("/proc/self/cgroup"), mounts("/proc/mounts");
    std::string line;
    while (std::getline(in, line))
      if (line.starts_with("0::")) old_ = line.substr(3);
    while (std::getline(mounts, line)) {
      auto first = line.find(' '), second = line.find(' ', first + 1);
      if (line.compare(second + 1, 8, "cgroup2 ") == 0) mount_ = line.substr(first + 1, second - first - 1);
    }
    path_ = fmt::format("{}/casad-bench-{}", mount_, ::getpid());
    struct stat st{};
    if (::mkdir(path_.c_str(), 0755) != 0 || !enter(path_) || ::stat(path_.c_str(), &st) != 0) {
      fmt::print(stderr, "cannot make and enter {}\n", path_);
      std::exit(1);
    }
    id_ = st.st_ino;
  }
  ~OwnCgroup() {
    enter(mount_ + old_);
    ::rmdir(path_.c_str());
  }
  OwnCgroup(const OwnCgroup&) = delete;
  OwnCgroup& operator=(const OwnCgroup&) = delete;
  [[nodiscard]] std::uint64_t id() const { return id_; }

 private:
  static bool enter(const std::string& path) {
    return static_cast<bool>(std::ofstream(path + "/cgroup.procs") << ::getpid() << std::flush);
  }
  std::string mount_, old_, path_;
  std::uint64_t id_ = 0;
};

template <typename Key, typename Value>
void put(const bpf_map* map, const Key& key, const Value& value) {
  if (bpf_map_update_elem(bpf_map__fd(map), &key, &value, BPF_ANY) != 0) {
    fmt::print(stderr, "cannot fill {}: {}\n", bpf_map__name(map), std::strerror(errno));
    std::exit(1);
  }
}

template <typename Skeleton>
void load(Skeleton& skeleton) {
  bpf_map* map = nullptr;
  bpf_object__for_each_map(map, skeleton->obj) bpf_map__set_pin_path(map, nullptr);
}

template <typename S>
void fill(S& skeleton, std::uint64_t cgroup, bool managed, unsigned entries) {
  auto& maps = skeleton->maps;
  if (managed) put(maps.casa_cgroup, cgroup, casa_versioned{1, kSubject, 0});
  put(maps.casa_subject, kSubject, casa_versioned{1, CASA_SUBJECT_MANAGED, 0});
  casa_addr_key address{};
  address.address[10] = address.address[11] = 0xff;
  const unsigned char peer[] = {10, 0, 0, 2};
  std::memcpy(address.address + 12, peer, 4);
  put(maps.casa_addr, address, casa_versioned{1, kPeer, 0});
  for (casa_u8 protocol : {casa_u8{6}, casa_u8{17}})
    put(maps.casa_policy, casa_policy_key{kSubject, kPeer, 8080, protocol, CASA_EGRESS},
        casa_versioned{1, CASA_POLICY_PAYLOAD(CASA_REASON_ENDPOINT_ALLOWED, 1), 0});
  for (unsigned i = 0; i < entries; ++i) {
    put(maps.casa_policy, casa_policy_key{kSubject, 5000 + i, 8080, 6, CASA_EGRESS},
        casa_versioned{1, CASA_POLICY_PAYLOAD(CASA_REASON_ENDPOINT_ALLOWED, 1), 0});
    casa_addr_key other = address;
    other.address[12] = 11;
    other.address[13] = static_cast<casa_u8>(i >> 16);
    other.address[14] = static_cast<casa_u8>(i >> 8);
    other.address[15] = static_cast<casa_u8>(i);
    put(maps.casa_addr, other, casa_versioned{1, 5000 + i, 0});
  }
  casa_config config{};
  config.gen = kGeneration;
  config.level_min = 1;
  config.level_max = 4;
  casa_u32 zero = 0;
  put(maps.casa_config, zero, config);
}

// Nanoseconds per run: median, minimum and maximum of kRounds.
struct Figure {
  std::string name;
  double median = 0, min = 0, max = 0;
  int verdict = -1;
};

struct Runs {
  int repeat = kRepeat;
  unsigned mark = 0;
  const bpf_map* ring = nullptr;  // is emptied between rounds
};

void empty_ring(const bpf_map* map) {
  if (map == nullptr) return;
  ring_buffer* ring = ring_buffer__new(bpf_map__fd(map), [](void*, void*, std::size_t) { return 0; }, nullptr, nullptr);
  if (ring == nullptr || ring_buffer__consume(ring) < 0) std::exit(1);
  ring_buffer__free(ring);
}

Figure measure(const char* name, const bpf_program* program, std::vector<unsigned char> data, unsigned ifindex,
               Runs runs = {}) {
  std::vector<double> ns;
  Figure figure{name};
  for (int round = 0; round < kRounds; ++round) {
    __sk_buff context{};
    context.ifindex = ifindex;
    context.mark = runs.mark;
    empty_ring(runs.ring);
    LIBBPF_OPTS(bpf_test_run_opts, options, .data_in = data.data(), .data_size_in = static_cast<__u32>(data.size()),
                .ctx_in = &context, .ctx_size_in = sizeof context, .repeat = runs.repeat);
    if (bpf_prog_test_run_opts(bpf_program__fd(program), &options) != 0) {
      fmt::print(stderr, "test run of {} failed: {}\n", name, std::strerror(errno));
      std::exit(1);
    }
    ns.push_back(options.duration);
    figure.verdict = static_cast<int>(options.retval);
  }
  std::ranges::sort(ns);
  figure.median = ns[ns.size() / 2];
  figure.min = ns.front();
  figure.max = ns.back();
  return figure;
}

template <typename S>
std::uint64_t stat_of(S& skeleton, std::uint32_t index) {
  std::vector<std::uint64_t> values(static_cast<std::size_t>(libbpf_num_possible_cpus()));
  if (bpf_map_lookup_elem(bpf_map__fd(skeleton->maps.casa_stat), &index, values.data()) != 0) return 0;
  std::uint64_t sum = 0;
  for (auto value : values) sum += value;
  return sum;
}

unsigned make_device() {
  if (::unshare(CLONE_NEWNET) != 0 ||
      std::system("ip link add casa0 type veth peer name casa1 && ip link set casa0 up && ip link set casa1 up") != 0) {
    fmt::print(stderr, "cannot make a network namespace with a veth pair (root? iproute2?)\n");
    std::exit(1);
  }
  return ::if_nametoindex("casa0");
}

casa::Skeleton<casa_bench_tcp> open_tcp(std::uint64_t cgroup, bool managed, unsigned entries) {
  casa::Skeleton<casa_bench_tcp> skeleton(casa_bench_tcp::open(nullptr));
  load(skeleton);
  if (casa_bench_tcp::load(skeleton.get()) != 0) std::exit(1);
  fill(skeleton, cgroup, managed, entries);
  return skeleton;
}

// Requests on a connection that is read: what one packet costs more than one without reading it.
void measure_requests(std::vector<Figure>& figures, std::uint64_t cgroup, unsigned device) {
  casa::Skeleton<casa_bench_requests> requests(casa_bench_requests::open(nullptr));
  load(requests);
  if (casa_bench_requests::load(requests.get()) != 0) {
    fmt::print(stderr, "cannot load the programs that read requests\n");
    std::exit(1);
  }
  fill(requests, cgroup, true, 0);
  Runs told{kRepeatTold, 0, requests->maps.casa_ring}, hashed{kRepeatTold, 1, requests->maps.casa_ring};
  const bpf_program* read = requests->progs.casa_bench_read;
  auto head = packet_of(request_of(162, ""));
  auto token = packet_of(request_of(962, "Authorization: Bearer " + token_of(800)));
  figures.push_back(measure("requests: rewound, not read", requests->progs.casa_rewound, head, device, told));
  figures.push_back(measure("request of 162 B without a token", read, head, device, told));
  figures.push_back(measure("request of 962 B, known token of 800 B", read, token, device, told));
  std::uint64_t before = stat_of(requests, CASA_STAT_TOKENS_HASHED);
  figures.push_back(measure("request of 962 B, new token of 800 B", read, token, device, hashed));
  // One hash for each test run's socket where the token is known, one for each run where it is new.
  std::uint64_t again = stat_of(requests, CASA_STAT_TOKENS_HASHED) - before;
  if (before != kRounds || again != std::uint64_t{kRounds} * kRepeatTold ||
      stat_of(requests, CASA_STAT_EVENTS_LOST) != 0) {
    fmt::print(stderr, "{} and {} tokens hashed, {} records lost\n", before, again,
               stat_of(requests, CASA_STAT_EVENTS_LOST));
    std::exit(1);
  }
}

}  // namespace

int main(int argc, char** argv) {
  libbpf_set_print(nullptr);
  OwnCgroup own;
  std::uint64_t cgroup = own.id();
  unsigned device = make_device();
  std::vector<Figure> figures;
  {
    auto tcp = open_tcp(cgroup, true, 0);
    figures.push_back(measure("empty program", tcp->progs.casa_empty, packet(6), device));
    figures.push_back(measure("TCP established, egress", tcp->progs.casa_egress, packet(6), device));
    figures.push_back(measure("TCP established, ingress", tcp->progs.casa_ingress, packet(6, true), device));
    // One flow for each test run's socket: else the rows above measured something other than an established connection.
    if (stat_of(tcp, CASA_STAT_FLOWS) != 2 * kRounds) {
      fmt::print(stderr, "expected {} flows, the programs made {}\n", 2 * kRounds, stat_of(tcp, CASA_STAT_FLOWS));
      return 1;
    }
  }
  {
    auto tcp = open_tcp(cgroup, true, 0);
    const bpf_program* body = tcp->progs.casa_bench_body;
    figures.push_back(measure("TCP established, not read (looked up twice)", body, packet(6), device, {kRepeat, 0}));
    figures.push_back(measure("the same inside a body", body, packet(6), device, {kRepeat, 1}));
  }
  {
    auto tcp = open_tcp(cgroup, true, 100'000);
    figures.push_back(measure("TCP established, egress, 100k entries", tcp->progs.casa_egress, packet(6), device));
  }
  {
    auto tcp = open_tcp(cgroup, false, 0);
    figures.push_back(measure("process outside every workload", tcp->progs.casa_egress, packet(6), device));
  }
  {
    casa::Skeleton<casa_bench_udp> udp(casa_bench_udp::open(nullptr));
    load(udp);
    if (casa_bench_udp::load(udp.get()) != 0) return 1;
    fill(udp, cgroup, true, 0);
    figures.push_back(measure("UDP conversation, egress", udp->progs.casa_egress, packet(17), device));
  }
  measure_requests(figures, cgroup, device);
  double floor = figures.front().median;
  casa::JsonWriter json;
  json.begin_object()
      .field("unit", "ns per packet, median of 15 rounds of 200000, requests of 10000")
      .field("emptyProgram", floor)
      .key("rows")
      .begin_array();
  fmt::print("{:<46} {:>8} {:>8} {:>8} {:>8}\n", "ns per packet (BPF_PROG_TEST_RUN)", "median", "min", "max", "net");
  for (const auto& f : figures) {
    fmt::print("{:<46} {:>8.0f} {:>8.0f} {:>8.0f} {:>8.0f}{}\n", f.name, f.median, f.min, f.max, f.median - floor,
               f.verdict == 1 ? "" : "  (NOT LET PASS)");
    json.begin_object()
        .field("name", f.name)
        .field("median", f.median)
        .field("min", f.min)
        .field("max", f.max)
        .field("net", f.median - floor)
        .field("passed", f.verdict == 1)
        .end_object();
  }
  json.end_array().end_object();
  if (argc == 3 && std::string(argv[1]) == "--json") std::ofstream(argv[2]) << json.str() << '\n';
  bool all_passed = std::ranges::all_of(figures, [](const Figure& f) { return f.verdict == 1; });
  return all_passed ? 0 : 1;
}

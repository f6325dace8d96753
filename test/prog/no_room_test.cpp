// What the programs do when a map takes no row or a socket gets no storage (no_room.bpf.c): nobody passes that must be
// remembered, and the reason says so. The packets' socket is in a cgroup of the test's own, the workload's.
#include <bpf/bpf.h>
#include <net/if.h>
#include <sched.h>
#include <sys/stat.h>
#include <unistd.h>

#include <catch2/catch_test_macros.hpp>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <string>
#include <vector>

#include <fmt/format.h>

#include "casa/abi/policy.h"
#include "casa/abi/stats.h"
#include "no_room.skel.h"
#include "skeleton.h"

namespace {

constexpr std::uint32_t kSubject = 1000, kPeer = 1001;
constexpr casa_u16 kPort = 8080;
constexpr unsigned char kTcp = 6, kUdp = 17;

// A socket at the root of the hierarchy belongs to nobody; and a network of the test's own, with a device that is not lo.
class Place {
 public:
  Place() {
    std::ifstream in("/proc/self/cgroup"), mounts("/proc/mounts");
    std::string line;
    while (std::getline(in, line))
      if (line.starts_with("0::")) old_ = line.substr(3);
    while (mount_.empty() && std::getline(mounts, line)) {
      auto first = line.find(' '), second = line.find(' ', first + 1);
      if (line.compare(second + 1, 8, "cgroup2 ") == 0) mount_ = line.substr(first + 1, second - first - 1);
    }
    path_ = fmt::format("{}/casad-prog-{}", mount_, ::getpid());
    REQUIRE(::mkdir(path_.c_str(), 0755) == 0);
    struct stat st{};
    REQUIRE(::stat(path_.c_str(), &st) == 0);
    id = st.st_ino;
    REQUIRE(enter(path_));
    REQUIRE(::unshare(CLONE_NEWNET) == 0);
    REQUIRE(std::system(
                "ip link add casa0 type veth peer name casa1 && ip link set casa0 up && ip link set casa1 up") == 0);
    device = ::if_nametoindex("casa0");
  }
  ~Place() {
    enter(mount_ + old_);
    ::rmdir(path_.c_str());
  }
  Place(const Place&) = delete;
  Place& operator=(const Place&) = delete;

  std::uint64_t id = 0;
  unsigned device = 0;

 private:
  static bool enter(const std::string& path) {
    return static_cast<bool>(std::ofstream(path + "/cgroup.procs") << ::getpid() << std::flush);
  }
  std::string mount_, old_, path_;
};

class Programs {
 public:
  Programs(std::uint64_t cgroup, bool tcp, bool storage, std::uint32_t flags = CASA_SUBJECT_MANAGED) {
    skeleton_ = casa::Skeleton<casa_no_room>(casa_no_room::open(nullptr));
    REQUIRE(skeleton_);
    skeleton_->rodata->casa_tcp = tcp;
    skeleton_->rodata->casa_no_storage = !storage;
    bpf_map* map = nullptr;
    bpf_object__for_each_map(map, skeleton_->obj) bpf_map__set_pin_path(map, nullptr);
    REQUIRE(casa_no_room::load(skeleton_.get()) == 0);
    auto& maps = skeleton_->maps;
    put(maps.casa_cgroup, cgroup, casa_versioned{1, kSubject, 0});
    put(maps.casa_subject, kSubject, casa_versioned{1, flags, 0});
    casa_addr_key address{{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 10, 0, 0, 2}};
    put(maps.casa_addr, address, casa_versioned{1, kPeer, 0});
    for (casa_u8 protocol : {kTcp, kUdp})
      for (auto direction : {CASA_EGRESS, CASA_INGRESS})
        put(maps.casa_policy, casa_policy_key{kSubject, kPeer, kPort, protocol, static_cast<casa_u8>(direction)},
            casa_versioned{1, CASA_POLICY_PAYLOAD(CASA_REASON_ENDPOINT_ALLOWED, 1), 0});
    casa_config config{};
    config.gen = 1;
    config.level_min = 1;
    config.level_max = 4;
    put(maps.casa_config, casa_u32{0}, config);
  }

  // One packet between the workload, 10.0.0.1, and the peer, 10.0.0.2; whoever is called is called on kPort.
  bool passes(unsigned device, unsigned char protocol, bool out, bool workload_calls) {
    std::vector<unsigned char> p(14 + 20 + 20 + 64);
    p[12] = 0x08;
    p[14] = 0x45;
    p[14 + 9] = protocol;
    const unsigned char workload[] = {10, 0, 0, 1}, peer[] = {10, 0, 0, 2};
    std::memcpy(&p[14 + 12], out ? workload : peer, 4);
    std::memcpy(&p[14 + 16], out ? peer : workload, 4);
    const unsigned char service[] = {kPort >> 8, kPort & 0xff}, own[] = {0x9c, 0x40};
    bool to_service = out == workload_calls;
    std::memcpy(&p[34], to_service ? own : service, 2);
    std::memcpy(&p[36], to_service ? service : own, 2);
    p[34 + 13] = 0x10;
    __sk_buff context{};
    context.ifindex = device;
    LIBBPF_OPTS(bpf_test_run_opts, options, .data_in = p.data(), .data_size_in = static_cast<__u32>(p.size()),
                .ctx_in = &context, .ctx_size_in = sizeof context, .repeat = 1);
    const bpf_program* program = out ? skeleton_->progs.casa_egress : skeleton_->progs.casa_ingress;
    REQUIRE(bpf_prog_test_run_opts(bpf_program__fd(program), &options) == 0);
    return options.retval == 1;
  }

  std::uint64_t count(std::uint32_t index) {
    std::vector<std::uint64_t> values(static_cast<std::size_t>(libbpf_num_possible_cpus()));
    REQUIRE(bpf_map_lookup_elem(bpf_map__fd(skeleton_->maps.casa_stat), &index, values.data()) == 0);
    std::uint64_t sum = 0;
    for (auto value : values) sum += value;
    return sum;
  }
  std::uint64_t refused(casa_reason reason) { return count(CASA_STAT_REASON_BASE + reason); }

 private:
  template <typename Key, typename Value>
  static void put(const bpf_map* map, const Key& key, const Value& value) {
    REQUIRE(bpf_map_update_elem(bpf_map__fd(map), &key, &value, BPF_ANY) == 0);
  }
  casa::Skeleton<casa_no_room> skeleton_;
};

}  // namespace

TEST_CASE("no room: what must be remembered and cannot be is refused") {
  if (::geteuid() != 0) SKIP("needs root: it loads BPF programs");
  Place place;

  SECTION("an incoming UDP conversation") {
    Programs programs(place.id, false, true);
    CHECK_FALSE(programs.passes(place.device, kUdp, false, false));
    CHECK(programs.refused(CASA_REASON_MAP_FULL) == 1);
    CHECK(programs.count(CASA_STAT_DENIED) == 1);
    CHECK(programs.count(CASA_STAT_FAIL_UDP_INSERT) == 1);
    CHECK(programs.count(CASA_STAT_FLOWS) == 0);
  }
  SECTION("an incoming UDP conversation, in audit mode") {
    Programs programs(place.id, false, true, CASA_SUBJECT_MANAGED | CASA_SUBJECT_AUDIT);
    CHECK(programs.passes(place.device, kUdp, false, false));
    CHECK(programs.refused(CASA_REASON_MAP_FULL) == 1);
    CHECK(programs.count(CASA_STAT_AUDITED) == 1);
  }
  SECTION("what a UDP socket asks, and the answer, need no row") {
    Programs programs(place.id, false, true);
    CHECK(programs.passes(place.device, kUdp, true, true));
    CHECK(programs.passes(place.device, kUdp, false, true));
    CHECK(programs.count(CASA_STAT_DENIED) == 0);
    CHECK(programs.count(CASA_STAT_FAIL_UDP_INSERT) == 2);
  }
  for (bool tcp : {true, false}) {
    DYNAMIC_SECTION("a socket without storage, " << (tcp ? "TCP" : "UDP")) {
      Programs programs(place.id, tcp, false);
      unsigned char protocol = tcp ? kTcp : kUdp;
      CHECK_FALSE(programs.passes(place.device, protocol, true, true));
      CHECK_FALSE(programs.passes(place.device, protocol, false, false));
      CHECK(programs.refused(CASA_REASON_FAULT) == 2);
      CHECK(programs.count(CASA_STAT_FAIL_SK_STORAGE) == 2);
    }
  }
  SECTION("a socket without storage that is no workload's") {
    Programs programs(place.id + 1, true, false);
    CHECK(programs.passes(place.device, kTcp, true, true));
    CHECK(programs.count(CASA_STAT_DENIED) == 0);
  }
}

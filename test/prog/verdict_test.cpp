// The verdict in the kernel and compile::decide() are one function written twice; here they get the same questions over
// the same generations, rows staged for the next generation included.
#include <bpf/bpf.h>
#include <unistd.h>

#include <array>
#include <catch2/catch_test_macros.hpp>
#include <cstring>
#include <map>
#include <random>

#include "casa/abi/policy.h"
#include "compile/explain.h"
#include "datapath/staged_table.h"
#include "skeleton.h"
#include "verdict.skel.h"

namespace {

using casa::IpAddress;
using casa::IpPrefix;
using casa::compile::MapImage;
using casa::compile::PolicyKey;

// As in verdict.bpf.c.
struct Call {
  struct {
    casa_u32 gen, subject, subject_flags, peer;
    casa_u16 port;
    casa_u8 protocol, direction;
    casa_u32 same_host;
  } question;
  struct {
    casa_u32 rule;
    casa_u8 verdict, reason;
    casa_u16 pad;
  } decision;
  casa_u8 address[16];
  casa_u32 identity, pad;
};

class Kernel {
 public:
  Kernel() {
    skeleton_ = casa::Skeleton<casa_verdict_test>(casa_verdict_test::open(nullptr));
    REQUIRE(skeleton_);
    bpf_map* map = nullptr;
    bpf_object__for_each_map(map, skeleton_->obj) bpf_map__set_pin_path(map, nullptr);
    REQUIRE(casa_verdict_test::load(skeleton_.get()) == 0);
  }
  casa_verdict_test* operator->() const { return skeleton_.get(); }

  void put(const MapImage& image, std::uint32_t since, const MapImage* before) {
    for (const auto& [key, payload] : image.policy) {
      casa_policy_key k{key.subject, key.peer, key.port, key.protocol, static_cast<casa_u8>(key.direction)};
      update(skeleton_->maps.casa_policy, k,
             {since, payload, before != nullptr && before->policy.contains(key) ? before->policy.at(key) : 0u});
    }
    for (const auto& [subject, flags] : image.subjects)
      update(
          skeleton_->maps.casa_subject, subject,
          {since, flags, before != nullptr && before->subjects.contains(subject) ? before->subjects.at(subject) : 0u});
    for (const auto& [ip, identity] : image.addresses) {
      casa_addr_key k{};
      std::memcpy(k.address, ip.bytes.data(), 16);
      update(skeleton_->maps.casa_addr, k,
             {since, identity, before != nullptr && before->addresses.contains(ip) ? before->addresses.at(ip) : 0u});
    }
    for (const auto& [prefix, identity] : image.prefixes) {
      casa_lpm_key k{};
      k.prefix_bits = prefix.length;
      std::memcpy(k.address, prefix.address.bytes.data(), 16);
      update(
          skeleton_->maps.casa_lpm, k,
          {since, identity, before != nullptr && before->prefixes.contains(prefix) ? before->prefixes.at(prefix) : 0u});
    }
  }

  Call ask(const casa::compile::Question& q, std::uint32_t gen, const IpAddress& ip) const {
    Call call{};
    call.question.gen = gen;
    call.question.subject = q.subject;
    call.question.peer = q.peer;
    call.question.port = q.port;
    call.question.protocol = q.protocol;
    call.question.direction = static_cast<casa_u8>(q.direction);
    call.question.same_host = q.same_host ? 1 : 0;
    std::memcpy(call.address, ip.bytes.data(), 16);
    std::array<unsigned char, 14 + sizeof(Call)> packet{};
    std::memcpy(packet.data() + 14, &call, sizeof call);
    LIBBPF_OPTS(bpf_test_run_opts, options, .data_in = packet.data(), .data_out = packet.data(),
                .data_size_in = packet.size(), .data_size_out = packet.size());
    REQUIRE(bpf_prog_test_run_opts(bpf_program__fd(skeleton_->progs.casa_ask), &options) == 0);
    REQUIRE(options.retval == 1);
    std::memcpy(&call, packet.data() + 14, sizeof call);
    return call;
  }

 private:
  template <typename Key>
  void update(const bpf_map* map, const Key& key, const casa_versioned& value) {
    REQUIRE(bpf_map_update_elem(bpf_map__fd(map), &key, &value, BPF_ANY) == 0);
  }
  casa::Skeleton<casa_verdict_test> skeleton_;
};

class Dice {
 public:
  explicit Dice(unsigned seed) : engine_(seed) {}
  std::uint32_t below(std::uint32_t n) { return std::uniform_int_distribution<std::uint32_t>(0, n - 1)(engine_); }

  std::uint32_t identity() { return below(5) == 0 ? below(CASA_ID_DNS + 1) : CASA_ID_FIRST + below(6); }
  std::uint8_t protocol() { return below(2) == 0 ? 6 : 17; }
  std::uint16_t port() { return std::array<std::uint16_t, 4>{0, 53, 100, 200}[below(4)]; }
  casa_direction direction() { return below(2) == 0 ? CASA_EGRESS : CASA_INGRESS; }
  IpAddress address() {
    IpAddress ip;
    ip.bytes[10] = ip.bytes[11] = 0xff;
    ip.bytes[12] = 10;
    for (int i = 13; i < 16; ++i) ip.bytes[static_cast<std::size_t>(i)] = static_cast<std::uint8_t>(below(3));
    return ip;
  }
  IpPrefix prefix() {
    auto length = static_cast<std::uint8_t>(104 + below(25));
    IpPrefix p{address(), length};
    for (unsigned bit = length; bit < 128; ++bit)
      p.address.bytes[bit / 8] &= static_cast<std::uint8_t>(~(0x80u >> (bit % 8)));
    return p;
  }
  MapImage image() {
    MapImage image;
    const std::uint32_t flags[] = {0,
                                   1,
                                   1,
                                   1 | CASA_SUBJECT_AUDIT,
                                   1 | CASA_SUBJECT_NO_POLICY,
                                   1 | CASA_SUBJECT_INVALID,
                                   1 | CASA_SUBJECT_UNDECLARED};
    for (std::uint32_t id = CASA_ID_FIRST; id < CASA_ID_FIRST + 6; ++id)
      if (std::uint32_t f = flags[below(7)]) image.subjects[id] = f;
    for (int i = 0; i < 60; ++i) {
      PolicyKey key{CASA_ID_FIRST + below(6), identity(), direction(), protocol(), port()};
      image.policy[key] = CASA_POLICY_PAYLOAD(CASA_REASON_ENDPOINT_ALLOWED, 1 + below(100));
      if (below(3) == 0) {  // the same by the other protocol
        key.protocol ^= 6 ^ 17;
        image.policy[key] = CASA_POLICY_PAYLOAD(CASA_REASON_LLM_ALLOWED, 1 + below(100));
      }
      key.protocol = 0;
      key.port = 0;
      image.policy.try_emplace(key, CASA_POLICY_PAYLOAD(CASA_REASON_NONE, 1 + below(100)));
    }
    for (int i = 0; i < 6; ++i) image.addresses[address()] = identity() + 5;
    for (int i = 0; i < 8; ++i) image.prefixes[prefix()] = CASA_ID_FIRST + 100 + below(50);
    return image;
  }

 private:
  std::mt19937 engine_;
};

// Returns which reasons both gave, and how often.
std::map<int, int> compare(Kernel& kernel, Dice& dice, const MapImage& image, std::uint32_t gen) {
  std::map<int, int> reasons;
  for (int i = 0; i < 300; ++i) {
    casa::compile::Question q{CASA_ID_FIRST + dice.below(6),
                              dice.identity(),
                              dice.direction(),
                              dice.protocol(),
                              dice.port(),
                              dice.below(2) == 0};
    IpAddress ip = dice.address();
    auto expected = casa::compile::decide(image, q);
    Call got = kernel.ask(q, gen, ip);
    CHECK(got.identity == casa::compile::identity_of(image, ip));
    if (expected.verdict == CASA_NO_VERDICT) continue;  // not under enforcement: the programs do not ask
    INFO("subject " << q.subject << " peer " << q.peer << " direction " << q.direction << " protocol "
                    << int{q.protocol} << " port " << q.port);
    CHECK(int{got.decision.verdict} == expected.verdict);
    CHECK(int{got.decision.reason} == expected.reason);
    ++reasons[expected.reason];
  }
  return reasons;
}

}  // namespace

TEST_CASE("the kernel and the daemon give the same verdicts") {
  if (::geteuid() != 0) SKIP("needs root: it loads a BPF program");
  std::map<int, int> reasons;
  for (unsigned seed = 1; seed <= 20; ++seed) {
    Dice dice(seed);
    Kernel kernel;
    MapImage image = dice.image();
    kernel.put(image, 1, nullptr);
    for (auto [reason, times] : compare(kernel, dice, image, 1)) reasons[reason] += times;
  }
  // Every reason that a verdict can have was given.
  for (casa_reason reason :
       {CASA_REASON_ENDPOINT_ALLOWED, CASA_REASON_LLM_ALLOWED, CASA_REASON_BASELINE_LOOPBACK, CASA_REASON_NO_POLICY,
        CASA_REASON_POLICY_INVALID, CASA_REASON_UNDECLARED_CGROUP, CASA_REASON_PEER_NOT_ALLOWED,
        CASA_REASON_PORT_NOT_ALLOWED, CASA_REASON_UDP_NOT_ALLOWED, CASA_REASON_EXTERNAL_NOT_ALLOWED,
        CASA_REASON_RESOLVER_NOT_TRUSTED, CASA_REASON_SOURCE_NOT_ALLOWED, CASA_REASON_NO_LISTENER,
        CASA_REASON_PEER_UNKNOWN, CASA_REASON_DNS_NAME_NOT_ALLOWED}) {
    INFO("reason " << reason);
    CHECK(reasons[reason] > 0);
  }
}

TEST_CASE("rows staged for the next generation change no verdict of the present one") {
  if (::geteuid() != 0) SKIP("needs root: it loads a BPF program");
  for (unsigned seed = 100; seed <= 110; ++seed) {
    Dice dice(seed);
    Kernel kernel;
    MapImage now = dice.image(), next = dice.image();
    // Prefixes stay: a new one needs the fallback that the staged table computes (its own test).
    next.prefixes = now.prefixes;
    kernel.put(now, 1, nullptr);
    // What goes is staged as absent from generation 2 on.
    MapImage gone = now;
    for (const auto& [key, payload] : next.policy) gone.policy.erase(key);
    for (const auto& [key, payload] : next.subjects) gone.subjects.erase(key);
    for (const auto& [key, payload] : next.addresses) gone.addresses.erase(key);
    MapImage absent = gone;
    for (auto& [key, payload] : absent.policy) payload = 0;
    for (auto& [key, payload] : absent.subjects) payload = 0;
    for (auto& [key, payload] : absent.addresses) payload = 0;
    absent.prefixes.clear();
    kernel.put(absent, 2, &now);
    MapImage staged = next;
    staged.prefixes.clear();
    kernel.put(staged, 2, &now);
    compare(kernel, dice, now, 1);
    compare(kernel, dice, next, 2);
  }
}

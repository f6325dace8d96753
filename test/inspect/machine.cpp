#include "machine.h"

#include <cerrno>
#include <cstdio>
#include <cstdlib>

extern "C" {
#include "bpf/bpf_helpers.h"
unsigned char casa_user_page_flags = 0;
}

namespace casa::inspect {
namespace {

// What the verifier would have refused, or this model does not know.
[[noreturn]] void stop(const char* why) {
  std::fprintf(stderr, "machine: %s\n", why);
  std::abort();
}

const std::uint8_t kLocal4[4] = {10, 0, 0, 2}, kRemote4[4] = {198, 51, 100, 7};
const std::uint8_t kLocal6[16] = {0xfd, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2};
const std::uint8_t kRemote6[16] = {0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7};
constexpr std::uint16_t kLocalPort = 40000;

void put16(Bytes& to, std::size_t n) {
  to.push_back(static_cast<std::uint8_t>(n >> 8));
  to.push_back(static_cast<std::uint8_t>(n));
}

void put_bytes(Bytes& to, View bytes) { to.insert(to.end(), bytes.begin(), bytes.end()); }

void put_list(Bytes& to, std::initializer_list<std::uint8_t> bytes) { to.insert(to.end(), bytes); }

Bytes ip_header(const Ends& ends, bool out, std::uint8_t protocol, std::size_t length) {
  Bytes p;
  p.reserve((ends.ipv6 ? 40 : 20) + length);
  if (ends.ipv6) {
    put_list(p, {0x60, 0, 0, 0});
    put16(p, length);
    put_list(p, {protocol, 64});
    put_bytes(p, out ? kLocal6 : kRemote6);
    put_bytes(p, out ? kRemote6 : kLocal6);
  } else {
    put_list(p, {0x45, 0});
    put16(p, 20 + length);
    put_list(p, {0, 0, 0x40, 0, 64, protocol, 0, 0});
    put_bytes(p, out ? kLocal4 : kRemote4);
    put_bytes(p, out ? kRemote4 : kLocal4);
  }
  put16(p, out ? kLocalPort : ends.remote_port);
  put16(p, out ? ends.remote_port : kLocalPort);
  return p;
}

std::string_view key_of(const casa_user_map& map, const void* key) {
  return {static_cast<const char*>(key), map.key_size};
}

}  // namespace

Machine& Machine::the() {
  static Machine machine;
  return machine;
}

bool Machine::begin(const char* world, unsigned variant) {
  storages_.clear();
  casa_user_page_flags = 0;
  news.clear();
  sightings.clear();
  tcp = {};
  runs = 1;
  no_storage = false;
  cgroup = 0;
  now_ns = 0;
  cookie = 0;
  full_map = nullptr;
  bool known = world_ == world && variant_ == variant;
  if (!known) tables_.clear();
  for (const void* written : {casa_user_maps.learnt, casa_user_maps.query, casa_user_maps.denial, casa_user_maps.stat})
    clear(written);
  world_ = world;
  variant_ = variant;
  return known;
}

std::size_t Machine::count(const void* map) const {
  auto table = tables_.find(map);
  return table == tables_.end() ? 0 : table->second.size();
}

void* Machine::find(const void* map, std::string_view key) const {
  auto table = tables_.find(map);
  if (table == tables_.end()) return nullptr;
  auto row = table->second.find(key);
  return row == table->second.end() ? nullptr : row->second.get();
}

std::uint8_t* Machine::enter(const void* map, std::string_view key, std::size_t value_size) {
  auto& table = tables_[map];
  auto row = table.find(key);
  if (row == table.end()) row = table.emplace(key, std::make_unique<std::uint8_t[]>(value_size)).first;
  return row->second.get();
}

bool Machine::erase(const void* map, std::string_view key) {
  auto table = tables_.find(map);
  return table != tables_.end() && table->second.erase(std::string(key)) != 0;
}

void* Machine::storage_of(const void* map, std::size_t size, bool create) {
  auto it = storages_.find(map);
  if (it != storages_.end()) return it->second.get();
  if (!create || no_storage) return nullptr;
  return (storages_[map] = std::make_unique<std::uint8_t[]>(size)).get();
}

int Machine::run(int (*program)(__sk_buff*), const Bytes& packet, bool ipv6) {
  packet_ = packet;
  __sk_buff skb{};
  skb.len = static_cast<std::uint32_t>(packet.size());
  skb.data_end = skb.len;  // the whole of it, from data (0) on: no pages of somebody else
  skb.protocol = ipv6 ? __cpu_to_be16(0x86dd) : __cpu_to_be16(0x0800);
  skb.sk = &socket;
  int verdict = 0;
  for (unsigned run = 0; run < runs; ++run) {
    tail_called = false;
    verdict = program(&skb);
    if (!tail_called) break;
  }
  if (record_) stop("a reserved record was not submitted");
  packet_ = {};
  return verdict;
}

void* Machine::reserve(std::size_t size) {
  if (record_) stop("two records reserved at once");
  if (size != sizeof(casa_event) && size != sizeof(casa_named_event) && size != sizeof(casa_token_event))
    stop("a record of an unknown length");
  record_ = std::make_unique<std::uint8_t[]>(size);
  std::memset(record_.get(), 0xa5, size);  // the ring does not clear
  record_size_ = size;
  return record_.get();
}

void Machine::submit(void* record) {
  if (record == nullptr || record != record_.get()) stop("a record that was not reserved");
  if (record_size_ == sizeof(casa_token_event)) {
    std::memcpy(static_cast<void*>(&sightings.emplace_back()), record, record_size_);
  } else {
    casa_named_event e{};
    std::memcpy(static_cast<void*>(&e), record, record_size_);
    news.push_back(e);
  }
  record_.reset();
}

void Ends::put_remote(std::uint8_t* address) const {
  std::memset(address, 0, 16);
  if (ipv6) {
    std::memcpy(address, kRemote6, 16);
    return;
  }
  address[10] = address[11] = 0xff;
  std::memcpy(address + 12, kRemote4, 4);
}

Bytes udp_packet(const Ends& ends, bool out, View payload) {
  Bytes p = ip_header(ends, out, 17, 8 + payload.size());
  put16(p, 8 + payload.size());
  put16(p, 0);
  put_bytes(p, payload);
  return p;
}

Bytes tcp_packet(const Ends& ends, bool out, std::uint32_t sequence, std::uint8_t flags, View payload) {
  Bytes p = ip_header(ends, out, 6, 20 + payload.size());
  put16(p, sequence >> 16);
  put16(p, sequence & 0xffff);
  put_list(p, {0, 0, 0, 0, 0x50, flags, 0xff, 0xff, 0, 0, 0, 0});
  put_bytes(p, payload);
  return p;
}

}  // namespace casa::inspect

// The helpers. LRU maps and room are not modelled: a map takes rows, or (Machine::full_map) takes none.
using casa::inspect::Machine;

extern "C" {

void* casa_user_lookup(casa_user_map map, const void* key) {
  Machine& m = Machine::the();
  if (map.type != BPF_MAP_TYPE_ARRAY && map.type != BPF_MAP_TYPE_PERCPU_ARRAY)
    return m.find(map.at, casa::inspect::key_of(map, key));
  std::uint32_t index = 0;
  std::memcpy(&index, key, sizeof index);
  return index < map.entries ? m.enter(map.at, casa::inspect::key_of(map, key), map.value_size) : nullptr;
}

int casa_user_update(casa_user_map map, const void* key, const void* value, __u64 flags) {
  Machine& m = Machine::the();
  std::string_view k = casa::inspect::key_of(map, key);
  bool known = m.find(map.at, k) != nullptr;
  if (flags == BPF_NOEXIST && known) return -EEXIST;
  if (!known && m.full_map == map.at) return -ENOMEM;
  std::memcpy(m.enter(map.at, k, map.value_size), value, map.value_size);
  return 0;
}

int casa_user_delete(casa_user_map map, const void* key) {
  return Machine::the().erase(map.at, casa::inspect::key_of(map, key)) ? 0 : -ENOENT;
}

void* casa_user_storage(const void* map, __u32 value_size, bpf_sock* sk, __u64 flags) {
  if (sk == nullptr) casa::inspect::stop("the storage of no socket");
  return Machine::the().storage_of(map, value_size, flags == BPF_SK_STORAGE_GET_F_CREATE);
}

long bpf_sk_storage_delete(const void* map, bpf_sock*) {
  if (!Machine::the().has_storage(map)) return -ENOENT;
  Machine::the().drop_storage(map);
  return 0;
}

long bpf_skb_load_bytes(const __sk_buff*, __u32 offset, void* to, __u32 length) {
  auto packet = Machine::the().packet();
  if (length == 0) casa::inspect::stop("a load of no bytes: verifiers refuse a length that can be zero");
  if (offset > packet.size() || length > packet.size() - offset) {
    std::memset(to, 0, length);
    return -EFAULT;
  }
  std::memcpy(to, packet.data() + offset, length);
  return 0;
}

__u64 bpf_ktime_get_ns(void) { return Machine::the().now_ns; }
__u64 bpf_get_socket_cookie(void*) { return Machine::the().cookie; }
bpf_sock* bpf_sk_fullsock(bpf_sock* sk) { return sk; }
void* bpf_ringbuf_reserve(const void*, __u64 size, __u64) { return Machine::the().reserve(size); }
void bpf_ringbuf_submit(void* record, __u64) { Machine::the().submit(record); }
void bpf_ringbuf_discard(void*, __u64) { casa::inspect::stop("a token given up"); }
long bpf_ringbuf_output(const void*, void*, __u64, __u64) { casa::inspect::stop("a token handed over"); }
__u64 bpf_ringbuf_query(const void*, __u64) { return 0; }
bpf_tcp_sock* bpf_tcp_sock_of(bpf_sock*) { return &Machine::the().tcp; }
// Comes back, as when there is no program to be called; who allows it (Machine::runs) runs the program again then.
long bpf_tail_call(void*, const void*, __u32) {
  Machine::the().tail_called = true;
  return -1;
}

__u64 bpf_skb_ancestor_cgroup_id(__sk_buff*, int) {
  if (Machine::the().cgroup == 0) casa::inspect::stop("cgroup asked");
  return Machine::the().cgroup;
}
__u64 bpf_sk_ancestor_cgroup_id(bpf_sock*, int) { casa::inspect::stop("cgroup asked"); }
__u64 bpf_get_current_ancestor_cgroup_id(int) { casa::inspect::stop("cgroup asked"); }
bpf_sock* bpf_sk_lookup_tcp(void*, bpf_sock_tuple*, __u32, __u64, __u64) { casa::inspect::stop("socket asked"); }
bpf_sock* bpf_sk_lookup_udp(void*, bpf_sock_tuple*, __u32, __u64, __u64) { casa::inspect::stop("socket asked"); }
long bpf_sk_release(bpf_sock*) { casa::inspect::stop("socket asked"); }
}

// Where a block was made is no news here, and remembering it costs more than the programs do.
extern "C" const char* __asan_default_options() { return "malloc_context_size=2:quarantine_size_mb=32"; }

// The kernel's part under bpf/inspect.bpf.c and bpf/requests.bpf.c in user space: maps and their rows, one socket with its storages, one packet, the ring and
// the clock. Bounds are exact: a packet is as long as it is, a row or a storage is a block of its own of just its size, so that
// AddressSanitizer sees one byte too many. It is strict where the verifier is: what that would refuse ends the program.
#pragma once

#include <linux/bpf.h>

#include <cstdint>
#include <cstring>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "casa/abi/event.h"
#include "casa/abi/policy.h"
#include "casa/abi/stats.h"
#include "casa/abi/token.h"
#include "programs.h"

namespace casa::inspect {

using Bytes = std::vector<std::uint8_t>;
using View = std::span<const std::uint8_t>;

class Machine {
 public:
  static Machine& the();

  // As after a boot: no storages, no news, and of rows only those that the programs do not write. False when these are another world's, or
  // another variant of it: then there are none, and the caller makes its own.
  bool begin(const char* world, unsigned variant);

  template <typename Key, typename Value>
  void put(const void* map, const Key& key, const Value& value) {
    std::memcpy(enter(map, std::string_view(reinterpret_cast<const char*>(&key), sizeof key), sizeof value), &value,
                sizeof value);
  }
  template <typename Key, typename Value>
  std::vector<std::pair<Key, Value>> rows(const void* map) const {
    std::vector<std::pair<Key, Value>> all;
    auto table = tables_.find(map);
    if (table == tables_.end()) return all;
    for (const auto& [key, block] : table->second) {
      std::pair<Key, Value>& row = all.emplace_back();
      std::memcpy(&row.first, key.data(), sizeof(Key));
      std::memcpy(&row.second, block.get(), sizeof(Value));
    }
    return all;
  }
  std::size_t count(const void* map) const;
  void clear(const void* map) { tables_.erase(map); }
  // The socket's storage, made if there is none.
  template <typename Value>
  Value& storage(const void* map) {
    return *static_cast<Value*>(storage_of(map, sizeof(Value), true));
  }
  bool has_storage(const void* map) const { return storages_.contains(map); }

  int run(int (*program)(__sk_buff*), const Bytes& packet, bool ipv6);

  // What the helpers do.
  void* find(const void* map, std::string_view key) const;
  std::uint8_t* enter(const void* map, std::string_view key, std::size_t value_size);
  bool erase(const void* map, std::string_view key);
  void* storage_of(const void* map, std::size_t size, bool create);
  void drop_storage(const void* map) { storages_.erase(map); }
  View packet() const { return packet_; }
  void* reserve(std::size_t size);
  void submit(void* record);

  std::uint64_t now_ns = 0;
  std::uint64_t cookie = 0;
  const void* full_map = nullptr;  // no row can be added to it
  bpf_sock socket{};
  bpf_tcp_sock tcp{};
  std::vector<casa_named_event> news;       // the short form has no name
  std::vector<casa_token_event> sightings;  // what is told of requests
  unsigned runs = 1;  // of one packet: a program that calls itself by its tail may be run so often
  bool tail_called = false;
  bool no_storage = false;   // none can be made
  std::uint64_t cgroup = 0;  // of the socket, at every level; 0: nobody may ask

 private:
  using Block = std::unique_ptr<std::uint8_t[]>;
  struct Hash : std::hash<std::string_view> {
    using is_transparent = void;
  };
  std::map<const void*, std::unordered_map<std::string, Block, Hash, std::equal_to<>>> tables_;
  std::map<const void*, Block> storages_;
  std::string_view world_;
  unsigned variant_ = 0;
  View packet_;
  Block record_;
  std::size_t record_size_ = 0;
};

// The conversation that every packet here belongs to. A packet's bytes end where its block does.
struct Ends {
  bool ipv6 = false;
  std::uint16_t remote_port = 0;
  void put_remote(std::uint8_t* address) const;  // 16 bytes
};
Bytes udp_packet(const Ends& ends, bool out, View payload);
Bytes tcp_packet(const Ends& ends, bool out, std::uint32_t sequence, std::uint8_t flags, View payload);

}  // namespace casa::inspect

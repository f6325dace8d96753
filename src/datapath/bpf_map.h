// A BPF map by descriptor, with typed keys and values. Not an owner: the objects own their maps.
#pragma once

#include <bpf/bpf.h>

#include <cerrno>
#include <functional>
#include <optional>
#include <vector>

#include "base/error.h"

namespace casa::datapath {

template <typename Key, typename Value>
class BpfMap {
 public:
  BpfMap() = default;
  BpfMap(int fd, const char* name) : fd_(fd), name_(name) {}

  Status put(const Key& key, const Value& value) const {
    if (int err = bpf_map_update_elem(fd_, &key, &value, BPF_ANY); err != 0) {
      if (err == -E2BIG || err == -ENOSPC) return fail(ErrorCode::kLimit, "kernel map {} is full", name_);
      return fail_errno(err, "cannot write kernel map {}", name_);
    }
    return {};
  }

  Status erase(const Key& key) const {
    int err = bpf_map_delete_elem(fd_, &key);
    if (err != 0 && err != -ENOENT) return fail_errno(err, "cannot delete from kernel map {}", name_);
    return {};
  }

  [[nodiscard]] std::optional<Value> get(const Key& key) const {
    Value value{};
    if (bpf_map_lookup_elem(fd_, &key, &value) != 0) return std::nullopt;
    return value;
  }

  // Every entry, each at most once if nobody writes meanwhile. By batches where the map type has them.
  void each(const std::function<void(const Key&, const Value&)>& visit) const {
    if (!each_batch(visit)) each_key(visit);
  }

 private:
  static constexpr std::uint32_t kBatch = 4096;

  bool each_batch(const std::function<void(const Key&, const Value&)>& visit) const {
    std::vector<Key> keys(kBatch);
    std::vector<Value> values(kBatch);
    // The kernel's cursor: four bytes for hash maps, a key for others.
    std::vector<unsigned char> cursor(std::max<std::size_t>(sizeof(Key), 8));
    bool first = true;
    for (;;) {
      std::uint32_t count = kBatch;
      int err = bpf_map_lookup_batch(fd_, first ? nullptr : cursor.data(), cursor.data(), keys.data(), values.data(),
                                     &count, nullptr);
      if (err != 0 && err != -ENOENT) {
        if (first) return false;
        return true;  // a bucket larger than a batch: what was seen is what there is to see
      }
      for (std::uint32_t i = 0; i < count; ++i) visit(keys[i], values[i]);
      if (err == -ENOENT) return true;
      first = false;
    }
  }

  void each_key(const std::function<void(const Key&, const Value&)>& visit) const {
    Key key{}, next{};
    std::vector<Key> keys;
    const Key* previous = nullptr;
    while (bpf_map_get_next_key(fd_, previous, &next) == 0) {
      keys.push_back(next);
      key = next;
      previous = &key;
    }
    for (const auto& k : keys)
      if (auto value = get(k)) visit(k, *value);
  }

  int fd_ = -1;
  const char* name_ = "";
};

}  // namespace casa::datapath

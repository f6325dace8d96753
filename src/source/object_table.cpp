#include "source/object_table.h"

#include <algorithm>

#include "source/source.h"

namespace casa::source {

unsigned ObjectTable::add_stream() {
  streams_.emplace_back();
  return static_cast<unsigned>(streams_.size() - 1);
}

std::string ObjectTable::origin_of(const ObjectHead& head) const {
  std::string origin(kApiOrigin);
  origin.reserve(origin.size() + kind_.size() + head.ns.size() + head.name.size() + 2);
  origin.append(kind_).append("/");
  if (!head.ns.empty()) origin.append(head.ns).append("/");
  return origin.append(head.name);
}

bool ObjectTable::note(unsigned stream, const std::string& origin, const ObjectHead& head) {
  std::uint64_t version = version_number(head.version);
  if (version == 0) version = std::hash<std::string_view>()(head.version);
  Known now{std::hash<std::string_view>()(head.uid), version, stream, streams_[stream].list};
  auto [it, fresh] = known_.try_emplace(origin, now);
  Known& known = it->second;
  if (fresh) {
    ++streams_[stream].objects;
    return true;
  }
  bool same = known.uid == now.uid && known.version == now.version;
  if (known.stream != stream) {
    if (now.version < known.version) return false;
    --streams_[known.stream].objects;
    ++streams_[stream].objects;
  }
  known = now;
  return !same;
}

void ObjectTable::doubt(const std::string& origin) {
  if (auto it = known_.find(origin); it != known_.end()) it->second.uid = it->second.version = 0;
}

bool ObjectTable::has(unsigned stream, const std::string& origin) const {
  auto it = known_.find(origin);
  return it != known_.end() && it->second.stream == stream;
}

void ObjectTable::remove(const std::string& origin) {
  auto it = known_.find(origin);
  if (it == known_.end()) return;
  --streams_[it->second.stream].objects;
  known_.erase(it);
}

std::vector<std::string> ObjectTable::vanished(unsigned stream) const {
  std::vector<std::string> gone;
  for (const auto& [origin, known] : known_)
    if (known.stream == stream && known.list != streams_[stream].list) gone.push_back(origin);
  std::ranges::sort(gone);
  return gone;
}

}  // namespace casa::source

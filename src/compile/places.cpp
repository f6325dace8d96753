#include "compile/places.h"

#include <algorithm>

#include "compile/compile.h"

namespace casa::compile {

using identity::Snapshot;
using identity::Workload;

namespace {

void note_level(MapImage& image, const std::string& path) {
  auto level = static_cast<unsigned>(std::ranges::count(path, '/')) + 1;
  image.level_max = std::max(image.level_max, level);
}

// What is on this node, the kernel judges at both ends.
void mark_here(const Workload& w, const IpAddress& ip, MapImage& image) {
  if (!w.managed || w.exempt) return;
  auto row = image.addresses.find(ip);
  if (row != image.addresses.end() && row->second == w.identity) row->second |= CASA_ADDR_HERE;
}

}  // namespace

void add_path(MapImage& image, const std::string& path, std::uint32_t payload) {
  image.cgroup_paths.emplace(path, payload);
  note_level(image, path);
}

void add_places(const Workload& w, MapImage& image) {
  for (const auto& place : w.declared) add_path(image, place.path, w.identity);
  for (const auto& instance : w.instances) {
    image.cgroups[instance.id] = w.identity;
    note_level(image, instance.path);
  }
}

void add_addresses(const Snapshot& snapshot, MapImage& image) {
  image.addresses = {snapshot.addresses.begin(), snapshot.addresses.end()};
  for (const auto& [name, w] : snapshot.workloads)
    for (const auto& ip : w.addresses_here) mark_here(w, ip, image);
}

Touched follow(const identity::ObjectSet& objects, const Snapshot& snapshot, identity::Allocator& allocator,
               bool audit_node, const identity::Followed& followed, Compiled& compiled) {
  if (followed.rules) refresh(objects, snapshot, allocator, audit_node, compiled);
  MapImage& image = compiled.image;
  for (const auto& path : followed.paths) image.cgroup_paths.erase(path);
  for (auto id : followed.cgroups) image.cgroups.erase(id);
  for (const auto& ip : followed.addresses) {
    auto row = snapshot.addresses.find(ip);
    if (row == snapshot.addresses.end()) image.addresses.erase(ip);
    else image.addresses[ip] = row->second;
  }
  for (const auto& name : followed.workloads) {
    auto w = snapshot.workloads.find(name);
    if (w == snapshot.workloads.end()) continue;
    add_places(w->second, image);
    for (const auto& ip : w->second.addresses_here)
      if (followed.addresses.contains(ip)) mark_here(w->second, ip, image);
  }
  return {followed.addresses, followed.paths, followed.cgroups, followed.rules};
}

}  // namespace casa::compile

#include "identity/object_set.h"

#include <algorithm>
#include <cstring>
#include <utility>

namespace casa::identity {
namespace {

using policy::EndpointSlice;
using policy::Object;
using policy::ObjectKey;
using policy::Pod;

// More than that at once is a start, a relist or a storm: making everything anew is no slower then.
constexpr std::size_t kMostChanges = 2048;

}  // namespace

std::size_t ObjectSet::HashOfIp::operator()(const IpAddress& ip) const {
  std::uint64_t high = 0, low = 0;
  std::memcpy(&high, ip.bytes.data(), sizeof high);
  std::memcpy(&low, ip.bytes.data() + sizeof high, sizeof low);
  return (high ^ low * 0x9e3779b97f4a7c15u) * 0xff51afd7ed558ccdu >> 7;
}

void ObjectSet::put(Object&& object) {
  ObjectKey key = policy::key_of(object);
  auto [it, fresh] = objects_.try_emplace(key);
  std::optional<Object> before;
  if (!fresh) {
    leave(it->second);
    before = std::move(it->second);
  }
  it->second = std::move(object);
  enter(it->second);
  note(key, std::move(before));
}

void ObjectSet::erase(const ObjectKey& key) {
  auto it = objects_.find(key);
  if (it == objects_.end()) return;
  leave(it->second);
  note(key, std::move(it->second));
  objects_.erase(it);
}

Object ObjectSet::take(const ObjectKey& key) {
  Object object = objects_.at(key);
  erase(key);
  return object;
}

void ObjectSet::set_invalid(std::vector<InvalidPolicy> invalid) {
  invalid_ = std::move(invalid);
  changes_.reset();
}

void ObjectSet::note(const ObjectKey& key, std::optional<Object>&& before) {
  if (!changes_) return;
  changes_->try_emplace(key, std::move(before));
  if (changes_->size() > kMostChanges) changes_.reset();
}

std::optional<Changes> ObjectSet::take_changes() {
  auto taken = std::exchange(changes_, Changes{});
  if (!taken) return taken;
  std::erase_if(*taken, [&](const auto& change) {
    auto now = objects_.find(change.first);
    return now == objects_.end() ? !change.second : change.second == now->second;
  });
  return taken;
}

void ObjectSet::enter(const Object& object) {
  if (const auto* pod = std::get_if<Pod>(&object)) {
    Owner owner = owner_of(*pod);
    owners_[std::move(owner.name)][std::move(owner.kind)].insert(pod);
    for (const auto& ip : pod->ips) pods_at_.emplace(ip, pod);
  } else if (const auto* slice = std::get_if<EndpointSlice>(&object)) {
    NamespacedName service{slice->meta.ns, slice->service};
    for (const auto& endpoint : slice->endpoints) {
      if (endpoint.pod) ++named_[*endpoint.pod][service];
      else bare_endpoints_.insert(endpoint.addresses.begin(), endpoint.addresses.end());
    }
    slices_[std::move(service)].emplace(slice->meta.name, slice);
  }
}

void ObjectSet::leave(const Object& object) {
  if (const auto* pod = std::get_if<Pod>(&object)) {
    Owner owner = owner_of(*pod);
    auto kinds = owners_.find(owner.name);
    auto pods = kinds->second.find(owner.kind);
    pods->second.erase(pod);
    if (pods->second.empty()) kinds->second.erase(pods);
    if (kinds->second.empty()) owners_.erase(kinds);
    for (const auto& ip : pod->ips) {
      auto [first, last] = pods_at_.equal_range(ip);
      auto it = std::find_if(first, last, [&](const auto& entry) { return entry.second == pod; });
      if (it != last) pods_at_.erase(it);
    }
  } else if (const auto* slice = std::get_if<EndpointSlice>(&object)) {
    NamespacedName service{slice->meta.ns, slice->service};
    for (const auto& endpoint : slice->endpoints) {
      if (!endpoint.pod) {
        for (const auto& ip : endpoint.addresses) bare_endpoints_.erase(bare_endpoints_.find(ip));
        continue;
      }
      auto services = named_.find(*endpoint.pod);
      auto times = services->second.find(service);
      if (--times->second == 0) services->second.erase(times);
      if (services->second.empty()) named_.erase(services);
    }
    auto slices = slices_.find(service);
    slices->second.erase(slice->meta.name);
    if (slices->second.empty()) slices_.erase(slices);
  }
}

std::vector<const Pod*> ObjectSet::pods_at(const IpAddress& ip) const {
  std::vector<const Pod*> found;
  auto [first, last] = pods_at_.equal_range(ip);
  for (auto it = first; it != last; ++it)
    if (std::ranges::find(found, it->second) == found.end()) found.push_back(it->second);
  std::ranges::sort(found, {}, [](const Pod* pod) { return std::tie(pod->meta.ns, pod->meta.name); });
  return found;
}

const ObjectSet::Slices& ObjectSet::slices_of(const NamespacedName& service) const {
  static const Slices kNone;
  auto it = slices_.find(service);
  return it == slices_.end() ? kNone : it->second;
}

std::set<NamespacedName> ObjectSet::services_naming(const NamespacedName& pod) const {
  std::set<NamespacedName> services;
  if (auto it = named_.find(pod); it != named_.end())
    for (const auto& [service, times] : it->second) services.insert(service);
  return services;
}

}  // namespace casa::identity

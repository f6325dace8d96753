// Every valid object in force, once, and the policies that are there but not valid. Knows its neighbours: the Pods of an owner and of an
// address, the EndpointSlices of a Service; and remembers what changed, so that a picture can follow (follow.h) instead of being made anew.
#pragma once

#include <cstddef>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <unordered_map>
#include <vector>

#include "identity/workload_names.h"
#include "policy/objects.h"

namespace casa::identity {

struct InvalidPolicy {
  NamespacedName name;
  std::string target_name;
  std::string message;
  std::string origin;
};

// What an object was; nothing: it was not there.
using Changes = std::map<policy::ObjectKey, std::optional<policy::Object>>;

class ObjectSet {
 public:
  struct ByName {
    bool operator()(const policy::Pod* a, const policy::Pod* b) const { return a->meta.name < b->meta.name; }
  };
  using Pods = std::set<const policy::Pod*, ByName>;                     // of one namespace
  using Owners = std::map<NamespacedName, std::map<std::string, Pods>>;  // name -> kind -> its Pods
  using Slices = std::map<std::string, const policy::EndpointSlice*>;    // by name, of one namespace

  ObjectSet() = default;
  ObjectSet(ObjectSet&&) = default;
  ObjectSet& operator=(ObjectSet&&) = default;
  ObjectSet(const ObjectSet&) = delete;  // it points into itself
  ObjectSet& operator=(const ObjectSet&) = delete;
  ~ObjectSet() = default;

  // Instead of the object of that key, if there is one.
  void put(policy::Object&& object);
  void erase(const policy::ObjectKey& key);
  // Takes it out; it must be there.
  policy::Object take(const policy::ObjectKey& key);
  void set_invalid(std::vector<InvalidPolicy> invalid);

  [[nodiscard]] const std::map<policy::ObjectKey, policy::Object>& all() const { return objects_; }
  [[nodiscard]] const std::vector<InvalidPolicy>& invalid() const { return invalid_; }
  template <typename T>
  [[nodiscard]] const T* find(const NamespacedName& name) const {
    auto it = objects_.find({policy::kind_of_type<T>(), name.ns, name.name});
    return it == objects_.end() ? nullptr : std::get_if<T>(&it->second);
  }
  // Those of one kind, in the order of their names; the others, which may be many more, are not looked at.
  template <typename T>
  void each(auto&& visit) const {
    constexpr policy::Kind kind = policy::kind_of_type<T>();
    for (auto it = objects_.lower_bound({kind, {}, {}}); it != objects_.end() && it->first.kind == kind; ++it)
      visit(std::get<T>(it->second));
  }
  template <typename T>
  void each_in(const std::string& ns, auto&& visit) const {
    constexpr policy::Kind kind = policy::kind_of_type<T>();
    for (auto it = objects_.lower_bound({kind, ns, {}});
         it != objects_.end() && it->first.kind == kind && it->first.ns == ns; ++it)
      visit(std::get<T>(it->second));
  }

  [[nodiscard]] const Owners& owners() const { return owners_; }
  // All that list the address, in the order of their names; those on their node's network and those that have ended included.
  [[nodiscard]] std::vector<const policy::Pod*> pods_at(const IpAddress& ip) const;
  [[nodiscard]] const Slices& slices_of(const NamespacedName& service) const;
  // An EndpointSlice lists it, and no Pod with it.
  [[nodiscard]] bool is_bare_endpoint(const IpAddress& ip) const { return bare_endpoints_.contains(ip); }
  // Services with an EndpointSlice that names the Pod.
  [[nodiscard]] std::set<NamespacedName> services_naming(const NamespacedName& pod) const;

  // What changed since the last call, objects that are as they were left out; nothing: too much to tell one by one, or a policy became
  // invalid or valid.
  [[nodiscard]] std::optional<Changes> take_changes();
  // Whether there is anything to take, be it that everything is as it was.
  [[nodiscard]] bool has_changes() const { return !changes_ || !changes_->empty(); }

 private:
  void enter(const policy::Object& object);
  void leave(const policy::Object& object);
  void note(const policy::ObjectKey& key, std::optional<policy::Object>&& before);

  std::map<policy::ObjectKey, policy::Object> objects_;
  std::vector<InvalidPolicy> invalid_;
  Owners owners_;
  struct HashOfIp {
    std::size_t operator()(const IpAddress& ip) const;
  };
  std::unordered_multimap<IpAddress, const policy::Pod*, HashOfIp> pods_at_;
  std::map<NamespacedName, Slices> slices_;                                // by Service
  std::map<NamespacedName, std::map<NamespacedName, std::size_t>> named_;  // Pod -> Service -> times
  std::multiset<IpAddress> bare_endpoints_;
  std::optional<Changes> changes_ = Changes{};
};

}  // namespace casa::identity

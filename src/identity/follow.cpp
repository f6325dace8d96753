// First everything that is concerned is found, without a change to the snapshot, or the change is refused; then it is brought up to date by
// the steps that build a snapshot. The property that counts, "the same as built anew", is tested with random changes.
#include "identity/follow.h"

#include <algorithm>
#include <map>
#include <utility>
#include <vector>

#include "identity/labels.h"
#include "identity/snapshot_builder.h"

namespace casa::identity {

using policy::EndpointSlice;
using policy::Kind;
using policy::Object;
using policy::Pod;
using policy::Service;

namespace {

// So many neighbours are asked whether a Service still has what a Pod stood for, before the Service is gone through again.
constexpr std::size_t kMostNeighbours = 64;

bool has_workload(const ServiceInfo& info, const NamespacedName& workload) {
  return std::ranges::any_of(info.ports, [&](const auto& port) {
    return std::ranges::any_of(port.backends, [&](const Backend& backend) { return backend.workload == workload; });
  });
}

// All that rows of subjects and rules are made of, of one workload.
auto facts_of(const Workload* w) {
  static const Workload kNone;
  if (w == nullptr || (!w->managed && !w->exempt)) w = &kNone;
  return std::tie(w->managed, w->exempt, w->in_pods, w->istio_proxy, w->probe_ports, w->host_identities);
}

}  // namespace

class Follower {
 public:
  Follower(const ObjectSet& objects, const NodeFacts& node, Allocator& allocator, Snapshot& snapshot)
      : builder_(objects, node, allocator, snapshot),
        objects_(objects),
        node_(node),
        allocator_(allocator),
        out_(snapshot) {}

  std::optional<Followed> run(const Changes& changes, bool places) {
    if (!plan(changes, places)) return std::nullopt;
    apply();
    return std::move(followed_);
  }

 private:
  struct SliceChange {
    const EndpointSlice *before, *after;
  };

  bool plan(const Changes& changes, bool places) {
    if (!builder_.in_cluster() || out_.places_contested) return false;
    if (places && !plan_places()) return false;
    for (const auto& [key, object] : changes) {
      auto now = objects_.all().find(key);
      const Object* before = object ? &*object : nullptr;
      const Object* after = now == objects_.all().end() ? nullptr : &now->second;
      if (key.kind == Kind::kPod) {
        if (!plan_pod(before ? std::get_if<Pod>(before) : nullptr, after ? std::get_if<Pod>(after) : nullptr))
          return false;
      } else if (key.kind == Kind::kEndpointSlice) {
        if (!plan_slice({before ? std::get_if<EndpointSlice>(before) : nullptr,
                         after ? std::get_if<EndpointSlice>(after) : nullptr}))
          return false;
      } else if (key.kind != Kind::kDeployment && key.kind != Kind::kStatefulSet) {
        return false;
      }
    }
    return plan_addresses() && names_are_plain() && !moves_cluster_dns();
  }

  // Every workload of this node is looked at again.
  bool plan_places() {
    if (node_.cluster.kubepods != out_.kubepods) return false;
    std::size_t trees = 0;
    for (const auto& tree : out_.kubepods)
      if (auto cgroup = find_cgroup(node_.mount, tree.root)) {
        auto known = std::ranges::find(out_.kubepods_cgroups, cgroup->id, &CgroupInstance::id);
        if (known == out_.kubepods_cgroups.end()) return false;
        ++trees;
      }
    if (trees != out_.kubepods_cgroups.size()) return false;
    for (const auto& [path, name] : out_.declared_by) workloads_.insert(name);
    for (const auto& place : out_.pod_places) workloads_.insert(place.workload);
    return true;
  }

  bool plan_pod(const Pod* before, const Pod* after) {
    // An exemption that comes or goes is one of all Pods of the workload, those on their node's network included.
    if ((before != nullptr && is_disabled(before->meta)) != (after != nullptr && is_disabled(after->meta)))
      return false;
    // What an EndpointSlice makes of it is its workload, while it has not ended.
    bool same_to_slices = before != nullptr && after != nullptr && before->finished == after->finished &&
                          builder_.workload_name(*before) == builder_.workload_name(*after);
    for (const Pod* pod : {before, after}) {
      if (pod == nullptr) continue;
      NamespacedName workload = concern(*pod);
      if (pod->host_network && out_.mas_namespaces.contains(pod->meta.ns)) return false;
      if (!pod->host_network)
        for (const auto& ip : pod->ips) {
          if (ip.is_loopback()) return false;
          claims_[ip].insert(number_of(workload));
        }
      if (!plan_place(*pod, workload) || !plan_services(*pod, same_to_slices)) return false;
      daemons_ = daemons_ || pod->meta.ns == node_.cluster.daemon_namespace;
    }
    pods_.emplace_back(before, after);
    return true;
  }

  bool plan_place(const Pod& pod, const NamespacedName& workload) {
    if (!builder_.is_here(pod)) return true;
    auto free = [&](const std::string& path) {
      auto known = out_.declared_by.find(path);
      return (known == out_.declared_by.end() || known->second == workload) &&
             declared_.try_emplace(path, workload).first->second == workload;
    };
    if (!pod.cgroup.empty() && !free(pod.cgroup)) return false;
    return pod.cgroup_uid.empty() ||
           std::ranges::all_of(pod_cgroup_paths(node_.cluster.kubepods, pod.cgroup_uid, pod.qos), free);
  }

  bool plan_services(const Pod& pod, bool same_to_slices) {
    bool plain = true;
    NamespacedName name{pod.meta.ns, pod.meta.name};
    for (const auto& service : objects_.services_naming(name)) {
      plain = plain && !pod.host_network && service != kClusterDns;
      if (!same_to_slices) whole_services_.insert(service);
    }
    objects_.each_in<Service>(pod.meta.ns, [&](const Service& service) {
      if (service.selector.empty() || !selects(service.selector, pod.meta.labels)) return;
      NamespacedName of{service.meta.ns, service.meta.name};
      plain = plain && !pod.host_network && of != kClusterDns;
      services_.insert(std::move(of));
    });
    return plain;
  }

  // Addresses without a Pod have an identity of their own, which may come or go.
  bool plan_slice(const SliceChange& change) {
    for (const EndpointSlice* slice : {change.before, change.after}) {
      if (slice == nullptr) continue;
      NamespacedName service{slice->meta.ns, slice->service};
      if (service == kClusterDns) return false;
      for (const auto& endpoint : slice->endpoints) {
        if (!endpoint.pod) return false;
        const Pod* pod = objects_.find<Pod>(*endpoint.pod);
        if (pod != nullptr && pod->host_network) return false;
      }
      if (slice == change.after && change.before != nullptr && change.before->service == slice->service) continue;
      slices_[std::move(service)].push_back(change);
    }
    return true;
  }

  // Each must be of one workload, before and after, and of nobody else.
  bool plan_addresses() {
    for (auto& [ip, identities] : claims_) {
      if (objects_.is_bare_endpoint(ip)) return false;
      std::set<std::uint32_t> live;
      for (const Pod* pod : objects_.pods_at(ip)) {
        if (pod->finished) continue;
        if (pod->host_network) return false;
        NamespacedName workload = concern(*pod);
        identities.insert(number_of(workload));
        if (!pod->deleting) live.insert(number_of(workload));
      }
      auto row = out_.addresses.find(ip);
      if (live.size() > 1 || (row != out_.addresses.end() && !identities.contains(row->second))) return false;
    }
    return true;
  }

  // A name that Pods of two kinds of owner share, or shared: who has it may be another one from now on.
  bool names_are_plain() const {
    return std::ranges::all_of(owners_, [&](const auto& owner) {
      auto kinds = objects_.owners().find(owner.first);
      if (kinds == objects_.owners().end()) return true;
      const std::string* had = out_.names.owner_kind(owner.first);
      return kinds->second.size() == 1 && (had == nullptr || *had == kinds->second.begin()->first);
    });
  }

  bool moves_cluster_dns() const {
    auto dns = out_.services.find(kClusterDns);
    return dns != out_.services.end() &&
           std::ranges::any_of(owners_, [&](const auto& owner) { return has_workload(dns->second, owner.second); });
  }

  // Its workload is one to bring up to date.
  NamespacedName concern(const Pod& pod) {
    Owner owner = owner_of(pod);
    NamespacedName name = out_.names.of(owner.name, owner.kind);
    workloads_.insert(name);
    owners_[std::move(owner.name)] = name;
    return name;
  }

  std::uint32_t number_of(const NamespacedName& workload) {
    return allocator_.number_of(NameKind::kWorkload, workload.ns, workload.name);
  }

  void apply() {
    follow_names();
    for (const auto& name : workloads_) find_members(name);
    auto before = take_workloads();
    for (const auto& [owner, pods] : members_) builder_.add_pods(owner, *pods);
    for (const auto& place : places_) builder_.keep_place(place);
    for (const auto& name : workloads_) {
      if (auto kind = out_.mentioned.find(name); kind != out_.mentioned.end()) builder_.workload(name, kind->second);
      if (auto w = out_.workloads.find(name); w != out_.workloads.end() && w->second.exempt) w->second.managed = false;
    }
    follow_addresses();
    for (const auto& name : workloads_)
      if (auto w = out_.workloads.find(name); w != out_.workloads.end()) builder_.find_instances(w->second);
    for (const auto& [name, old] : before) tell_workload(name, old ? &*old : nullptr);
    follow_services();
    if (daemons_) builder_.find_enforcing_nodes();
  }

  void follow_names() {
    for (const auto& [name, workload] : owners_) {
      auto kinds = objects_.owners().find(name);
      if (kinds == objects_.owners().end()) out_.names.forget_owner(name);
      else out_.names.add_owner({name, kinds->second.begin()->first});
    }
  }

  // Out of the snapshot, as if nothing were known of them.
  std::map<NamespacedName, std::optional<Workload>> take_workloads() {
    std::map<NamespacedName, std::optional<Workload>> taken;
    for (const auto& name : workloads_) {
      auto& before = taken[name];
      auto w = out_.workloads.find(name);
      if (w == out_.workloads.end()) continue;
      before = std::move(w->second);
      out_.workloads.erase(w);
      for (const auto& place : before->declared) out_.declared_by.erase(place.path);
    }
    std::erase_if(out_.pod_places, [&](PodPlace& place) {
      bool concerned = workloads_.contains(place.workload);
      if (concerned) places_.push_back(std::move(place));
      return concerned;
    });
    return taken;
  }

  // The Pods of a workload: those of the one kind of owner that goes by this name.
  void find_members(const NamespacedName& workload) {
    NamespacedName name = workload;
    if (auto colon = name.name.find(':'); colon != std::string::npos) name.name.erase(0, colon + 1);
    auto kinds = objects_.owners().find(name);
    if (kinds == objects_.owners().end()) return;
    for (const auto& [kind, pods] : kinds->second)
      if (out_.names.of(name, kind) == workload) members_.emplace_back(Owner{name, kind}, &pods);
  }

  void follow_addresses() {
    for (const auto& [ip, identities] : claims_) {
      out_.addresses.erase(ip);
      followed_.addresses.insert(ip);
    }
    builder_.add_all_addresses(members_);
  }

  void tell_workload(const NamespacedName& name, const Workload* before) {
    auto now = out_.workloads.find(name);
    const Workload* after = now == out_.workloads.end() ? nullptr : &now->second;
    auto held = [](const Workload* w) { return std::pair(w != nullptr && w->managed, w != nullptr && w->exempt); };
    bool flipped = held(before) != held(after);
    followed_.rules = followed_.rules || facts_of(before) != facts_of(after);
    followed_.workloads.insert(name);
    for (const Workload* w : {before, after}) {
      if (w == nullptr) continue;
      for (const auto& place : w->declared) followed_.paths.insert(place.path);
      for (const auto& instance : w->instances) followed_.cgroups.insert(instance.id);
      if (flipped) followed_.addresses.insert(w->addresses_here.begin(), w->addresses_here.end());
    }
  }

  void follow_services() {
    for (const auto& name : services_)
      if (!still_stands(name)) whole_services_.insert(name);
    for (const auto& [name, changes] : slices_)
      if (!still_stands(name, changes)) whole_services_.insert(name);
    for (const auto& name : whole_services_) {
      auto [service, info] = find_service(name);
      if (service == nullptr) continue;
      auto before = info->ports;
      builder_.find_backends(*service, *info);
      if (before != info->ports && (out_.used_services.contains(name) || name == kIstiod)) followed_.rules = true;
    }
  }

  // Null: there is none, or none that anything can stand behind.
  std::pair<const Service*, ServiceInfo*> find_service(const NamespacedName& name) {
    const auto* service = objects_.find<Service>(name);
    auto info = out_.services.find(name);
    if (service == nullptr || info == out_.services.end() || !service->external_name.empty()) return {};
    return {service, &info->second};
  }

  using Contribution = std::set<std::pair<std::size_t, Backend>>;  // port of the Service, what stands behind it

  static bool has_all(const ServiceInfo& info, const Contribution& wanted) {
    return std::ranges::all_of(wanted, [&](const auto& part) {
      const auto& backends = info.ports[part.first].backends;
      return std::ranges::binary_search(backends, part.second);
    });
  }

  Contribution contribution(const Service& service, const Pod* pod) {
    if (pod == nullptr || pod->finished || !selects(service.selector, pod->meta.labels)) return {};
    NamespacedName workload = builder_.workload_name(*pod);
    Contribution found;
    for (std::size_t i = 0; i < service.ports.size(); ++i)
      if (auto target = SnapshotBuilder::target_port(service.ports[i], pod->ports); target != 0)
        found.insert({i, {number_of(workload), workload, {}, target}});
    return found;
  }

  // Whether what the Service selects comes down to what it did, as far as the Pods and a few of their neighbours tell.
  bool still_stands(const NamespacedName& name) {
    auto [service, info] = find_service(name);
    if (service == nullptr) return true;
    for (const auto& [before, after] : pods_) {
      if ((before != nullptr ? before : after)->meta.ns != name.ns) continue;
      Contribution had = contribution(*service, before), has = contribution(*service, after);
      if (!has_all(*info, has)) return false;
      Contribution lost;
      std::ranges::set_difference(had, has, std::inserter(lost, lost.end()));
      if (!lost.empty() && !neighbours_have(*service, *before, lost)) return false;
    }
    return true;
  }

  bool neighbours_have(const Service& service, const Pod& pod, Contribution lost) {
    Owner owner = owner_of(pod);
    auto kinds = objects_.owners().find(owner.name);
    if (kinds == objects_.owners().end() || !kinds->second.contains(owner.kind)) return false;
    std::size_t left = kMostNeighbours;
    for (const Pod* other : kinds->second.at(owner.kind)) {
      if (left-- == 0) return false;
      for (const auto& part : contribution(service, other)) lost.erase(part);
      if (lost.empty()) return true;
    }
    return false;
  }

  // The same of its EndpointSlices.
  bool still_stands(const NamespacedName& name, const std::vector<SliceChange>& changes) {
    auto [service, info] = find_service(name);
    if (service == nullptr) return true;
    for (const auto& [before, after] : changes) {
      if (after == nullptr || after->service != name.name) return false;
      Contribution has = contribution(*service, *after, after->endpoints);
      if (!has_all(*info, has)) return false;
      if (before == nullptr) continue;
      if (before->service != after->service || before->ports != after->ports) return false;
      std::vector<EndpointSlice::Endpoint> gone;
      for (const auto& endpoint : before->endpoints) {
        auto same = [&](const auto& other) { return other.pod == endpoint.pod; };
        if (std::ranges::any_of(after->endpoints, same)) continue;
        const Pod* pod = objects_.find<Pod>(*endpoint.pod);
        if (pod == nullptr || is_changed(*pod)) return false;  // what it stood for is not known any more
        gone.push_back(endpoint);
      }
      if (!std::ranges::includes(has, contribution(*service, *before, gone))) return false;
    }
    return true;
  }

  bool is_changed(const Pod& pod) const {
    return std::ranges::any_of(pods_, [&](const auto& change) { return change.second == &pod; });
  }

  Contribution contribution(const Service& service, const EndpointSlice& slice,
                            const std::vector<EndpointSlice::Endpoint>& endpoints) {
    EndpointSlice part = slice;
    part.endpoints = endpoints;
    ServiceInfo info;
    info.ports.resize(service.ports.size());
    builder_.add_slice(part, service, info);
    Contribution found;
    for (std::size_t i = 0; i < info.ports.size(); ++i)
      for (auto& backend : info.ports[i].backends) found.insert({i, std::move(backend)});
    return found;
  }

  SnapshotBuilder builder_;
  const ObjectSet& objects_;
  const NodeFacts& node_;
  Allocator& allocator_;
  Snapshot& out_;
  Followed followed_;
  std::vector<std::pair<const Pod*, const Pod*>> pods_;        // before and after; one may be null
  std::set<NamespacedName> workloads_;                         // to bring up to date
  std::map<NamespacedName, NamespacedName> owners_;            // whose Pods changed, and their workloads
  std::map<IpAddress, std::set<std::uint32_t>> claims_;        // of an address: workloads that have or had it
  std::map<std::string, NamespacedName> declared_;             // by the Pods that changed
  std::set<NamespacedName> services_;                          // that select one of the Pods
  std::set<NamespacedName> whole_services_;                    // to go through again
  std::map<NamespacedName, std::vector<SliceChange>> slices_;  // by Service
  SnapshotBuilder::Members members_;                           // of the workloads, after
  std::vector<PodPlace> places_;                               // of the workloads, before
  bool daemons_ = false;
};

std::optional<Followed> follow(const Changes& changes, bool places, const ObjectSet& objects, const NodeFacts& node,
                               Allocator& allocator, Snapshot& snapshot) {
  return Follower(objects, node, allocator, snapshot).run(changes, places);
}

}  // namespace casa::identity

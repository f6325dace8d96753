#include "compile/pod_groups.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "identity/labels.h"

namespace casa::compile {
namespace {

// Controllers give these to each Pod, or to each revision, so that they select too little tomorrow.
constexpr std::array<std::string_view, 5> kPassing{"pod-template-hash", "controller-revision-hash",
                                                   "pod-template-generation", "statefulset.kubernetes.io/pod-name",
                                                   "apps.kubernetes.io/pod-index"};

Labels lasting(const Labels& labels) {
  Labels out = labels;
  for (auto name : kPassing) out.erase(std::string(name));
  return out;
}

}  // namespace

std::string to_string(const PodGroup& group) {
  return fmt::format("{} {}/{}", group.kind, group.name.ns, group.name.name);
}

PodGroups::PodGroups(std::span<const policy::Object> objects) {
  std::set<std::string> exempt;
  for (const auto& object : objects) {
    if (const auto* p = std::get_if<policy::CasaPolicy>(&object))
      names_.add_target({p->meta.ns, p->target_name}, policy::to_string(p->target_kind));
    if (const auto* ns = std::get_if<policy::Namespace>(&object))
      if (identity::is_disabled(ns->meta)) exempt.insert(ns->meta.name);
    if (const auto* d = std::get_if<policy::Deployment>(&object)) add_maker(*d, "Deployment");
    if (const auto* s = std::get_if<policy::StatefulSet>(&object)) add_maker(*s, "StatefulSet");
  }
  for (const auto& object : objects)
    if (const auto* pod = std::get_if<policy::Pod>(&object); pod != nullptr && !pod->finished) add_pod(*pod);
  for (auto& g : groups_) g.exempt = g.exempt || exempt.contains(g.name.ns);
}

PodGroup& PodGroups::group(const policy::NamespacedName& name, const std::string& kind, const policy::Location& where) {
  auto [place, fresh] = places_.try_emplace({name, kind}, groups_.size());
  if (fresh) {
    groups_.push_back({name, kind, {}, {}, {}, {}, where});
    names_.add_owner({name, kind});
  }
  return groups_[place->second];
}

void PodGroups::add_facts(PodGroup& group, const policy::Pod& pod) {
  for (const auto& port : pod.ports) {
    auto same = [&](const auto& p) {
      return p.name == port.name && p.port == port.port && p.protocol == port.protocol;
    };
    if (std::ranges::none_of(group.ports, same)) group.ports.push_back(port);
  }
  group.host_network = group.host_network || pod.host_network;
  group.istio_proxy = group.istio_proxy || pod.istio_proxy;
  group.exempt = group.exempt || identity::is_disabled(pod.meta);
}

void PodGroups::add_maker(const policy::PodMaker& maker, const char* kind) {
  PodGroup& g = group({maker.meta.ns, maker.meta.name}, kind, maker.meta.where);
  made_.insert(places_.at({g.name, kind}));
  g.labels = maker.pod.meta.labels;
  // What the template says is narrower than an expression, and the same Pods.
  g.selector = maker.match_expressions || maker.match_labels.empty() ? g.labels : maker.match_labels;
  add_facts(g, maker.pod);
}

void PodGroups::add_pod(const policy::Pod& pod) {
  auto owner = identity::owner_of(pod);
  bool fresh = !places_.contains({owner.name, owner.kind});
  PodGroup& g = group(owner.name, owner.kind, pod.meta.where);
  std::size_t place = places_.at({owner.name, owner.kind});
  if (fresh) {
    g.labels = lasting(pod.meta.labels);
  } else if (!made_.contains(place)) {
    std::erase_if(g.labels, [&](const auto& label) { return !identity::selects(Labels{label}, pod.meta.labels); });
  }
  if (!made_.contains(place)) g.selector = g.labels;
  add_facts(g, pod);
  for (const auto& ip : pod.ips) {
    g.addresses.push_back(ip);
    if (!pod.host_network) addresses_[ip] = place;
  }
}

const PodGroup* PodGroups::find(const policy::NamespacedName& name, const std::string& kind) const {
  auto place = places_.find({name, kind});
  return place == places_.end() ? nullptr : &groups_[place->second];
}

const PodGroup* PodGroups::find(const policy::NamespacedName& name) const {
  for (const auto& g : groups_)
    if (g.name == name && names_.of(name, g.kind) == name) return &g;
  return nullptr;
}

std::vector<const PodGroup*> PodGroups::selected(const std::string& ns, const Labels& selector) const {
  std::vector<const PodGroup*> found;
  for (const auto& g : groups_)
    if (g.name.ns == ns && identity::selects(selector, g.labels)) found.push_back(&g);
  return found;
}

const PodGroup* PodGroups::at(const IpAddress& ip) const {
  auto place = addresses_.find(ip);
  return place == addresses_.end() ? nullptr : &groups_[place->second];
}

}  // namespace casa::compile

// The Pods of files as policies by label can mean them: those of one Deployment, StatefulSet or other owner together, with the labels that tell
// them from all others. For rendering; the daemon knows Pods one by one. Pure.
#pragma once

#include <map>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "identity/workload_names.h"
#include "policy/objects.h"

namespace casa::compile {

using Labels = std::map<std::string, std::string>;

struct PodGroup {
  policy::NamespacedName name;
  std::string kind;  // Deployment, StatefulSet, Pod, or whatever owns its Pods
  Labels labels;     // that every Pod of it has
  Labels selector;   // of them those that select it: all, where nobody says less
  std::vector<policy::ContainerPort> ports;
  std::vector<IpAddress> addresses;
  policy::Location where;  // of the first object that tells of it
  bool host_network = false, istio_proxy = false, exempt = false;
};
std::string to_string(const PodGroup& group);  // "Deployment team-a/agent"

class PodGroups {
 public:
  explicit PodGroups(std::span<const policy::Object> objects);

  // Null when no file tells of it.
  [[nodiscard]] const PodGroup* find(const policy::NamespacedName& name, const std::string& kind) const;
  // Whom a name without a kind means, as in allowedSources.
  [[nodiscard]] const PodGroup* find(const policy::NamespacedName& name) const;
  // Those in `ns` whose Pods the selector selects.
  [[nodiscard]] std::vector<const PodGroup*> selected(const std::string& ns, const Labels& selector) const;
  // Who has this address.
  [[nodiscard]] const PodGroup* at(const IpAddress& ip) const;
  [[nodiscard]] auto all() const { return std::span<const PodGroup>(groups_); }

 private:
  PodGroup& group(const policy::NamespacedName& name, const std::string& kind, const policy::Location& where);
  void add_maker(const policy::PodMaker& maker, const char* kind);
  void add_pod(const policy::Pod& pod);
  static void add_facts(PodGroup& group, const policy::Pod& pod);

  std::vector<PodGroup> groups_;
  std::map<std::pair<policy::NamespacedName, std::string>, std::size_t> places_;  // in groups_
  std::set<std::size_t> made_;                                                    // whose maker is in the files
  std::map<IpAddress, std::size_t> addresses_;
  identity::WorkloadNames names_;
};

}  // namespace casa::compile

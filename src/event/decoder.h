// Kernel records to flows: numbers become names, monotonic time becomes wall time, the totals of denials become what is
// new. Keeps the names of identities that are gone, for their flows are not.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "casa/abi/policy.h"
#include "event/flow.h"
#include "event/sighting.h"
#include "identity/follow.h"
#include "identity/snapshot.h"

namespace casa::event {

// CLOCK_MONOTONIC, as records have it.
std::uint64_t monotonic_ns();

// The name that a denial is about, for people: "api.example.com". A label that is longer than any in a name that people use
// carries something else, perhaps a secret: only its length is told ("(52).evil.example"). Bytes that no name has become '?';
// empty when there is no name.
std::string asked_name(const casa_named_event& record);

class Decoder {
 public:
  Decoder();

  // From now on these are the names.
  void learn(const identity::Snapshot& snapshot, const identity::ObjectSet& objects, identity::Allocator& allocator);

  // The same where only these workloads may have others.
  void learn(const identity::Snapshot& snapshot, const identity::Followed& followed);

  // Nothing for records that are no flow news (cgroups), and for a DENIED record that tells nothing new.
  // `name`: the same record where a name follows it, else null.
  std::optional<Flow> decode(const casa_event& record, const casa_named_event* name = nullptr);

  // The totals that the kernel kept from before this daemon started: they are not news.
  void start_from(const casa_denial_key& key, const casa_denial& value);
  // Attempts that were added up without a record of their own.
  std::optional<Flow> pending(const casa_denial_key& key, const casa_denial& value);

  // A denial that the daemon itself found: it is in no kernel total.
  Flow decode_found(const casa_event& record) { return flow_of(record); }

  // Nothing for a record of another kind, and for a request that is no event of a token.
  std::optional<Sighting> decode_sighting(const casa_token_event& record, const EventClasses& classes) const;
  std::optional<AppNews> decode_app(const casa_token_event& record) const;

  // A UDP conversation as the kernel's table has it.
  Flow decode_udp(const casa_udp_key& key, const casa_sk& state, News news);

 private:
  struct KnownDenial {
    std::uint32_t total = 0;
    Flow last;
  };
  using DenialKey = std::string;  // the bytes of casa_denial_key

  std::shared_ptr<const PeerName> name_of(std::uint32_t identity) const;
  std::shared_ptr<const std::string> policy_of(std::uint32_t rule) const;
  std::chrono::system_clock::time_point wall_time(std::uint64_t monotonic_ns) const;
  Flow flow_of(const casa_event& record) const;
  void add_name(std::uint32_t identity, PeerName name);
  using Instances = std::unordered_map<std::uint64_t, std::shared_ptr<const std::string>>;  // by cgroup id
  // `before`: whose texts are kept where they are the same, since many flows share one.
  void add_workload(const identity::NamespacedName& name, const identity::Workload& workload, const Instances& before);
  void add_instances(const std::vector<identity::CgroupInstance>& places, const Instances& before);
  Instance instance_of(std::uint64_t cgroup_id) const;

  std::unordered_map<std::uint32_t, std::shared_ptr<const PeerName>> names_;
  std::unordered_map<std::uint32_t, std::shared_ptr<const std::string>> policies_;
  Instances instances_;
  std::unordered_map<DenialKey, KnownDenial> denials_;
  std::shared_ptr<const PeerName> unknown_;
};

}  // namespace casa::event

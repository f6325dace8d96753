// A picture that follows changes is the picture that would be made anew: random Pods, EndpointSlices and cgroups, also such as contradict one
// another.
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <catch2/catch_test_macros.hpp>

#include <algorithm>
#include <filesystem>
#include <random>
#include <sstream>

#include "compile/compile.h"
#include "identity/follow.h"
#include "policy/parse.h"

namespace casa::compile {
namespace {

using identity::Snapshot;
using identity::Workload;
using policy::EndpointSlice;
using policy::Pod;

constexpr const char* kSystem = R"(
apiVersion: v1
kind: Namespace
metadata: {name: labelled, labels: {casa.io/injection: enabled}}
---
apiVersion: v1
kind: Namespace
metadata: {name: exempt, annotations: {casa.io/enforcement: disabled}}
---
apiVersion: casa.io/v1alpha1
kind: CASAPolicy
metadata: {name: agent, namespace: a}
spec:
  targetRef: {kind: Deployment, name: x}
  allowedEndpoints:
    - {name: y, namespace: a, port: 80}
    - {name: y, namespace: plain, port: 80}
    - {name: headless, namespace: labelled, port: 9000}
  allowedSources:
    - {name: z, namespace: labelled}
    - {cidr: 10.0.0.0/24}
---
apiVersion: casa.io/v1alpha1
kind: CASAPolicy
metadata: {name: second, namespace: labelled}
spec:
  targetRef: {kind: StatefulSet, name: y}
  allowedEndpoints: [{name: x, namespace: a, port: 80}]
---
apiVersion: v1
kind: Node
metadata: {name: n1}
spec: {podCIDRs: [10.0.0.0/24]}
)";

std::string service_text(const std::string& ns, const std::string& name, bool selects, unsigned port) {
  static unsigned address = 0;
  return fmt::format(R"(---
apiVersion: v1
kind: Service
metadata: {{name: {}, namespace: {}}}
spec:
  clusterIP: {}
  selector: {{{}}}
  ports: [{{port: {}, targetPort: http}}]
)",
                     name, ns, selects ? fmt::format("10.96.0.{}", ++address % 250) : "None",
                     selects ? "app: " + name : "", port);
}

std::string facts(const Workload& w) {
  std::vector<std::string> declared, instances, ports, addresses, here;
  for (const auto& place : w.declared) declared.push_back(place.path);
  for (const auto& instance : w.instances) instances.push_back(instance.path);
  for (const auto& port : w.ports) ports.push_back(fmt::format("{}:{}", port.name, port.port));
  for (const auto& ip : w.addresses) addresses.push_back(to_string(ip));
  for (const auto& ip : w.addresses_here) here.push_back(to_string(ip));
  std::ranges::sort(instances);
  return fmt::format(
      "{} {} {} managed {} exempt {} pods {} istio {} declared {} instances {} ports {} addresses {} here {} nodes {} "
      "probes {} host {}",
      w.identity, w.name.name, w.kind, w.managed, w.exempt, w.in_pods, w.istio_proxy, declared, instances, ports,
      addresses, here, w.nodes, w.probe_ports, w.host_identities);
}

std::vector<std::string> places(const Snapshot& s) {
  std::vector<std::string> texts;
  for (const auto& p : s.pod_places)
    texts.push_back(fmt::format("{} {}/{} {} {} {}", p.cgroup.path, p.workload.ns, p.workload.name, p.kind, p.in_pods,
                                p.cgroup.id));
  std::ranges::sort(texts);
  return texts;
}

void check_same(const Snapshot& followed, const Snapshot& anew) {
  REQUIRE(followed.workloads.size() == anew.workloads.size());
  for (const auto& [name, w] : anew.workloads) {
    INFO(name.ns << "/" << name.name);
    REQUIRE(followed.workloads.contains(name));
    CHECK(facts(followed.workloads.at(name)) == facts(w));
  }
  CHECK(followed.addresses == anew.addresses);
  CHECK(followed.plain_addresses == anew.plain_addresses);
  CHECK(places(followed) == places(anew));
  CHECK(followed.enforcing_nodes == anew.enforcing_nodes);
  CHECK(followed.declared_by == anew.declared_by);
  CHECK(followed.problems == anew.problems);
  CHECK(followed.dns.resolvers == anew.dns.resolvers);
  REQUIRE(followed.services.size() == anew.services.size());
  for (const auto& [name, service] : anew.services) {
    INFO(name.ns << "/" << name.name);
    CHECK(followed.services.at(name).ports == service.ports);
    CHECK(followed.services.at(name).problem == service.problem);
  }
}

// The rows that only one of them has.
std::vector<std::string> difference(const MapImage& a, const MapImage& b) {
  auto rows = [](const MapImage& image) {
    std::istringstream text(to_text(image));
    std::vector<std::string> lines;
    for (std::string line; std::getline(text, line);) lines.push_back(line);
    std::ranges::sort(lines);
    return lines;
  };
  std::vector<std::string> found;
  std::ranges::set_symmetric_difference(rows(a), rows(b), std::back_inserter(found));
  return found;
}

void check_same(const Compiled& followed, const Compiled& anew) {
  CHECK(difference(followed.image, anew.image) == std::vector<std::string>{});
  CHECK(followed.image.addresses == anew.image.addresses);
  CHECK(followed.image.level_max >= anew.image.level_max);
  REQUIRE(followed.policies.size() == anew.policies.size());
  for (std::size_t i = 0; i < anew.policies.size(); ++i) {
    CHECK(followed.policies[i].message == anew.policies[i].message);
    CHECK(followed.policies[i].phase == anew.policies[i].phase);
  }
  REQUIRE(followed.endpoints.size() == anew.endpoints.size());
  for (std::size_t i = 0; i < anew.endpoints.size(); ++i)
    CHECK(followed.endpoints[i].addresses == anew.endpoints[i].addresses);
}

template <typename Key>
void take_rows(const std::set<Key>& touched, const std::map<Key, std::uint32_t>& from,
               std::map<Key, std::uint32_t>& into) {
  for (const auto& key : touched) {
    into.erase(key);
    if (auto row = from.find(key); row != from.end()) into.emplace(*row);
  }
}

// What the kernel would have, that is told of the touched rows only.
void check_touched(MapImage kernel, const Touched& touched, const MapImage& next) {
  take_rows(touched.addresses, next.addresses, kernel.addresses);
  take_rows(touched.cgroup_paths, next.cgroup_paths, kernel.cgroup_paths);
  take_rows(touched.cgroups, next.cgroups, kernel.cgroups);
  if (touched.others) {
    kernel.subjects = next.subjects;
    kernel.policy = next.policy;
    kernel.names = next.names;
    kernel.prefixes = next.prefixes;
    kernel.resolvers = next.resolvers;
  }
  CHECK(difference(kernel, next) == std::vector<std::string>{});
  CHECK(kernel.addresses == next.addresses);
}

class Cluster {
 public:
  explicit Cluster(unsigned seed, bool tidy) : random_(seed), tidy_(tidy) {
    char path[] = "/tmp/casad-follow-XXXXXX";
    REQUIRE(::mkdtemp(path) != nullptr);
    node_.mount.root = node_.mount.mount_point = path;
    node_.dns.inspected = node_.tokens.read = true;
    node_.cluster.node_name = "n1";
    node_.cluster.daemon_namespace = "casa";
    node_.cluster.strict = seed % 2 == 0;
    node_.host_addresses.push_back(*parse_ip("10.0.0.1"));
    std::filesystem::create_directories(node_.mount.root + "/kubepods.slice");
    node_.cluster.kubepods = identity::find_kubepods(node_.mount);
    std::string text = kSystem;
    for (const char* ns : {"a", "labelled", "plain"})
      for (const char* name : {"x", "y"}) text += service_text(ns, name, true, 80);
    text += service_text("labelled", "headless", false, 9000) + service_text("kube-system", "kube-dns", true, 53);
    auto parsed = policy::parse_text("system.yaml", text, policy::Syntax::kYaml);
    for (const auto& d : parsed.diagnostics) FAIL(to_string(d));
    for (auto& object : parsed.objects) objects_.put(std::move(object));
    (void)objects_.take_changes();
    build();
  }
  ~Cluster() { std::filesystem::remove_all(node_.mount.root); }
  Cluster(const Cluster&) = delete;
  Cluster& operator=(const Cluster&) = delete;

  // False: the change was refused.
  bool step() {
    bool places = false;
    for (unsigned left = 1 + pick(3); left > 0; --left) {
      switch (pick(10)) {
        case 0: remove_pod(); break;
        case 1:
        case 2: change_slice(); break;
        case 3:
          change_cgroup();
          places = true;
          break;
        default: change_pod();
      }
    }
    auto changes = objects_.take_changes();
    REQUIRE(changes.has_value());
    auto places_before = snapshot_.pod_places;
    auto followed = identity::follow(*changes, places, objects_, node_, allocator_, snapshot_);
    if (!followed) {
      build();
      return false;
    }
    MapImage kernel = compiled_.image;
    Touched touched = compile::follow(objects_, snapshot_, allocator_, false, *followed, compiled_);
    check_touched(std::move(kernel), touched, compiled_.image);
    refresh(objects_, snapshot_, allocator_, false, compiled_);
    node_.cluster.pod_places = std::move(places_before);
    Snapshot anew = identity::build_snapshot(objects_, node_, allocator_);
    check_same(snapshot_, anew);
    check_same(compiled_, compile::compile(objects_, anew, allocator_, false));
    return true;
  }

 private:
  unsigned pick(unsigned below) { return std::uniform_int_distribution<unsigned>(0, below - 1)(random_); }
  template <typename T>
  T one_of(std::initializer_list<T> all) {
    return *(all.begin() + pick(static_cast<unsigned>(all.size())));
  }

  void build() {
    node_.cluster.pod_places = snapshot_.pod_places;
    snapshot_ = identity::build_snapshot(objects_, node_, allocator_);
    compiled_ = compile::compile(objects_, snapshot_, allocator_, false);
  }

  std::string pod_name() { return fmt::format("pod-{}", pick(12)); }
  std::string ns() { return one_of({"a", "a", "labelled", "plain", "plain", "exempt", "casa", "kube-system"}); }

  void change_pod() {
    Pod pod;
    pod.meta.ns = ns();
    pod.meta.name = pod_name();
    if (const auto* known = objects_.find<Pod>({pod.meta.ns, pod.meta.name}); known != nullptr && pick(3) != 0)
      pod = *known;
    else make(pod);
    switch (pick(5)) {
      case 0: pod.deleting = pick(2) == 0; break;
      case 1: pod.finished = pick(3) == 0; break;
      case 2: pod.ready = pick(2) == 0; break;
      default: give_addresses(pod);
    }
    objects_.put(std::move(pod));
  }

  void make(Pod& pod) {
    static unsigned uid = 0;
    std::string app = one_of({"x", "y", "z"});
    pod.meta.uid = pod.cgroup_uid = fmt::format("11111111-2222-3333-4444-{:012}", tidy_ || pick(20) != 0 ? ++uid : uid);
    pod.meta.labels["app"] = pod.meta.ns == "casa" ? "casad" : app;
    if (pod.meta.ns == "casa") pod.meta.labels["app.kubernetes.io/name"] = "casad";
    if (pod.meta.ns == "kube-system") pod.meta.labels["app"] = one_of({"kube-dns", "other"});
    pod.meta.labels["pod-template-hash"] = "1";
    unsigned kind = pick(tidy_ ? 2 : 5);
    if (kind < 2) pod.meta.owners.push_back({"ReplicaSet", app + "-1", true});
    if (kind == 2) pod.meta.owners.push_back({"StatefulSet", app, true});
    if (kind == 3) pod.meta.owners.push_back({"Job", app, true});
    if (pick(20) == 0) pod.meta.annotations["casa.io/enforcement"] = "disabled";
    pod.node = one_of({"n1", "n1", "n2", ""});
    pod.qos = one_of({policy::QosClass::kUnknown, policy::QosClass::kBurstable});
    pod.host_network = pick(12) == 0;
    pod.istio_proxy = pick(8) == 0;
    pod.ports.push_back({"http", static_cast<std::uint16_t>(pick(8) == 0 ? 8081 : 8080), policy::Protocol::kTcp});
    if (pick(4) == 0) pod.probe_ports.push_back(8080);
  }

  void give_addresses(Pod& pod) {
    pod.ips.clear();
    if (pick(4) == 0) return;
    unsigned last =
        tidy_ ? static_cast<unsigned>(10 + (pod.meta.ns.size() * 13 + std::stoul(pod.meta.name.substr(4)) * 17) % 240)
              : 1 + pick(30);
    pod.ips.push_back(*parse_ip(fmt::format("10.0.0.{}", last)));
    if (pick(4) == 0) pod.ips.push_back(*parse_ip(fmt::format("fd00::{}", last)));
  }

  void remove_pod() { objects_.erase({policy::Kind::kPod, ns(), pod_name()}); }

  void change_slice() {
    EndpointSlice slice;
    slice.meta.ns = ns();
    slice.meta.name = fmt::format("slice-{}", pick(3));
    if (pick(6) == 0) return objects_.erase({policy::Kind::kEndpointSlice, slice.meta.ns, slice.meta.name});
    slice.service = one_of({"x", "y", "headless", "kube-dns", "nobody"});
    slice.ports.push_back(
        {"", static_cast<std::uint16_t>(pick(6) == 0 ? 8081 : 8080), std::uint16_t{0}, policy::Protocol::kTcp});
    for (unsigned left = pick(4); left > 0; --left) {
      EndpointSlice::Endpoint endpoint;
      endpoint.addresses.push_back(*parse_ip(fmt::format("10.0.{}.{}", pick(2), 1 + pick(30))));
      if (tidy_ || pick(12) != 0) endpoint.pod = {slice.meta.ns, pod_name()};
      slice.endpoints.push_back(std::move(endpoint));
    }
    objects_.put(std::move(slice));
  }

  void change_cgroup() {
    std::vector<std::string> paths;
    for (const auto& [path, name] : snapshot_.declared_by) paths.push_back(path);
    for (const auto& place : snapshot_.pod_places) paths.push_back(place.cgroup.path);
    if (paths.empty()) return;
    std::string path = node_.mount.root + "/" + paths[pick(static_cast<unsigned>(paths.size()))];
    if (pick(2) == 0) std::filesystem::create_directories(path);
    else std::filesystem::remove_all(path);
  }

  std::mt19937 random_;
  const bool tidy_;
  identity::ObjectSet objects_;
  identity::NodeFacts node_;
  identity::Allocator allocator_;
  Snapshot snapshot_;
  Compiled compiled_;
};

// How many of 6,000 random steps could be followed; each of them is checked.
unsigned follow_at_random(bool tidy) {
  unsigned followed = 0;
  for (unsigned seed = 1; seed <= 60; ++seed) {
    CAPTURE(seed);
    Cluster cluster(seed, tidy);
    for (unsigned step = 0; step < 100; ++step) {
      CAPTURE(step);
      if (cluster.step()) ++followed;
    }
  }
  return followed;
}

}  // namespace

TEST_CASE("a picture that follows is the picture made anew, however the Pods contradict one another") {
  CHECK(follow_at_random(false) > 600);
}

TEST_CASE("in a cluster without contradictions nearly every change can be followed") {
  CHECK(follow_at_random(true) > 3000);
}

}  // namespace casa::compile

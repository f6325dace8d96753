// The set of objects: its neighbours, and what it remembers of changes.
#include <catch2/catch_test_macros.hpp>

#include "identity/object_set.h"

namespace casa::identity {
namespace {

using policy::EndpointSlice;
using policy::Kind;
using policy::Object;
using policy::Pod;

Pod pod(const std::string& name, const char* ip, const std::string& owner = "") {
  Pod p;
  p.meta.ns = "a";
  p.meta.name = name;
  if (!owner.empty()) p.meta.owners.push_back({"StatefulSet", owner, true});
  p.ips.push_back(*parse_ip(ip));
  return p;
}

std::vector<std::string> names(const std::vector<const Pod*>& pods) {
  std::vector<std::string> found;
  for (const Pod* p : pods) found.push_back(p->meta.name);
  return found;
}

using Names = std::vector<std::string>;

}  // namespace

TEST_CASE("the Pods of an address and of an owner follow what is put and erased") {
  ObjectSet set;
  IpAddress ip = *parse_ip("10.0.0.1");
  set.put(pod("two", "10.0.0.1", "web"));
  set.put(pod("one", "10.0.0.1", "web"));
  CHECK(names(set.pods_at(ip)) == Names{"one", "two"});
  CHECK(set.owners().at({"a", "web"}).at("StatefulSet").size() == 2);
  set.put(pod("one", "10.0.0.2"));
  CHECK(names(set.pods_at(ip)) == Names{"two"});
  CHECK(set.owners().at({"a", "one"}).contains("Pod"));
  set.erase({Kind::kPod, "a", "two"});
  CHECK(set.pods_at(ip).empty());
  CHECK_FALSE(set.owners().contains({"a", "web"}));
  ObjectSet moved = std::move(set);
  CHECK(names(moved.pods_at(*parse_ip("10.0.0.2"))) == Names{"one"});
}

TEST_CASE("slices are found by their Service and by the Pods that they name") {
  ObjectSet set;
  EndpointSlice slice;
  slice.meta.ns = "a";
  slice.meta.name = "web-1";
  slice.service = "web";
  slice.endpoints.push_back({{*parse_ip("10.0.0.1")}, true, NamespacedName{"a", "one"}});
  slice.endpoints.push_back({{*parse_ip("10.0.0.9")}, true, {}});
  set.put(Object(slice));
  CHECK(set.slices_of({"a", "web"}).contains("web-1"));
  CHECK(set.services_naming({"a", "one"}) == std::set<NamespacedName>{{"a", "web"}});
  CHECK(set.is_bare_endpoint(*parse_ip("10.0.0.9")));
  CHECK_FALSE(set.is_bare_endpoint(*parse_ip("10.0.0.1")));
  slice.service = "other";
  slice.endpoints.pop_back();
  set.put(Object(slice));
  CHECK(set.slices_of({"a", "web"}).empty());
  CHECK(set.services_naming({"a", "one"}) == std::set<NamespacedName>{{"a", "other"}});
  CHECK_FALSE(set.is_bare_endpoint(*parse_ip("10.0.0.9")));
}

TEST_CASE("changes are told once, from what was there before the first; what is as it was is no change") {
  ObjectSet set;
  set.put(pod("one", "10.0.0.1"));
  REQUIRE(set.take_changes().has_value());
  set.put(pod("one", "10.0.0.2"));
  set.put(pod("one", "10.0.0.3"));
  set.put(pod("two", "10.0.0.4"));
  auto changes = set.take_changes();
  REQUIRE(changes.has_value());
  REQUIRE(changes->size() == 2);
  CHECK(std::get<Pod>(*changes->at({Kind::kPod, "a", "one"})).ips.front() == *parse_ip("10.0.0.1"));
  CHECK_FALSE(changes->at({Kind::kPod, "a", "two"}).has_value());
  set.put(pod("one", "10.0.0.9"));
  set.put(pod("one", "10.0.0.3"));
  set.put(pod("three", "10.0.0.5"));
  set.erase({Kind::kPod, "a", "three"});
  CHECK(set.take_changes()->empty());
}

TEST_CASE("too many changes, and policies that became invalid, are told as everything") {
  ObjectSet set;
  for (unsigned i = 0; i < 10'000; ++i) set.put(pod("pod-" + std::to_string(i), "10.0.0.1"));
  CHECK_FALSE(set.take_changes().has_value());
  CHECK(set.take_changes()->empty());
  set.set_invalid({});
  CHECK_FALSE(set.take_changes().has_value());
}

}  // namespace casa::identity

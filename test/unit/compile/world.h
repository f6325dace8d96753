// A small world for compile tests: objects from YAML, cgroups in a plain directory that stands for the cgroup2 mount.
#pragma once

#include <catch2/catch_test_macros.hpp>
#include <cstdlib>
#include <filesystem>
#include <string>

#include "compile/compile.h"
#include "compile/explain.h"
#include "policy/parse.h"

namespace casa::test {

class World {
 public:
  explicit World(const std::string& yaml) {
    char path[] = "/tmp/casad-world-XXXXXX";
    REQUIRE(::mkdtemp(path) != nullptr);
    node_.mount.root = node_.mount.mount_point = path;
    node_.dns.inspected = node_.tokens.read = node_.tokens.verified = true;
    say(yaml);
  }
  ~World() { std::filesystem::remove_all(node_.mount.root); }
  World(const World&) = delete;
  World& operator=(const World&) = delete;

  // All objects that there are from now on.
  void say(const std::string& yaml) {
    objects_ = {};
    auto parsed = policy::parse_text("world.yaml", yaml, policy::Syntax::kYaml);
    for (const auto& d : parsed.diagnostics) INFO(to_string(d));
    for (auto& object : parsed.objects) objects_.put(std::move(object));
    std::vector<identity::InvalidPolicy> listed;
    for (auto& invalid : parsed.invalid)
      listed.push_back({{invalid.key.ns, invalid.key.name}, invalid.target_name, invalid.message, "world.yaml"});
    objects_.set_invalid(std::move(listed));
  }
  // The node is one of a cluster.
  void join(const std::string& node_name, bool strict = false) {
    node_.cluster.node_name = node_name;
    node_.cluster.strict = strict;
  }
  void daemon_namespace(const std::string& ns) { node_.cluster.daemon_namespace = ns; }
  void remove_cgroup(const std::string& path) { std::filesystem::remove_all(node_.mount.root + "/" + path); }
  void cgroup(const std::string& path) { std::filesystem::create_directories(node_.mount.root + "/" + path); }
  void host_address(const char* ip) { node_.host_addresses.push_back(*parse_ip(ip)); }
  void audit_node() { audit_ = true; }
  identity::DnsFacts& dns() { return node_.dns; }
  identity::TokenFacts& tokens() { return node_.tokens; }

  void compile() {
    node_.cluster.kubepods = identity::find_kubepods(node_.mount);
    node_.cluster.pod_places = snapshot.pod_places;
    snapshot = identity::build_snapshot(objects_, node_, allocator);
    compiled = compile::compile(objects_, snapshot, allocator, audit_);
  }
  const identity::ObjectSet& objects() const { return objects_; }
  std::uint32_t id(const std::string& ns, const std::string& name) const {
    return snapshot.workloads.at({ns, name}).identity;
  }
  compile::Decision ask(std::uint32_t subject, std::uint32_t peer, casa_direction direction, std::uint16_t port,
                        std::uint8_t protocol = 6, bool same_host = true) const {
    return compile::decide(compiled.image, {subject, peer, direction, protocol, port, same_host});
  }
  const compile::PolicyReport& report(const std::string& name) const {
    for (const auto& r : compiled.policies)
      if (r.name.name == name) return r;
    FAIL("no report of " << name);
    std::abort();
  }

  identity::Snapshot snapshot;
  compile::Compiled compiled;
  identity::Allocator allocator;

 private:
  identity::ObjectSet objects_;
  identity::NodeFacts node_;
  bool audit_ = false;
};

}  // namespace casa::test

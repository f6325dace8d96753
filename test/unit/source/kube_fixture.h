// A source over a KubeApi, with waits short enough for tests.
#pragma once

#include <algorithm>
#include <cstdlib>

#include "kube_api.h"
#include "source/kube_source.h"
#include "source_harness.h"

namespace casa::source::test {

struct KubeFixture {
  explicit KubeFixture(const std::string& names = "IP:127.0.0.1")
      : certificate(names, &authority), api(io, certificate) {
    api.put(kNodes, "", "here", R"(,"spec":{"podCIDR":"10.0.0.0/24"})");
    api.put(kNodes, "", "elsewhere");
    api.put(kNamespaces, "", "team-a");
    options.node_name = "here";
    options.on_note = [this](const std::string& note) { notes.push_back(note); };
    options.connect_timeout = 500ms;
    options.request_timeout = 500ms;
    options.first_retry = 20ms;
    options.longest_retry = 100ms;
    options.absent_retry = 60ms;
    options.silence = 150ms;
    options.check_timeout = 150ms;
    options.quiet = 5ms;
    options.longest = 50ms;
  }
  [[nodiscard]] KubeAccess access() const {
    KubeAccess access;
    access.server = *casa::parse_location("https://127.0.0.1:" + std::to_string(api.port()));
    access.server.path.clear();
    access.authorities.text = authority.pem();
    access.token = "t0ken";
    access.from = "a test";
    return access;
  }
  void start() { start(access()); }
  void start(KubeAccess with) {
    source = std::make_unique<KubernetesSource>(io, std::move(with), recorder, options);
    source->start();
  }
  void start_quietly() {
    start();
    REQUIRE(until([&] { return recorder.synced == 1 && watching(); }));
    recorder.log.clear();
    api.requests.clear();
  }
  [[nodiscard]] bool watching() const {
    return std::ranges::all_of(source->resources(), [](const KubernetesResource& resource) {
      return resource.state == KubernetesResource::State::kWatching;
    });
  }
  bool until(const std::function<bool()>& condition, std::chrono::milliseconds most = 5s) {
    return casa::test::run_until(io, condition, most);
  }
  bool until_heard(const std::string& line) {
    return until([&] { return heard(line) != 0; });
  }
  [[nodiscard]] std::ptrdiff_t heard(const std::string& line) const { return std::ranges::count(recorder.log, line); }
  void run_for(std::chrono::milliseconds time) {
    auto end = std::chrono::steady_clock::now() + time;
    while (std::chrono::steady_clock::now() < end) {
      io.restart();
      io.run_for(5ms);
    }
  }
  [[nodiscard]] KubernetesResource resource(const std::string& name) const {
    for (auto& resource : source->resources())
      if (resource.name == name) return resource;
    FAIL("no resource " << name);
    return {};
  }

  asio::io_context io;
  Certificate authority{"", nullptr};
  Certificate certificate;
  KubeApi api;
  Recorder recorder;
  KubernetesOptions options;
  std::vector<std::string> notes;
  std::unique_ptr<KubernetesSource> source;
};

}  // namespace casa::source::test

// A Kubernetes API server as a source: lists and then watches the objects that casad uses, each kind over a connection of its own.
// Everything happens on the io_context's one thread; start(), stop() and the destructor belong to it too.
//
// What it promises: the first on_synced() comes when every resource has been listed (one that the server does not know counts as listed and
// empty; one that it forbids does not, on_health() says so); while the server is away, or says nothing sensible, nothing is removed; an
// object that has not changed is not announced again, also when a list has to be taken anew; a server that has fallen silent is
// noticed within 30 s.
//
// Origins are "kubernetes:Pod/team-a/agent-0" and "kubernetes:Node/worker-1".
#pragma once

#include <boost/asio/io_context.hpp>
#include <chrono>
#include <cstddef>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/ip.h"
#include "source/kube_access.h"
#include "source/source.h"

namespace casa::source {

// The defaults are what casad runs with; tests shorten the waits.
struct KubernetesOptions {
  std::string node_name;  // this node, whose Node object and whose finished pods are asked for too; empty: neither
  // Something worth a line in the log that is no problem ("the server has no casapolicies yet").
  std::function<void(const std::string&)> on_note;

  std::chrono::milliseconds quiet{0};                 // no event for so long ends a burst: what was read at once
  std::chrono::milliseconds longest{200};             // or so long after its first event
  std::chrono::milliseconds connect_timeout{10'000};  // TCP and TLS together
  std::chrono::milliseconds request_timeout{30'000};  // to the answer's head, and between two pieces of a list
  std::chrono::milliseconds first_retry{500};         // after a failure; doubled with each, less a random half
  std::chrono::milliseconds longest_retry{30'000};
  std::chrono::milliseconds absent_retry{30'000};  // for a resource that the server does not know
  std::chrono::seconds shortest_watch{240};        // the server ends a watch after a random time between the two
  std::chrono::seconds longest_watch{480};
  std::chrono::milliseconds silence{15'000};        // a watch that is silent for so long: is the server there?
  std::chrono::milliseconds check_timeout{10'000};  // it has so long to answer that
  std::chrono::milliseconds token_period = kTokenPeriod;
  std::size_t page = 500;  // objects in one answer to a list
};

struct KubernetesResource {
  enum class State { kListing, kWatching, kAbsent, kForbidden, kFailing };
  std::string name;  // "pods of this node"
  State state = State::kListing;
  std::size_t objects = 0;  // known now
  std::string problem;      // a sentence, while kForbidden or kFailing
};

// "watching"
const char* to_string(KubernetesResource::State state);

class KubernetesSource {
 public:
  KubernetesSource(boost::asio::io_context& io, KubeAccess access, Handler& handler, KubernetesOptions options = {});
  ~KubernetesSource();
  KubernetesSource(const KubernetesSource&) = delete;
  KubernetesSource& operator=(const KubernetesSource&) = delete;

  void start();
  // No call reaches the handler after it, also when the handler calls it.
  void stop();

  // Of the server's host, when access.server.needs_name(): names are not looked up here.
  void set_addresses(std::vector<IpAddress> addresses);

  // When the server last said something, anything; nothing before the first time.
  [[nodiscard]] std::optional<std::chrono::steady_clock::time_point> last_contact() const;
  [[nodiscard]] std::vector<KubernetesResource> resources() const;

 private:
  class Impl;
  std::shared_ptr<Impl> impl_;  // shared with pending operations, which may outlive this object
};

}  // namespace casa::source

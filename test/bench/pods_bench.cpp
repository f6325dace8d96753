// What a cluster's Pods cost this node's daemon without the kernel's share: from the API server's JSON to a compiled generation, and a change
// after that. Usage: pods_bench [PODS...]. Prints a line for each number: CPU of each step in ms, wall time of a change, and the most
// memory in MB.
#include <fmt/format.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <string>
#include <vector>

#include "app/documents.h"
#include "compile/compile.h"
#include "compile/map_image.h"
#include "identity/follow.h"
#include "identity/snapshot.h"

namespace {

constexpr unsigned kPodsOfWorkload = 20, kPodsOfNamespace = 500, kPodsOfNode = 30, kChanges = 1000;

double cpu_ms() {
  rusage use{};
  getrusage(RUSAGE_SELF, &use);
  auto ms = [](const timeval& t) { return static_cast<double>(t.tv_sec) * 1e3 + static_cast<double>(t.tv_usec) / 1e3; };
  return ms(use.ru_utime) + ms(use.ru_stime);
}

long memory_mb() {
  rusage use{};
  getrusage(RUSAGE_SELF, &use);
  return use.ru_maxrss / 1024;
}

// As a server prints it: with what nobody here reads.
std::string pod_json(unsigned i, unsigned address) {
  std::string padding;
  for (int field = 0; field < 24; ++field)
    padding += fmt::format(R"("f:field-{}":{{".":{{}},"f:name":{{}},"f:value":{{}}}},)", field);
  unsigned workload = i / kPodsOfWorkload;
  return fmt::format(
      R"({{"metadata":{{"name":"app-{0}-7d9c5b6f4-{1:05}","generateName":"app-{0}-7d9c5b6f4-","namespace":"ns-{2}","uid":"3c3e6a52-6d1f-4d3b-9d53-{1:012}",)"
      R"("resourceVersion":"{1}","creationTimestamp":"2026-01-01T00:00:00Z","labels":{{"app":"app-{0}","pod-template-hash":"7d9c5b6f4","tier":"backend"}},)"
      R"("annotations":{{"kubectl.kubernetes.io/restartedAt":"2026-01-01T00:00:00Z"}},)"
      R"("ownerReferences":[{{"apiVersion":"apps/v1","kind":"ReplicaSet","name":"app-{0}-7d9c5b6f4","uid":"u","controller":true,"blockOwnerDeletion":true}}],)"
      R"("managedFields":[{{"manager":"kubelet","operation":"Update","fieldsV1":{{{3}"f:z":{{}}}}}}]}},)"
      R"("spec":{{"containers":[{{"name":"main","image":"registry/app:1","ports":[{{"name":"http","containerPort":8080,"protocol":"TCP"}}],)"
      R"("env":[{{"name":"A","value":"b"}},{{"name":"C","value":"d"}}],"resources":{{"requests":{{"cpu":"100m","memory":"64Mi"}}}},)"
      R"("readinessProbe":{{"httpGet":{{"path":"/","port":"http"}}}},"terminationMessagePath":"/dev/termination-log"}}],"nodeName":"node-{4}",)"
      R"("serviceAccountName":"default","tolerations":[{{"key":"node.kubernetes.io/not-ready","operator":"Exists","effect":"NoExecute"}}]}},)"
      R"("status":{{"phase":"Running","conditions":[{{"type":"Ready","status":"True","lastTransitionTime":"2026-01-01T00:00:00Z"}}],"hostIP":"10.0.0.1",)"
      R"("podIP":"10.{5}.{6}.{7}","podIPs":[{{"ip":"10.{5}.{6}.{7}"}}],"qosClass":"Burstable","containerStatuses":[{{"name":"main","ready":true,"restartCount":0}}]}}}})",
      workload, i, i / kPodsOfNamespace, padding, i / kPodsOfNode, 64 + address / 65536, address / 256 % 256,
      address % 256);
}

casa::source::Document document(const char* kind, const std::string& ns, const std::string& name, std::string bytes) {
  std::string origin = fmt::format("kubernetes:{}/{}/{}", kind, ns, name);
  return {origin, origin, casa::source::Format::kApiObject, std::move(bytes), kind};
}

casa::source::Document pod(unsigned i, unsigned address) {
  return document("Pod", fmt::format("ns-{}", i / kPodsOfNamespace),
                  fmt::format("app-{}-7d9c5b6f4-{:05}", i / kPodsOfWorkload, i), pod_json(i, address));
}

void add_system(casa::app::Documents& documents, unsigned pods) {
  for (unsigned ns = 0; ns * kPodsOfNamespace < pods; ++ns) {
    std::string name = fmt::format("ns-{}", ns);
    unsigned first = ns * kPodsOfNamespace / kPodsOfWorkload;
    (void)documents.upsert(document(
        "CASAPolicy", name, "p",
        fmt::format(
            R"({{"metadata":{{"name":"p","namespace":"{0}"}},"spec":{{"targetRef":{{"kind":"Deployment","name":"app-{1}"}},"allowedEndpoints":[{{"name":"svc","namespace":"{0}","port":80}}]}}}})",
            name, first)));
    (void)documents.upsert(document(
        "Service", name, "svc",
        fmt::format(
            R"({{"metadata":{{"name":"svc","namespace":"{}"}},"spec":{{"clusterIP":"10.96.{}.{}","ports":[{{"port":80,"targetPort":"http"}}],"selector":{{"app":"app-{}"}}}}}})",
            name, ns / 256, ns % 256, first + 1)));
  }
}

struct Generation {
  casa::identity::Snapshot snapshot;
  casa::compile::Compiled compiled;
};

Generation build(const casa::app::Documents& documents, const casa::identity::NodeFacts& node,
                 casa::identity::Allocator& allocator) {
  Generation g{casa::identity::build_snapshot(documents.objects(), node, allocator), {}};
  g.compiled = casa::compile::compile(documents.objects(), g.snapshot, allocator, false);
  return g;
}

void run(unsigned pods) {
  std::string dir = "/tmp/casad-pods-bench-XXXXXX";
  if (::mkdtemp(dir.data()) == nullptr) std::abort();
  casa::app::Documents documents(dir);
  casa::identity::Allocator allocator;
  casa::identity::NodeFacts node;
  node.mount.root = node.mount.mount_point = dir;
  node.cluster.node_name = "node-1";
  node.dns.inspected = node.tokens.read = true;
  add_system(documents, pods);
  double taking = 0, bytes = 0;
  for (unsigned i = 0; i < pods; ++i) {
    auto next = pod(i, i);
    bytes += static_cast<double>(next.bytes.size());
    double begin = cpu_ms();
    (void)documents.upsert(next);
    taking += cpu_ms() - begin;
  }
  double begin = cpu_ms();
  Generation g = build(documents, node, allocator);
  double built = cpu_ms() - begin;
  begin = cpu_ms();
  std::string digest = casa::compile::digest(g.compiled.image);
  double digested = cpu_ms() - begin;
  (void)documents.take_changes();
  std::vector<double> changes;
  for (unsigned i = 0; i < kChanges; ++i) {
    auto next = pod(static_cast<unsigned>(std::uint64_t{i} * pods / kChanges), pods + i);
    auto start = std::chrono::steady_clock::now();
    (void)documents.upsert(next);
    auto taken = documents.take_changes();
    auto followed = casa::identity::follow(*taken, false, documents.objects(), node, allocator, g.snapshot);
    if (!followed) std::abort();
    (void)casa::compile::follow(documents.objects(), g.snapshot, allocator, false, *followed, g.compiled);
    changes.push_back(std::chrono::duration<double, std::micro>(std::chrono::steady_clock::now() - start).count());
  }
  std::ranges::sort(changes);
  fmt::print(
      "{:>7} pods of {:.1f} kB: taken in {:.0f} ms, built in {:.0f} ms, digest {:.0f} ms; one change {:.0f} us (p99 "
      "{:.0f}, "
      "most {:.0f}); {} MB; {} address rows\n",
      pods, bytes / pods / 1e3, taking, built, digested, changes[kChanges / 2], changes[kChanges * 99 / 100],
      changes.back(), memory_mb(), g.compiled.image.addresses.size());
  std::fflush(stdout);
  std::filesystem::remove_all(dir);
}

}  // namespace

int main(int argc, char** argv) {
  std::vector<unsigned> counts;
  for (int i = 1; i < argc; ++i) {
    std::string_view text = argv[i];
    unsigned count = 0;
    auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), count);
    if (error != std::errc{} || end != text.data() + text.size() || count < kChanges) {
      fmt::print(stderr, "usage: pods_bench [PODS...], each at least {}\n", kChanges);
      return 2;
    }
    counts.push_back(count);
  }
  if (counts.empty()) counts = {1'000, 10'000, 100'000};
  // Each in a process of its own: the most memory is a process's.
  for (unsigned count : counts) {
    pid_t child = ::fork();
    if (child == 0) {
      run(count);
      ::_exit(0);
    }
    int status = 0;
    if (child < 0 || ::waitpid(child, &status, 0) != child || status != 0) return 1;
  }
}

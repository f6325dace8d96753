// A Pod's containers: their ports, which of them kubelet asks (probes, lifecycle hooks), how kubelet sorts the pod by what
// they request, and whether a mesh's proxy is among them. As everywhere in files: unknown names are errors at the levels
// that are read, and below them anything goes.
#include <algorithm>

#include "policy/kinds.h"
#include "policy/names.h"
#include "policy/quantity.h"

namespace casa::policy {
namespace {

constexpr std::string_view kContainer[] = {"args",
                                           "command",
                                           "env",
                                           "envFrom",
                                           "image",
                                           "imagePullPolicy",
                                           "lifecycle",
                                           "livenessProbe",
                                           "name",
                                           "ports",
                                           "readinessProbe",
                                           "resizePolicy",
                                           "resources",
                                           "restartPolicy",
                                           "restartPolicyRules",
                                           "securityContext",
                                           "startupProbe",
                                           "stdin",
                                           "stdinOnce",
                                           "terminationMessagePath",
                                           "terminationMessagePolicy",
                                           "tty",
                                           "volumeDevices",
                                           "volumeMounts",
                                           "workingDir"};
constexpr std::string_view kContainerPort[] = {"name", "containerPort", "protocol", "hostPort", "hostIP"};
constexpr std::string_view kProbe[] = {"exec",
                                       "failureThreshold",
                                       "grpc",
                                       "httpGet",
                                       "initialDelaySeconds",
                                       "periodSeconds",
                                       "successThreshold",
                                       "tcpSocket",
                                       "terminationGracePeriodSeconds",
                                       "timeoutSeconds"};
constexpr std::string_view kProbes[] = {"livenessProbe", "readinessProbe", "startupProbe"};
constexpr std::string_view kHttpGet[] = {"host", "httpHeaders", "path", "port", "scheme"};
constexpr std::string_view kTcpSocket[] = {"host", "port"};
constexpr std::string_view kGrpc[] = {"port", "service"};
constexpr std::string_view kLifecycle[] = {"postStart", "preStop", "stopSignal"};
constexpr std::string_view kHandler[] = {"exec", "httpGet", "sleep", "tcpSocket"};
constexpr std::string_view kResources[] = {"claims", "limits", "requests"};
constexpr std::string_view kRestartPolicies[] = {"Always", "Never", "OnFailure"};
constexpr std::string_view kIstioProxy = "istio-proxy";

class ContainerReader {
 public:
  ContainerReader(Report& report, Pod& pod) : report_(report), pod_(pod) {}

  // kubelet probes what runs as long as the pod does: containers, and init containers that restart always.
  void read(const Path& path, const Node& item, bool is_init) {
    Fields container(report_, path, &item, kContainer);
    if (!container.usable()) return;
    auto name = read_text(report_, path / "name", container["name"]);
    if (name == kIstioProxy) pod_.istio_proxy = true;
    first_port_ = pod_.ports.size();
    read_ports(path / "ports", container["ports"]);
    auto restart = read_choice(report_, path / "restartPolicy", container["restartPolicy"], kRestartPolicies);
    bool probed = !is_init || (restart && kRestartPolicies[*restart] == "Always");
    for (std::string_view probe : kProbes) {
      Path at = path / probe;
      read_probe(at, container[probe], probed);
    }
    Path lifecycle = path / "lifecycle";
    read_lifecycle(lifecycle, container["lifecycle"], probed);
    Path resources = path / "resources";
    qos_.add(read_resources(resources, container["resources"]));
  }

  // What the pod as a whole requests and is limited to stands above what its containers do.
  void read_pod_resources(const Path& path, const Node* node) {
    if (node == nullptr) return;
    ContainerResources whole = read_resources(path, node);
    if (!whole.any()) return;
    qos_ = QosSum{};
    qos_.add(whole);
  }

  void finish() {
    pod_.qos = qos_.result();
    std::ranges::sort(pod_.probe_ports);
    auto twice = std::ranges::unique(pod_.probe_ports);
    pod_.probe_ports.erase(twice.begin(), twice.end());
  }

 private:
  void read_ports(const Path& path, const Node* node) {
    for_each_item(report_, path, node, [&](const Path& at, const Node& item) {
      Fields fields(report_, at, &item, kContainerPort);
      auto port = read_port(report_, at / "containerPort", fields.require("containerPort", "containerPort: <number>"));
      auto protocol = read_protocol(report_, at / "protocol", fields["protocol"]);
      auto name = read_checked(report_, at / "name", fields["name"], check_port_name);
      if (port && protocol) pod_.ports.push_back({name.value_or(""), *port, *protocol});
    });
  }

  void read_probe(const Path& path, const Node* node, bool probed) {
    Fields probe(report_, path, node, kProbe);
    if (!probe.usable()) return;
    read_asked(path / "httpGet", probe["httpGet"], kHttpGet, probed);
    read_asked(path / "tcpSocket", probe["tcpSocket"], kTcpSocket, probed);
    read_asked(path / "grpc", probe["grpc"], kGrpc, probed);
  }

  // Hooks that ask over HTTP come from kubelet as probes do.
  void read_lifecycle(const Path& path, const Node* node, bool probed) {
    Fields lifecycle(report_, path, node, kLifecycle);
    if (!lifecycle.usable()) return;
    for (std::string_view name : {kLifecycle[0], kLifecycle[1]}) {
      Path at = path / name;
      Fields hook(report_, at, lifecycle[name], kHandler);
      if (hook.usable()) read_asked(at / "httpGet", hook["httpGet"], kHttpGet, probed);
    }
  }

  void read_asked(const Path& path, const Node* node, NameList known, bool probed) {
    Fields fields(report_, path, node, known);
    if (!fields.usable()) return;
    auto port = read_asked_port(path / "port", fields.require("port", "port: <number, or the name of a port>"));
    bool elsewhere = false;  // a host of its own means another machine; in the host's network it mostly is 127.0.0.1
    if (known.data() != kGrpc) {
      auto host = read_text(report_, path / "host", fields["host"]);
      elsewhere = host && !host->empty() && !pod_.host_network;
    }
    if (port && probed && !elsewhere) pod_.probe_ports.push_back(*port);
  }

  std::optional<std::uint16_t> read_asked_port(const Path& path, const Node* node) {
    bool is_name = node != nullptr && node->type == Node::Type::kScalar && type_of(*node) == ScalarType::kString &&
                   node->text.find_first_not_of("0123456789") != std::string_view::npos;
    if (!is_name) return read_port(report_, path, node);
    for (std::size_t i = first_port_; i < pod_.ports.size(); ++i)
      if (pod_.ports[i].name == node->text) return pod_.ports[i].port;
    report_.error(node->at, "{}: the container has no port named {}; write the number, or name one of its ports so",
                  path, Quoted{node->text});
    return std::nullopt;
  }

  ContainerResources read_resources(const Path& path, const Node* node) {
    ContainerResources result;
    Fields fields(report_, path, node, kResources);
    if (!fields.usable()) return result;
    Path requests = path / "requests", limits = path / "limits";
    result.cpu_request = read_quantity(requests / "cpu", fields["requests"], "cpu");
    result.memory_request = read_quantity(requests / "memory", fields["requests"], "memory");
    result.cpu_limit = read_quantity(limits / "cpu", fields["limits"], "cpu");
    result.memory_limit = read_quantity(limits / "memory", fields["limits"], "memory");
    return result;
  }

  double read_quantity(const Path& path, const Node* list, std::string_view name) {
    const Node* node = peek(list, name);
    if (is_null(node) || node->type == Node::Type::kBroken) return 0;
    auto value = node->type == Node::Type::kScalar ? parse_quantity(node->text) : std::nullopt;
    if (!value)
      report_.error(node->at, "{}: this must be a quantity, not {}; write one such as 500m or 64Mi", path,
                    describe(*node));
    return value.value_or(0);
  }

  Report& report_;
  Pod& pod_;
  QosSum qos_;
  std::size_t first_port_ = 0;  // of the container being read
};

}  // namespace

void read_containers(Report& report, const Path& path, const Fields& spec, Pod& pod) {
  ContainerReader reader(report, pod);
  for_each_item(report, path / "containers", spec["containers"],
                [&](const Path& at, const Node& item) { reader.read(at, item, false); });
  for_each_item(report, path / "initContainers", spec["initContainers"],
                [&](const Path& at, const Node& item) { reader.read(at, item, true); });
  Path resources = path / "resources";
  reader.read_pod_resources(resources, spec["resources"]);
  reader.finish();
}

}  // namespace casa::policy

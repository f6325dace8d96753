#include "compile/pod_baseline.h"

#include <algorithm>
#include <array>
#include <utility>
#include <vector>

#include "compile/dns_names.h"

namespace casa::compile {
namespace {

constexpr auto kTcp = static_cast<std::uint8_t>(policy::Protocol::kTcp);
// Istio's own ports: of istiod, and where its proxy takes what was sent to the Pod.
constexpr std::array<std::uint16_t, 3> kIstiodPorts{15010, 15012, 15014};
constexpr std::uint16_t kIstioInbound = 15006;
// What Istio's rules let by: a call of these arrives where it was sent, so who may make it has nothing to do with the port above.
constexpr std::array<std::uint16_t, 4> kIstioDirect{15008, 15020, 15021, 15090};

void allow(Compiled& out, std::uint32_t subject, std::uint32_t peer, casa_direction direction, std::uint16_t port,
           casa_reason reason) {
  out.image.policy.try_emplace({subject, peer, direction, kTcp, port}, CASA_POLICY_PAYLOAD(reason, 0));
}

void add_control_plane(const identity::Snapshot& snapshot, const identity::Workload& w, Compiled& out) {
  auto istiod = snapshot.services.find(identity::kIstiod);
  if (istiod == snapshot.services.end()) return;
  const identity::ServiceInfo& service = istiod->second;
  need_service(out.image, snapshot.dns, w.identity, w.name.ns, service);
  for (const auto& port : service.ports) {
    if (std::ranges::find(kIstiodPorts, port.port) == kIstiodPorts.end()) continue;
    allow(out, w.identity, service.identity, CASA_EGRESS, port.port, CASA_REASON_BASELINE_ISTIO);
    for (const auto& backend : port.backends)
      allow(out, w.identity, backend.identity, CASA_EGRESS, backend.port, CASA_REASON_BASELINE_ISTIO);
  }
}

// What arrives at the proxy's port has lost the port that was called: who may call some port of the workload gets as far as the proxy.
void add_redirected(const identity::Workload& w, Compiled& out) {
  std::vector<std::pair<PolicyKey, PolicyKey>> found;  // the proxy's row, and the one that it stands for
  for (auto it = out.image.policy.lower_bound({w.identity, 0, CASA_EGRESS, 0, 0});
       it != out.image.policy.end() && it->first.subject == w.identity; ++it) {
    PolicyKey key = it->first;
    if (key.direction != CASA_INGRESS || key.protocol != kTcp) continue;
    if (std::ranges::find(kIstioDirect, key.port) != kIstioDirect.end()) continue;
    key.port = kIstioInbound;
    found.emplace_back(key, it->first);
  }
  for (const auto& [key, of] : found) {
    if (!out.image.policy.try_emplace(key, out.image.policy.at(of)).second) continue;
    if (auto source = out.sources.find(of); source != out.sources.end()) out.sources.emplace(key, source->second);
  }
}

}  // namespace

void add_pod_baseline(const identity::Snapshot& snapshot, const identity::Workload& w, Compiled& out) {
  for (auto port : w.probe_ports) allow(out, w.identity, CASA_ID_HOST, CASA_INGRESS, port, CASA_REASON_BASELINE_PROBE);
  if (!w.istio_proxy) return;
  add_control_plane(snapshot, w, out);
  add_redirected(w, out);
}

}  // namespace casa::compile

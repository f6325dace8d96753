// The tables of wanted.h: they follow what the readers of the kinds look up, and name no field that none of them does.
#include "policy/wanted.h"

#include <algorithm>

namespace casa::policy {
namespace {

constexpr Wanted kAnnotations[] = {
    {"casa.io/enforcement", {}}, {"kubernetes.io/config.mirror", {}}, {"kubernetes.io/config.hash", {}}};
constexpr Wanted kOwner[] = {{"kind", {}}, {"name", {}}, {"controller", {}}};
constexpr Wanted kMeta[] = {{"name", {}},
                            {"namespace", {}},
                            {"uid", {}},
                            {"deletionTimestamp", {}},
                            {"labels", {}},
                            {"annotations", kAnnotations},
                            {"ownerReferences", kOwner}};
constexpr Wanted kMetaOnly[] = {{"metadata", kMeta}};
constexpr Wanted kCustom[] = {{"metadata", kMeta}, {"spec", {}}};

constexpr Wanted kContainerPort[] = {{"name", {}}, {"containerPort", {}}, {"protocol", {}}};
constexpr Wanted kAsked[] = {{"host", {}}, {"port", {}}};
constexpr Wanted kProbe[] = {{"httpGet", kAsked}, {"tcpSocket", kAsked}, {"grpc", kAsked}};
constexpr Wanted kHook[] = {{"httpGet", kAsked}};
constexpr Wanted kLifecycle[] = {{"postStart", kHook}, {"preStop", kHook}};
constexpr Wanted kContainer[] = {{"name", {}},
                                 {"ports", kContainerPort},
                                 {"restartPolicy", {}},
                                 {"livenessProbe", kProbe},
                                 {"readinessProbe", kProbe},
                                 {"startupProbe", kProbe},
                                 {"lifecycle", kLifecycle},
                                 {"resources", {}}};
constexpr Wanted kPodSpec[] = {{"nodeName", {}},
                               {"hostNetwork", {}},
                               {"containers", kContainer},
                               {"initContainers", kContainer},
                               {"resources", {}}};
constexpr Wanted kPodIp[] = {{"ip", {}}};
constexpr Wanted kCondition[] = {{"type", {}}, {"status", {}}};
constexpr Wanted kPodStatus[] = {
    {"phase", {}}, {"qosClass", {}}, {"podIP", {}}, {"podIPs", kPodIp}, {"conditions", kCondition}};
constexpr Wanted kPod[] = {{"metadata", kMeta}, {"spec", kPodSpec}, {"status", kPodStatus}};

constexpr Wanted kServiceSpec[] = {{"clusterIP", {}}, {"clusterIPs", {}}, {"externalName", {}},
                                   {"ports", {}},     {"selector", {}},   {"type", {}}};
constexpr Wanted kService[] = {{"metadata", kMeta}, {"spec", kServiceSpec}};

constexpr Wanted kEndpoint[] = {{"addresses", {}}, {"conditions", {}}, {"targetRef", {}}};
constexpr Wanted kEndpointSlice[] = {{"metadata", kMeta}, {"addressType", {}}, {"endpoints", kEndpoint}, {"ports", {}}};

constexpr Wanted kNodeSpec[] = {{"podCIDR", {}}, {"podCIDRs", {}}};
constexpr Wanted kNodeStatus[] = {{"addresses", {}}};
constexpr Wanted kNode[] = {{"metadata", kMeta}, {"spec", kNodeSpec}, {"status", kNodeStatus}};

// In the order of Kind. Of what makes Pods an API server is not asked: it has the Pods themselves.
constexpr Wanted kKinds[] = {{"CASAPolicy", kCustom},
                             {"MultiAgentSystem", kCustom},
                             {"Namespace", kMetaOnly},
                             {"Pod", kPod},
                             {"Service", kService},
                             {"EndpointSlice", kEndpointSlice},
                             {"Node", kNode},
                             {"Deployment", kCustom},
                             {"StatefulSet", kCustom}};
static_assert(std::size(kKinds) == std::variant_size_v<Object>);

}  // namespace

const Wanted* Wanted::find(std::string_view field) const {
  auto found = std::ranges::find(below, field, &Wanted::name);
  return found == below.end() ? nullptr : &*found;
}

const Wanted& wanted_of(Kind kind) { return kKinds[static_cast<std::size_t>(kind)]; }

}  // namespace casa::policy

// Deployment and StatefulSet, apps/v1: how their Pods are selected, and what these are like. The rest of a real object is known by name and
// ignored. Nobody here makes Pods of them: that is the cluster's business.
#include "policy/kinds.h"

namespace casa::policy {
namespace {

constexpr std::string_view kObjectFields[] = {"apiVersion", "kind", "metadata", "spec", "status"};
constexpr std::string_view kDeploymentSpec[] = {
    "minReadySeconds", "paused",  "progressDeadlineSeconds", "replicas", "revisionHistoryLimit", "selector",
    "strategy",        "template"};
constexpr std::string_view kStatefulSetSpec[] = {"minReadySeconds",
                                                 "ordinals",
                                                 "persistentVolumeClaimRetentionPolicy",
                                                 "podManagementPolicy",
                                                 "replicas",
                                                 "revisionHistoryLimit",
                                                 "selector",
                                                 "serviceName",
                                                 "template",
                                                 "updateStrategy",
                                                 "volumeClaimTemplates"};
constexpr std::string_view kSelector[] = {"matchLabels", "matchExpressions"};
constexpr std::string_view kTemplate[] = {"metadata", "spec"};
constexpr std::string_view kTemplateMeta[] = {"labels",    "annotations", "name",
                                              "namespace", "finalizers",  "creationTimestamp"};

void read_selector(Report& report, const Path& path, const Node* node, PodMaker& maker) {
  Fields fields(report, path, node, kSelector);
  if (!fields.usable()) return;
  maker.match_labels = read_labels(report, path / "matchLabels", fields["matchLabels"], Kind::kPod);
  for_each_item(report, path / "matchExpressions", fields["matchExpressions"],
                [&](const Path&, const Node&) { maker.match_expressions = true; });
}

void read_template(Report& report, const Path& path, const Node* node, PodMaker& maker) {
  Fields fields(report, path, node, kTemplate);
  if (!fields.usable()) return;
  Path at = path / "metadata";
  Fields meta(report, at, fields.require("metadata", "metadata: with the labels of the Pods"), kTemplateMeta);
  if (meta.usable()) {
    maker.pod.meta.labels = read_labels(report, at / "labels", meta["labels"], Kind::kPod);
    maker.pod.meta.annotations = read_annotations(report, at / "annotations", meta["annotations"], Kind::kPod);
  }
  read_pod_spec(report, path / "spec", fields.require("spec", "spec: with the Pods' containers"), maker.pod);
}

void read_pod_maker(Report& report, const Path& path, const Node& node, Kind kind, NameList known, PodMaker& maker) {
  Fields object(report, path, &node, kObjectFields);
  maker.meta = read_meta(report, path, object, kind);
  Path at = path / "spec";
  Fields spec(report, at, object.require("spec", "spec: with selector and template"), known);
  if (!spec.usable()) return;
  maker.pod.meta.ns = maker.meta.ns;
  read_selector(report, at / "selector",
                spec.require("selector", "selector: {matchLabels: <labels that only these Pods have>}"), maker);
  read_template(report, at / "template", spec.require("template", "template: with metadata and spec of the Pods"),
                maker);
}

}  // namespace

Deployment read_deployment(Report& report, const Path& path, const Node& node) {
  Deployment result;
  read_pod_maker(report, path, node, Kind::kDeployment, kDeploymentSpec, result);
  return result;
}

StatefulSet read_stateful_set(Report& report, const Path& path, const Node& node) {
  StatefulSet result;
  read_pod_maker(report, path, node, Kind::kStatefulSet, kStatefulSetSpec, result);
  return result;
}

}  // namespace casa::policy

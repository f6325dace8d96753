// metadata of every kind, and casad's own labels and annotations: a mistyped casa.io/ name would silently leave a workload
// without what its author asked for, so it is an error. Other people's labels and annotations are only checked by the rules
// of Kubernetes.
#include "base/text.h"
#include "policy/kinds.h"
#include "policy/names.h"

namespace casa::policy {
namespace {

constexpr std::string_view kMetaFields[] = {"name",
                                            "namespace",
                                            "labels",
                                            "annotations",
                                            "uid",
                                            "ownerReferences",
                                            "generateName",
                                            "selfLink",
                                            "resourceVersion",
                                            "generation",
                                            "creationTimestamp",
                                            "deletionTimestamp",
                                            "deletionGracePeriodSeconds",
                                            "finalizers",
                                            "managedFields",
                                            "clusterName"};
constexpr std::string_view kOwnerFields[] = {"apiVersion", "kind", "name", "uid", "controller", "blockOwnerDeletion"};
constexpr std::string_view kAnnotations[] = {"casa.io/cgroup", "casa.io/enforcement"};
constexpr std::string_view kLabels[] = {"casa.io/injection", "casa.io/enabled"};
constexpr std::string_view kOurPrefix = "casa.io/";

void check_annotation(Report& report, const Path& path, const Node& key, const Node& value, Kind kind) {
  if (key.text == "casa.io/cgroup") {
    if (kind != Kind::kPod)
      report.error(key.at, "{}: this annotation belongs to a Pod, not to a {}; write it on a Pod", path,
                   to_string(kind));
  } else if (key.text == "casa.io/enforcement") {
    if (kind != Kind::kPod && kind != Kind::kNamespace) {
      report.error(key.at, "{}: this annotation exempts a Pod or a Namespace, not a {}; write it there{}", path,
                   to_string(kind), kind == Kind::kCasaPolicy ? ", or use spec.enforcement" : "");
    } else if (value.type != Node::Type::kScalar || value.text != "disabled") {
      report.error(value.at, "{}: {} is not possible here; write disabled, or remove the annotation", path,
                   describe(value));
    }
  } else if (key.text == kLabels[0] || key.text == kLabels[1]) {
    report.error(key.at, "{}: this is a label, not an annotation; move it to metadata.labels", path);
  } else {
    report.error(key.at, "{}: unknown annotation; {}", path, Suggestion{key.text, kAnnotations, "remove it"});
  }
}

void check_label(Report& report, const Path& path, const Node& key, const Node& value) {
  std::string_view text = value.type == Node::Type::kScalar ? value.text : std::string_view{};
  if (key.text == "casa.io/injection") {
    if (text != "enabled" && text != "disabled") {
      report.error(value.at, "{}: {} is not possible here; write enabled or disabled", path, describe(value));
    }
  } else if (key.text == "casa.io/enabled") {
    if (text != "true" && text != "false") {
      report.error(value.at, "{}: {} is not possible here; write \"true\" or \"false\", in quotes", path,
                   describe(value));
    }
  } else if (key.text == kAnnotations[0] || key.text == kAnnotations[1]) {
    report.error(key.at, "{}: this is an annotation, not a label; move it to metadata.annotations", path);
  } else if (auto near = nearest_name(key.text, kLabels); !near.empty()) {
    // Others' casa.io/ labels (the operator's casa.io/mas-name) are none of our business.
    report.error(key.at, "{}: unknown label; did you mean {}?", path, near);
  }
}

std::map<std::string, std::string> read_named_map(Report& report, const Path& path, const Node* node, Kind kind,
                                                  bool labels) {
  auto result = read_text_map(report, path, node);
  if (node == nullptr || node->type != Node::Type::kMapping) return result;
  for (const Node* key = node->first; key != nullptr && key->next != nullptr; key = key->next->next) {
    if (key->type != Node::Type::kScalar || key->is_duplicate_key() || is_merge_key(*key)) continue;
    const Node& value = *key->next;
    Path at = path / key->text;
    if (std::string bad = check_key(key->text); !bad.empty()) {
      report.error(key->at, "{}: {}", path, bad);
      continue;
    }
    if (labels && value.type == Node::Type::kScalar && type_of(value) == ScalarType::kString) {
      if (std::string bad = check_label_value(value.text); !bad.empty()) report.error(value.at, "{}: {}", at, bad);
    }
    if (!key->text.starts_with(kOurPrefix)) continue;
    if (labels) {
      check_label(report, at, *key, value);
    } else {
      check_annotation(report, at, *key, value, kind);
    }
  }
  return result;
}

// One owner at most is the controller. Where none is said to be, a file's owners are meant to be.
void read_owners(Report& report, const Path& path, const Node* node, Meta& meta) {
  bool said = false;
  std::vector<std::size_t> unsaid;
  for_each_item(report, path, node, [&](const Path& at, const Node& item) {
    Fields owner(report, at, &item, kOwnerFields);
    auto kind = read_text(report, at / "kind", owner.require("kind", "kind: <the owner's kind>"));
    auto name = read_text(report, at / "name", owner.require("name", "name: <the owner's name>"));
    const Node* controller = owner["controller"];
    bool is_controller = read_bool(report, at / "controller", controller).value_or(false);
    if (is_controller && said) {
      report.error(controller->at, "{}: another owner is the controller already; write false for one of the two",
                   at / "controller");
    }
    said = said || is_controller;
    if (!kind || !name) return;
    if (controller == nullptr) unsaid.push_back(meta.owners.size());
    meta.owners.push_back({std::move(*kind), std::move(*name), controller == nullptr || is_controller});
  });
  if (!said) return;
  for (std::size_t index : unsaid) meta.owners[index].controller = false;
}

std::string read_name(Report& report, const Path& path, Fields& fields, Kind kind) {
  const Node* node = fields.require("name", "name: <the object's name>");
  std::optional<std::string> name;
  switch (kind) {
    case Kind::kNamespace: name = read_checked(report, path, node, check_label_name); break;
    case Kind::kService: name = read_checked(report, path, node, check_service_name); break;
    default: name = read_checked(report, path, node, check_subdomain); break;
  }
  return name.value_or("");
}

}  // namespace

std::map<std::string, std::string> read_labels(Report& report, const Path& path, const Node* node, Kind kind) {
  return read_named_map(report, path, node, kind, true);
}

std::map<std::string, std::string> read_annotations(Report& report, const Path& path, const Node* node, Kind kind) {
  return read_named_map(report, path, node, kind, false);
}

Meta read_meta(Report& report, const Path& path, const Fields& object, Kind kind) {
  Meta meta;
  meta.where = report.where(object.at());
  Report::Forgiving forgiving(report);
  Path at = path / "metadata";
  const Node* node = object["metadata"];
  if (node == nullptr) {
    report.error(object.at(), "{}: the field is missing; write metadata: {{name: <the object's name>}}", at);
    return meta;
  }
  Fields fields(report, at, node, kMetaFields);
  meta.name = read_name(report, at / "name", fields, kind);
  const Node* ns = fields["namespace"];
  if (kind == Kind::kNamespace || kind == Kind::kNode) {
    if (ns != nullptr)
      report.error(ns->at, "{}: a {} is in no namespace; remove the field", at / "namespace", to_string(kind));
  } else if (ns != nullptr && !(ns->type == Node::Type::kScalar && ns->text.empty())) {
    meta.ns = read_checked(report, at / "namespace", ns, check_label_name).value_or("");
  } else {
    meta.ns = "default";
  }
  meta.uid = read_text(report, at / "uid", fields["uid"]).value_or("");
  meta.labels = read_named_map(report, at / "labels", fields["labels"], kind, true);
  meta.annotations = read_named_map(report, at / "annotations", fields["annotations"], kind, false);
  read_owners(report, at / "ownerReferences", fields["ownerReferences"], meta);
  return meta;
}

}  // namespace casa::policy

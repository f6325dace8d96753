// From bytes to objects: checks the text, reads it into trees, and gives each object's mapping to its kind's reader. Decides
// what becomes of an object with errors: a CASAPolicy's identity is kept, so that its workload can be denied everything;
// other kinds are dropped. Keeps no state between two files.
#include "policy/parse.h"

#include <array>
#include <map>

#include "base/text.h"
#include "policy/kinds.h"
#include "policy/readers.h"

namespace casa::policy {
namespace {

struct KindRow {
  std::string_view name, api_version;
};
constexpr std::array<KindRow, 9> kKinds{{{"CASAPolicy", "casa.io/v1alpha1"},
                                         {"MultiAgentSystem", "casa.io/v1alpha1"},
                                         {"Namespace", "v1"},
                                         {"Pod", "v1"},
                                         {"Service", "v1"},
                                         {"EndpointSlice", "discovery.k8s.io/v1"},
                                         {"Node", "v1"},
                                         {"Deployment", "apps/v1"},
                                         {"StatefulSet", "apps/v1"}}};
constexpr std::array<std::string_view, 10> kKindNames{
    "CASAPolicy", "MultiAgentSystem", "Namespace",   "Pod", "Service", "EndpointSlice",
    "Node",       "Deployment",       "StatefulSet", "List"};
constexpr std::string_view kListFields[] = {"apiVersion", "kind", "metadata", "items"};

Object read_object(Report& report, const Path& path, const Node& node, Kind kind) {
  switch (kind) {
    case Kind::kCasaPolicy: return read_casa_policy(report, path, node);
    case Kind::kMultiAgentSystem: return read_multi_agent_system(report, path, node);
    case Kind::kNamespace: return read_namespace(report, path, node);
    case Kind::kPod: return read_pod(report, path, node);
    case Kind::kService: return read_service(report, path, node);
    case Kind::kEndpointSlice: return read_endpoint_slice(report, path, node);
    case Kind::kNode: return read_cluster_node(report, path, node);
    case Kind::kDeployment: return read_deployment(report, path, node);
    case Kind::kStatefulSet: break;
  }
  return read_stateful_set(report, path, node);
}

// Also a mistyped CASAPolicy is one: its workload must not run without a policy because of a letter.
bool is_meant_as_policy(const Node& node) {
  std::string_view kind = peek_text(&node, "kind");
  return kind == "CASAPolicy" ||
         (peek_text(&node, "apiVersion").starts_with("casa.io/") && nearest_name(kind, kKindNames) == "CASAPolicy");
}

class FileParser {
 public:
  FileParser(Report& report, ParseResult& result) : report_(report), result_(result) {}

  void add_document(const Node* root) {
    if (root == nullptr) return;
    if (is_null(root)) return report_tag(*root, report_);
    Path path;
    if (root->type != Node::Type::kSequence) return add_object(path, *root, true);
    report_tag(*root, report_);
    add_items(path, *root);
  }

  // Its server has checked that it is one object of that kind.
  void add_api_object(const Node& node, Kind kind) {
    if (node.type != Node::Type::kMapping)
      return report_.error(node.at, "an object is expected here, not {}", describe(node));
    bool ours = kind == Kind::kCasaPolicy || kind == Kind::kMultiAgentSystem;
    std::optional<Report::Forgiving> forgiving;
    if (!ours) forgiving.emplace(report_);
    Object object = read_object(report_, {}, node, kind);
    forgiving.reset();
    if (meta_of(object).name.empty())
      report_.error(node.at, "metadata.name: the object has no name that casad can read");
    if (report_.object_errors() == 0) {
      result_.objects.push_back(std::move(object));
    } else if (kind == Kind::kCasaPolicy) {
      add_invalid(node, report_.first_error());
    }
  }

  void add_invalid(const Node& node, std::string message) {
    const Node* metadata = peek(&node, "metadata");
    std::string ns(peek_text(metadata, "namespace"));
    ObjectKey key{Kind::kCasaPolicy, ns.empty() ? "default" : ns, std::string(peek_text(metadata, "name"))};
    std::string target(peek_text(peek(peek(&node, "spec"), "targetRef"), "name"));
    result_.invalid.push_back({std::move(key), std::move(target), std::move(message)});
  }

 private:
  void add_items(const Path& path, const Node& list) {
    for_each_item(report_, path, &list, [&](const Path& at, const Node& item) { add_object(at, item, false); });
  }

  void add_object(const Path& path, const Node& node, bool list_allowed) {
    report_.begin_object();
    if (list_allowed && peek_text(&node, "kind") == "List") return add_list(path, node);
    report_faults(node, report_);
    if (node.type != Node::Type::kMapping) {
      if (node.type != Node::Type::kBroken) {
        report_.error(node.at, "{}{}an object is expected here, not {}; write apiVersion, kind, metadata and spec",
                      path, list_allowed ? "" : ": ", describe(node));
      }
      return;
    }
    auto kind = read_kind(path, node);
    if (!kind) {
      if (is_meant_as_policy(node)) add_invalid(node, report_.first_error());
      return;
    }
    Object object = read_object(report_, path, node, *kind);
    check_duplicate(object, node.at);
    if (report_.object_errors() == 0) {
      result_.objects.push_back(std::move(object));
    } else if (*kind == Kind::kCasaPolicy) {
      add_invalid(node, report_.first_error());
    }
  }

  void add_list(const Path& path, const Node& node) {
    Fields fields(report_, path, &node, kListFields);
    const Node* items = fields["items"];
    report_faults(node, report_, items);
    auto version = read_text(report_, path / "apiVersion", fields.require("apiVersion", "apiVersion: v1"));
    if (version && *version != "v1") {
      report_.error(fields["apiVersion"]->at, "{}: a List has not the version {}; write v1", path / "apiVersion",
                    Quoted{*version});
    }
    if (items != nullptr) add_items(path / "items", *items);
  }

  std::optional<Kind> read_kind(const Path& path, const Node& node) {
    const Node* kind = peek(&node, "kind");
    const Node* version = peek(&node, "apiVersion");
    if (is_null(kind))
      report_.error(node.at, "{}: the field is missing; write kind: CASAPolicy, or another that casad reads",
                    path / "kind");
    if (is_null(version)) {
      report_.error(node.at, "{}: the field is missing; write apiVersion: {}", path / "apiVersion",
                    version_of(peek_text(&node, "kind")));
    }
    if (is_null(kind) || is_null(version)) return std::nullopt;
    auto kind_text = read_text(report_, path / "kind", kind);
    auto version_text = read_text(report_, path / "apiVersion", version);
    if (!kind_text || !version_text) return std::nullopt;
    for (std::size_t i = 0; i < kKinds.size(); ++i) {
      if (kKinds[i].name != *kind_text) continue;
      if (kKinds[i].api_version == *version_text) return static_cast<Kind>(i);
      report_.error(version->at, "{}: {} is not a version of {} that casad knows; write {}", path / "apiVersion",
                    Quoted{*version_text}, kKinds[i].name, kKinds[i].api_version);
      return std::nullopt;
    }
    if (*kind_text == "List") {
      report_.error(kind->at, "{}: a List inside a list is not possible; put its items into the outer list",
                    path / "kind");
      return std::nullopt;
    }
    report_.error(kind->at, "{}: casad does not read objects of kind {}; {}", path / "kind", Quoted{*kind_text},
                  Suggestion{*kind_text, kKindNames, "remove the object"});
    if (version_text->starts_with("casa.io/") && *version_text != kKinds[0].api_version) {
      report_.error(version->at, "{}: {} is not a version that casad knows; write {}", path / "apiVersion",
                    Quoted{*version_text}, kKinds[0].api_version);
    }
    return std::nullopt;
  }

  static std::string_view version_of(std::string_view kind) {
    for (const auto& row : kKinds) {
      if (row.name == kind) return row.api_version;
    }
    return kind == "List" ? "v1" : "casa.io/v1alpha1";
  }

  void check_duplicate(const Object& object, Position at) {
    ObjectKey key = key_of(object);
    if (key.name.empty()) return;
    auto [first, is_new] = seen_.emplace(key, at);
    if (is_new) return;
    report_.error(at, "{} is already defined at line {}; remove one of the two, or give it another name",
                  to_string(key), first->second.line);
  }

  Report& report_;
  ParseResult& result_;
  std::map<ObjectKey, Position> seen_;
};

// The text breaks off or is no text: nothing in it can be trusted. Its policies are named all the same, so that a caller
// without a last good state can deny.
void distrust(ParseResult& result, FileParser& parser, const Node* partial, const std::string& message) {
  result.syntax_ok = false;
  for (const auto& object : result.objects) {
    if (const auto* policy = std::get_if<CasaPolicy>(&object)) {
      result.invalid.push_back({key_of(object), policy->target_name, message});
    }
  }
  result.objects.clear();
  if (partial != nullptr && partial->type == Node::Type::kMapping && is_meant_as_policy(*partial))
    parser.add_invalid(*partial, message);
}

}  // namespace

bool ParseResult::ok() const {
  for (const auto& d : diagnostics) {
    if (d.severity == Diagnostic::Severity::kError) return false;
  }
  return true;
}

std::optional<Kind> kind_of(std::string_view name) {
  for (std::size_t i = 0; i < kKinds.size(); ++i)
    if (kKinds[i].name == name) return static_cast<Kind>(i);
  return std::nullopt;
}

ParseResult parse_api_object(std::string_view origin, std::string_view bytes, Kind kind) {
  ParseResult result;
  Report report(origin, Report::About::kApiObject);
  TreeBuilder builder(report);
  FileParser parser(report, result);
  bool read = read_api_json(bytes, wanted_of(kind), builder, report,
                            [&](const Node* root) { parser.add_api_object(*root, kind); });
  if (!read) distrust(result, parser, nullptr, report.first_error());
  report.finish(result);
  return result;
}

Syntax syntax_of(std::string_view path) { return path.ends_with(".json") ? Syntax::kJson : Syntax::kYaml; }

ParseResult parse_text(std::string_view file, std::string_view bytes, Syntax syntax) {
  ParseResult result;
  Report report(file);
  if (bytes.size() > kMaxFileBytes) {
    report.error({}, "the file is larger than {} MiB; split it into several", kMaxFileBytes >> 20);
    result.syntax_ok = false;
    report.finish(result);
    return result;
  }
  SourceText source(bytes);
  if (source.problem()) {
    report.error(source.problem()->at, "{}", source.problem()->message);
    result.syntax_ok = false;
    report.finish(result);
    return result;
  }
  TreeBuilder builder(report);
  FileParser parser(report, result);
  auto on_document = [&](const Node* root) {
    parser.add_document(root);
    report.begin_object();  // what follows belongs to the text, or to the next object
  };
  auto read = syntax == Syntax::kJson ? read_json : read_yaml;
  if (!read(source, builder, report, on_document)) {
    distrust(result, parser, builder.root(), report.first_error());
  }
  report.finish(result);
  return result;
}

}  // namespace casa::policy

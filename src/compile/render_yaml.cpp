#include "compile/render_yaml.h"

#include <algorithm>

#include "base/json.h"

namespace casa::compile {

std::string quoted(std::string_view text) {
  std::string out;
  append_json_string(out, text);
  return out;
}

const char* to_string(policy::Protocol protocol) { return protocol == policy::Protocol::kTcp ? "TCP" : "UDP"; }

void YamlText::begin_object(std::string_view api_version, std::string_view kind, const Subject& subject) {
  line(0, "---");
  // Quoted: some of these names are texts that nobody checked.
  for (const auto& because : subject.because) line(0, "# {}", quoted(because));
  line(0, "apiVersion: {}", api_version);
  line(0, "kind: {}", kind);
  line(0, "metadata:");
  line(1, "name: {}", quoted(subject.name));
  line(1, "namespace: {}", quoted(subject.ns));
  line(1, "labels:");
  line(2, "app.kubernetes.io/managed-by: casad");
  line(0, "spec:");
}

void YamlText::labels(unsigned depth, std::string_view key, std::string_view prefix, const Labels& labels) {
  if (labels.empty()) return line(depth, "{}: {{}}", key);
  line(depth, "{}:", key);
  line(depth + 1, "matchLabels:");
  for (const auto& [name, value] : labels)
    line(depth + 2, "{}: {}", quoted(fmt::format("{}{}", prefix, name)), quoted(value));
}

bool Rendered::ok() const {
  return std::ranges::none_of(notes,
                              [](const auto& note) { return note.severity == policy::Diagnostic::Severity::kError; });
}

Rendered finish(Plan plan, std::string yaml) {
  Rendered out{std::move(yaml), std::move(plan.notes)};
  if (!out.ok()) out.yaml.clear();
  return out;
}

}  // namespace casa::compile

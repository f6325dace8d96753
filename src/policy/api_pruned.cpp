#include "policy/api_pruned.h"

#include <simdjson.h>

namespace casa::policy {
namespace {

using simdjson::dom::array;
using simdjson::dom::element;
using simdjson::dom::object;
using simdjson::dom::parser;

constexpr const char* kLastApplied = "kubectl.kubernetes.io/last-applied-configuration";
constexpr std::size_t kMaxFields = 20;
constexpr unsigned kMaxLevels = 16;

void compare(const element& written, const element& kept, const std::string& path, unsigned levels,
             std::vector<std::string>& pruned) {
  if (levels == 0 || pruned.size() >= kMaxFields) return;
  object fields, kept_fields;
  if (written.get(fields) == simdjson::SUCCESS && kept.get(kept_fields) == simdjson::SUCCESS) {
    for (auto [key, value] : fields) {
      std::string at = path + "." + std::string(key);
      element other;
      if (kept_fields.at_key(key).get(other) == simdjson::SUCCESS) compare(value, other, at, levels - 1, pruned);
      else if (!value.is_null()) pruned.push_back(std::move(at));
    }
    return;
  }
  array items, kept_items;
  if (written.get(items) != simdjson::SUCCESS || kept.get(kept_items) != simdjson::SUCCESS) return;
  if (items.size() != kept_items.size()) return;  // somebody changed the list since
  for (std::size_t i = 0; i < items.size(); ++i)
    compare(items.at(i), kept_items.at(i), path + "[" + std::to_string(i) + "]", levels - 1, pruned);
}

}  // namespace

std::vector<std::string> pruned_fields(std::string_view bytes) {
  std::vector<std::string> pruned;
  if (bytes.find(kLastApplied) == std::string_view::npos) return pruned;
  parser outer, inner;
  element root, written, spec, written_spec;
  std::string_view text;
  if (outer.parse(bytes.data(), bytes.size()).get(root) != simdjson::SUCCESS ||
      root["metadata"]["annotations"][kLastApplied].get(text) != simdjson::SUCCESS ||
      inner.parse(text.data(), text.size()).get(written) != simdjson::SUCCESS ||
      root["spec"].get(spec) != simdjson::SUCCESS || written["spec"].get(written_spec) != simdjson::SUCCESS)
    return pruned;
  compare(written_spec, spec, "spec", kMaxLevels, pruned);
  return pruned;
}

}  // namespace casa::policy

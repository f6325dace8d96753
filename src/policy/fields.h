// Reading the fields of one mapping, strictly: unknown names, wrong types and missing values are reported with what to
// write instead. Every read_ function takes null for an absent value and then says nothing; whoever needs the value uses
// Fields::require, which does.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "policy/report.h"
#include "policy/tree.h"

namespace casa::policy {

using NameList = std::span<const std::string_view>;

class Fields {
 public:
  // Reports a value that is no mapping, and every key that is not in `known`.
  Fields(Report& report, const Path& path, const Node* node, NameList known);
  Fields(Report&, Path&&, const Node*, NameList) = delete;  // the path must outlive this

  // A field's value; null when it is absent or null.
  [[nodiscard]] const Node* operator[](std::string_view name) const;
  // The same, and reports when it is missing. `advice` is what to write.
  const Node* require(std::string_view name, std::string_view advice);
  [[nodiscard]] bool usable() const { return node_ != nullptr; }  // there, and a mapping
  [[nodiscard]] Position at() const { return node_ == nullptr ? Position{} : node_->at; }

 private:
  Report& report_;
  const Path& path_;
  const Node* node_ = nullptr;
  NameList known_;
  std::vector<const Node*> values_;  // as known_
};

// "a list", "the number 443": what stands there instead of what should.
std::string describe(const Node& node);

std::optional<std::string> read_text(Report& report, const Path& path, const Node* node);
std::optional<bool> read_bool(Report& report, const Path& path, const Node* node);
std::optional<std::uint16_t> read_port(Report& report, const Path& path, const Node* node);  // 1 to 65535
std::optional<std::size_t> read_choice(Report& report, const Path& path, const Node* node,
                                       NameList choices);  // its index
std::map<std::string, std::string> read_text_map(Report& report, const Path& path, const Node* node);

// A text that passes `check` (names.h).
template <typename Check>
std::optional<std::string> read_checked(Report& report, const Path& path, const Node* node, Check check) {
  auto text = read_text(report, path, node);
  if (!text) return std::nullopt;
  if (std::string bad = check(*text); !bad.empty()) {
    report.error(node->at, "{}: {}", path, bad);
    return std::nullopt;
  }
  return text;
}

// A host name that passes `check`, in its normal form.
template <typename Check>
std::optional<std::string> read_host_name(Report& report, const Path& path, const Node* node, Check check) {
  std::string normal;
  auto text = read_checked(report, path, node, [&](std::string_view t) { return check(t, normal); });
  if (!text) return std::nullopt;
  return normal;
}

bool expect_list(Report& report, const Path& path, const Node* node);  // false and silent for null
void report_empty_item(Report& report, const Path& path, const Node& item);

// Calls `each(path, node)` for every entry that is not empty.
template <typename Each>
void for_each_item(Report& report, const Path& path, const Node* node, Each each) {
  if (!expect_list(report, path, node)) return;
  std::size_t index = 0;
  for (const Node* item = node->first; item != nullptr; item = item->next, ++index) {
    Path at = path[index];
    if (is_null(item)) {
      report_empty_item(report, at, *item);
    } else {
      each(at, *item);
    }
  }
}

}  // namespace casa::policy

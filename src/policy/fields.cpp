// See fields.h: one mapping's fields, strictly. Everything that is wrong goes to the Report, never to the caller; a reader
// that returns nothing has said why, unless the value was absent. An alias (kBroken) is silent here, as report_faults
// names it.
#include "policy/fields.h"

#include <algorithm>
#include <array>

#include "base/text.h"

namespace casa::policy {

Fields::Fields(Report& report, const Path& path, const Node* node, NameList known)
    : report_(report), path_(path), known_(known), values_(known.size(), nullptr) {
  if (is_null(node)) return;
  if (node->type != Node::Type::kMapping) {
    if (node->type != Node::Type::kBroken) {
      report.error(node->at, "{}: this must be a mapping, not {}; write its fields as \"name: value\"", path,
                   describe(*node));
    }
    return;
  }
  node_ = node;
  for (const Node* key = node->first; key != nullptr && key->next != nullptr; key = key->next->next) {
    if (key->type != Node::Type::kScalar || key->is_duplicate_key()) continue;  // reported by report_faults
    auto found = std::ranges::find(known, key->text);
    if (found != known.end()) {
      values_[static_cast<std::size_t>(found - known.begin())] = key->next;
    } else if (!is_merge_key(*key) && !report.is_forgiving()) {
      report.error(key->at, "{}: unknown field; {}", path / key->text, Suggestion{key->text, known, "remove it"});
    }
  }
}

const Node* Fields::operator[](std::string_view name) const {
  auto index = static_cast<std::size_t>(std::ranges::find(known_, name) - known_.begin());
  const Node* value = values_.at(index);
  return is_null(value) ? nullptr : value;
}

const Node* Fields::require(std::string_view name, std::string_view advice) {
  const Node* value = (*this)[name];
  if (value == nullptr && node_ != nullptr) {
    auto index = static_cast<std::size_t>(std::ranges::find(known_, name) - known_.begin());
    const Node* empty = values_.at(index);
    report_.error(empty != nullptr ? empty->at : node_->at, "{}: {}; write {}", path_ / name,
                  empty != nullptr ? "the value is empty" : "the field is missing", advice);
  }
  return value;
}

std::string describe(const Node& node) {
  switch (node.type) {
    case Node::Type::kSequence: return "a list";
    case Node::Type::kMapping: return "a mapping";
    case Node::Type::kBroken: return "an alias";
    case Node::Type::kScalar: break;
  }
  switch (type_of(node)) {
    case ScalarType::kNull: return "nothing";
    case ScalarType::kBool: return std::string(node.text);
    case ScalarType::kInt:
    case ScalarType::kFloat: return fmt::format("the number {}", Raw{node.text});
    case ScalarType::kString: break;
  }
  return fmt::format("the text {}", Quoted{node.text});
}

std::optional<std::string> read_text(Report& report, const Path& path, const Node* node) {
  if (node == nullptr || node->type == Node::Type::kBroken) return std::nullopt;
  if (node->type != Node::Type::kScalar) {
    report.error(node->at, "{}: this must be a text, not {}; write one value", path, describe(*node));
    return std::nullopt;
  }
  if (type_of(*node) == ScalarType::kString) return std::string(node->text);
  if (type_of(*node) == ScalarType::kNull) {
    report.error(node->at, "{}: the value is empty; write a text, or \"\"", path);
  } else {
    report.error(node->at, "{}: this must be a text, not {}; put it in quotes: \"{}\"", path, describe(*node),
                 Raw{node->text});
  }
  return std::nullopt;
}

namespace {

// YAML 1.1 took these for bools, and people still write them.
std::optional<bool> meant_bool(std::string_view text) {
  std::string lower;
  if (text.size() > 5) return std::nullopt;
  for (char c : text) lower += static_cast<char>(c >= 'A' && c <= 'Z' ? c - 'A' + 'a' : c);
  if (lower == "yes" || lower == "on" || lower == "y" || lower == "true" || lower == "1") return true;
  if (lower == "no" || lower == "off" || lower == "n" || lower == "false" || lower == "0") return false;
  return std::nullopt;
}

}  // namespace

std::optional<bool> read_bool(Report& report, const Path& path, const Node* node) {
  if (node == nullptr || node->type == Node::Type::kBroken) return std::nullopt;
  if (node->type == Node::Type::kScalar && type_of(*node) == ScalarType::kBool)
    return node->text[0] == 't' || node->text[0] == 'T';
  auto meant = node->type == Node::Type::kScalar ? meant_bool(node->text) : std::nullopt;
  report.error(node->at, "{}: this must be true or false, not {}; write {}", path, describe(*node),
               !meant   ? "true or false"
               : *meant ? "true, without quotes"
                        : "false, without quotes");
  return std::nullopt;
}

std::optional<std::uint16_t> read_port(Report& report, const Path& path, const Node* node) {
  if (node == nullptr || node->type == Node::Type::kBroken) return std::nullopt;
  bool scalar = node->type == Node::Type::kScalar;
  std::string_view text = scalar ? node->text : std::string_view{};
  auto number = parse_number(text, 65535);
  if (scalar && type_of(*node) != ScalarType::kInt) {
    if (type_of(*node) == ScalarType::kString && number && *number > 0) {
      report.error(node->at, "{}: this must be a number, not a text in quotes; write {} without quotes", path, *number);
      return std::nullopt;
    }
  } else if (scalar) {
    if (text.starts_with('+')) number = parse_number(text.substr(1), 65535);
    if (number && *number > 0 && (text[0] == '0' || text.starts_with("+0"))) {
      report.error(node->at, "{}: {} begins with 0, which some readers take for octal; write {}", path, Raw{text},
                   *number);
      return std::nullopt;
    }
    if (number && *number > 0) return static_cast<std::uint16_t>(*number);
  }
  report.error(node->at, "{}: this must be a port, not {}; write a whole number from 1 to 65535", path,
               describe(*node));
  return std::nullopt;
}

std::optional<std::size_t> read_choice(Report& report, const Path& path, const Node* node, NameList choices) {
  if (node == nullptr || node->type == Node::Type::kBroken) return std::nullopt;
  std::string_view text = node->type == Node::Type::kScalar ? node->text : std::string_view{};
  bool is_text = node->type == Node::Type::kScalar && type_of(*node) == ScalarType::kString;
  auto found = std::ranges::find(choices, text);
  if (is_text && found != choices.end()) return static_cast<std::size_t>(found - choices.begin());
  report.error(node->at, "{}: {} is not possible here; {}", path, describe(*node), Suggestion{text, choices, ""});
  return std::nullopt;
}

std::map<std::string, std::string> read_text_map(Report& report, const Path& path, const Node* node) {
  std::map<std::string, std::string> result;
  if (is_null(node) || node->type == Node::Type::kBroken) return result;
  if (node->type != Node::Type::kMapping) {
    report.error(node->at, "{}: this must be a mapping, not {}; write its entries as \"name: value\"", path,
                 describe(*node));
    return result;
  }
  for (const Node* key = node->first; key != nullptr && key->next != nullptr; key = key->next->next) {
    if (key->type != Node::Type::kScalar || key->is_duplicate_key() || is_merge_key(*key)) continue;
    if (auto text = read_text(report, path / key->text, key->next)) result.emplace(key->text, std::move(*text));
  }
  return result;
}

bool expect_list(Report& report, const Path& path, const Node* node) {
  if (is_null(node) || node->type == Node::Type::kBroken) return false;
  if (node->type == Node::Type::kSequence) return true;
  report.error(node->at, "{}: this must be a list, not {}; write each entry after \"- \", or all in [ ]", path,
               describe(*node));
  return false;
}

void report_empty_item(Report& report, const Path& path, const Node& item) {
  report.error(item.at, "{}: the entry is empty; write its value, or remove it", path);
}

}  // namespace casa::policy

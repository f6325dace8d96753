// See tree.h. Building never validates but for the two limits, so that a tree can be built of any text that parses;
// report_faults then says what is wrong with one object's part of it. Recursion is bounded by kMaxDepth. No input makes it
// slower than n log n.
#include "policy/tree.h"

#include <algorithm>
#include <cstring>

namespace casa::policy {
namespace {

bool is_digit(char c) { return c >= '0' && c <= '9'; }

bool all_of_class(std::string_view text, const char* set) {
  return !text.empty() && text.find_first_not_of(set) == std::string_view::npos;
}

bool is_float(std::string_view t) {
  if (t == ".nan" || t == ".NaN" || t == ".NAN") return true;
  if (!t.empty() && (t[0] == '+' || t[0] == '-')) t.remove_prefix(1);
  if (t == ".inf" || t == ".Inf" || t == ".INF") return true;
  std::size_t i = 0, digits = 0;
  while (i < t.size() && is_digit(t[i])) ++i, ++digits;
  if (i < t.size() && t[i] == '.') {
    ++i;
    while (i < t.size() && is_digit(t[i])) ++i, ++digits;
  }
  if (digits == 0) return false;
  if (i < t.size() && (t[i] == 'e' || t[i] == 'E')) {
    ++i;
    if (i < t.size() && (t[i] == '+' || t[i] == '-')) ++i;
    return all_of_class(t.substr(i), "0123456789");
  }
  return i == t.size();
}

bool is_int(std::string_view t) {
  if (t.starts_with("0x")) return all_of_class(t.substr(2), "0123456789abcdefABCDEF");
  if (t.starts_with("0o")) return all_of_class(t.substr(2), "01234567");
  if (!t.empty() && (t[0] == '+' || t[0] == '-')) t.remove_prefix(1);
  return all_of_class(t, "0123456789");
}

}  // namespace

ScalarType type_of(const Node& scalar) {
  if (!scalar.plain) return ScalarType::kString;
  std::string_view t = scalar.text;
  if (t.empty() || t == "~" || t == "null" || t == "Null" || t == "NULL") return ScalarType::kNull;
  if (t == "true" || t == "True" || t == "TRUE" || t == "false" || t == "False" || t == "FALSE")
    return ScalarType::kBool;
  if (!is_digit(t[0]) && t[0] != '+' && t[0] != '-' && t[0] != '.') return ScalarType::kString;
  if (is_int(t)) return ScalarType::kInt;
  return is_float(t) ? ScalarType::kFloat : ScalarType::kString;
}

namespace {

void report_key(const Node& key, Report& report) {
  if (key.type == Node::Type::kBroken) return;  // an alias, reported as such
  if (key.type != Node::Type::kScalar) {
    report.error(key.at, "a list or mapping cannot be a field's name; write \"name: value\"");
  } else if (is_merge_key(key)) {
    report.error(key.at, "merge keys (<<) are not supported; write the fields out");
  } else if (key.is_duplicate_key()) {
    report.error(key.at, "{} is already set at line {}, column {}; remove one of the two", Raw{key.text},
                 key.first->at.line, key.first->at.column);
  }
}

}  // namespace

void report_tag(const Node& node, Report& report) {
  if (node.tagged) report.error(node.at, "tags (!name) are not supported; remove it (quotes make a text of a number)");
}

void report_faults(const Node& node, Report& report, const Node* except) {
  report_tag(node, report);
  if (node.type == Node::Type::kBroken) {
    report.error(node.at, "the alias *{} is not supported; write the value out", Raw{node.text});
  }
  if (node.type == Node::Type::kScalar || node.type == Node::Type::kBroken) return;
  bool is_key = true;
  for (const Node* child = node.first; child != nullptr; child = child->next, is_key = !is_key) {
    if (node.type == Node::Type::kMapping && is_key) report_key(*child, report);
    if (child != except) report_faults(*child, report, except);
  }
}

const Node* peek(const Node* mapping, std::string_view key) {
  if (mapping == nullptr || mapping->type != Node::Type::kMapping) return nullptr;
  for (const Node* k = mapping->first; k != nullptr && k->next != nullptr; k = k->next->next) {
    if (k->type == Node::Type::kScalar && k->text == key) return k->next;  // the first, if there are two
  }
  return nullptr;
}

std::string_view peek_text(const Node* mapping, std::string_view key) {
  const Node* value = peek(mapping, key);
  return value != nullptr && value->type == Node::Type::kScalar ? value->text : std::string_view{};
}

Node* TreeBuilder::add(Node::Type type, Position at) {
  if (++nodes_ > kMaxNodes) {
    report_.error(at, "the document has more than {} values; split it into several", kMaxNodes);
    return nullptr;
  }
  Node* node = ::new (arena_.allocate(sizeof(Node), alignof(Node))) Node;
  node->type = type;
  node->at = at;
  if (open_.empty()) {
    root_ = node;
  } else {
    Open& parent = open_.back();
    (parent.last == nullptr ? parent.node->first : parent.last->next) = node;
    parent.last = node;
  }
  return node;
}

std::string_view TreeBuilder::keep(std::string_view text) {
  if (text.empty()) return {};
  auto* copy = static_cast<char*>(arena_.allocate(text.size(), 1));
  std::memcpy(copy, text.data(), text.size());
  return {copy, text.size()};
}

bool TreeBuilder::add_scalar(Position at, std::string_view text, bool plain, bool tagged) {
  Node* node = add(Node::Type::kScalar, at);
  if (node == nullptr) return false;
  node->plain = plain;
  node->tagged = tagged;
  node->text = keep(text);
  return true;
}

bool TreeBuilder::add_alias(Position at, std::string_view name) {
  Node* node = add(Node::Type::kBroken, at);
  if (node == nullptr) return false;
  node->text = keep(name);
  return true;
}

bool TreeBuilder::begin(Node::Type type, Position at, bool tagged) {
  if (open_.size() >= kMaxDepth) {
    report_.error(at, "nested deeper than {} levels, and the rest of the file is not read; remove the nesting",
                  kMaxDepth);
    return false;
  }
  Node* node = add(type, at);
  if (node == nullptr) return false;
  node->tagged = tagged;
  open_.push_back({node, nullptr});
  return true;
}

void TreeBuilder::end() {
  if (open_.back().node->type == Node::Type::kMapping) mark_duplicates(*open_.back().node);
  open_.pop_back();
}

void TreeBuilder::mark_duplicates(const Node& mapping) {
  keys_.clear();
  for (const Node* k = mapping.first; k != nullptr && k->next != nullptr; k = k->next->next) {
    if (k->type == Node::Type::kScalar) keys_.push_back(const_cast<Node*>(k));  // this builder's own
  }
  // Sorting keeps this n log n for a mapping of a million keys; equal texts stay in the order of the text.
  std::ranges::sort(keys_, [](const Node* a, const Node* b) {
    int order = a->text.compare(b->text);
    return order != 0 ? order < 0 : a->at < b->at;
  });
  const Node* original = nullptr;
  for (Node* key : keys_) {
    if (original != nullptr && original->text == key->text) {
      key->first = original;
    } else {
      original = key;
    }
  }
}

void TreeBuilder::clear() {
  open_.clear();
  root_ = nullptr;
  nodes_ = 0;
  arena_.release();
}

}  // namespace casa::policy

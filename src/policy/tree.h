// The one tree that both readers build and that validation walks: scalars, sequences, mappings, each with its place.
// Nodes live in the Tree's arena and are freed together. A mapping's children are key, value, key, value...; a text that
// broke off may end with a key without a value. Depth and count are bounded here, for every syntax.
#pragma once

#include <cstddef>
#include <memory_resource>
#include <string_view>
#include <vector>

#include "policy/report.h"
#include "policy/source_text.h"

namespace casa::policy {

struct Node {
  enum class Type : std::uint8_t { kScalar, kSequence, kMapping, kBroken };
  Type type = Type::kScalar;
  bool plain = false;   // a scalar without quotes: only such can be null, a bool or a number
  bool tagged = false;  // it had a YAML tag
  Position at;
  std::string_view text;        // of a scalar; of kBroken, the alias's name
  const Node* first = nullptr;  // child; of a key that its mapping has already, the first such key
  const Node* next = nullptr;

  [[nodiscard]] bool is_duplicate_key() const { return type == Type::kScalar && first != nullptr; }
};

inline bool is_merge_key(const Node& key) { return key.plain && key.text == "<<"; }

// What a plain scalar means by the YAML 1.2 core schema, of which JSON is a part. Quoted ones are strings.
enum class ScalarType { kNull, kBool, kInt, kFloat, kString };
ScalarType type_of(const Node& scalar);
inline bool is_null(const Node* node) {
  return node == nullptr || (node->type == Node::Type::kScalar && type_of(*node) == ScalarType::kNull);
}

// Reports what a reader let pass and no object may contain: aliases, merge keys, tags, duplicate keys, keys that are no
// names. `except` is not looked into.
void report_tag(const Node& node, Report& report);  // of this node alone
void report_faults(const Node& node, Report& report, const Node* except = nullptr);

// The value of a mapping's key, or null: for looking ahead, without any validation.
const Node* peek(const Node* mapping, std::string_view key);
// The same for a scalar's text; empty when it is no scalar.
std::string_view peek_text(const Node* mapping, std::string_view key);

// Bounds what one document may cost: 56 bytes a node.
inline constexpr std::size_t kMaxNodes = 1'000'000;

class TreeBuilder {
 public:
  explicit TreeBuilder(Report& report) : report_(report) {}
  TreeBuilder(const TreeBuilder&) = delete;
  TreeBuilder& operator=(const TreeBuilder&) = delete;

  // Each returns false, and has reported why, when a limit is reached: reading has to end then.
  bool add_scalar(Position at, std::string_view text, bool plain, bool tagged = false);
  bool add_alias(Position at, std::string_view name);  // becomes kBroken
  bool begin(Node::Type type, Position at, bool tagged = false);
  void end();

  [[nodiscard]] const Node* root() const { return root_; }  // null: nothing yet
  void clear();

 private:
  struct Open {
    Node* node;
    Node* last;  // child
  };
  Node* add(Node::Type type, Position at);
  std::string_view keep(std::string_view text);
  void mark_duplicates(const Node& mapping);

  Report& report_;
  alignas(16) std::byte first_block_[16384];
  std::pmr::monotonic_buffer_resource arena_{first_block_, sizeof first_block_};
  Node* root_ = nullptr;
  std::vector<Open> open_;
  std::vector<Node*> keys_;  // scratch
  std::size_t nodes_ = 0;
};

}  // namespace casa::policy

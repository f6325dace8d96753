// JSON by simdjson's on-demand parser, walked completely, so that everything is checked: the parser itself is lazy and
// says nothing about values that nobody asks for. Its errors come with a code, not with words: the words are here. The text
// is copied once, as simdjson needs padding behind it.
#include <simdjson.h>

#include "policy/readers.h"

namespace casa::policy {
namespace {

using namespace simdjson;

std::string_view trimmed(std::string_view token) {
  auto end = token.find_last_not_of(" \t\r\n");
  return token.substr(0, end == std::string_view::npos ? 0 : end + 1);
}

// JSON's numbers are stricter than YAML's: no sign +, no leading zero, digits on both sides of the point.
bool is_number(std::string_view t) {
  if (t.starts_with('-')) t.remove_prefix(1);
  if (t.empty() || t[0] < '0' || t[0] > '9') return false;
  if (t.size() > 1 && t[0] == '0' && t[1] >= '0' && t[1] <= '9') return false;
  if (auto point = t.find('.'); point != std::string_view::npos) {
    if (point + 1 == t.size() || t[point + 1] < '0' || t[point + 1] > '9') return false;
  }
  Node node{.plain = true, .text = t};
  ScalarType type = type_of(node);
  return (type == ScalarType::kInt || type == ScalarType::kFloat) && t.find_first_of("xo") == std::string_view::npos;
}

class JsonReader {
 public:
  // Without `places` everything stands at line 0, and what is wrong is said of the object as a whole.
  JsonReader(std::string_view text, const SourceText* places, TreeBuilder& builder, Report& report)
      : text_(text), places_(places), padded_(text), builder_(builder), report_(report) {}

  // `wanted`: of the root; null is everything.
  bool run(const Wanted* wanted) {
    if (text_.find_first_not_of(" \t\r\n") == std::string_view::npos) {
      return fail(0, "the file is empty; write one object, an array or a List (or null for nothing)");
    }
    ondemand::document document;
    if (auto e = parser_.iterate(padded_).get(document)) return fail_stage1(e);
    bool scalar = false;
    if (auto e = document.is_scalar().get(scalar)) return fail_at(text_.find_first_not_of(" \t\r\n"), e);
    if (scalar) {
      std::string_view token;
      if (auto e = document.raw_json_token().get(token)) return fail_at(0, e);
      return add_root_scalar(token);
    }
    ondemand::value root;
    if (auto e = document.get_value().get(root)) return fail_here(document, e);
    document_ = &document;
    if (!add_value(root, wanted)) return false;
    const char* rest = nullptr;
    if (document.current_location().get(rest) == SUCCESS) {
      return fail(offset_of(rest),
                  "something after the end of the value; write one value, or put several objects in [ ]");
    }
    return true;
  }

 private:
  [[nodiscard]] std::size_t offset_of(const char* p) const { return static_cast<std::size_t>(p - padded_.data()); }
  [[nodiscard]] Position at_byte(std::size_t offset) const {
    return places_ == nullptr ? Position{0, 0} : places_->at_byte(offset);
  }
  [[nodiscard]] Position position_of(const char* p) const { return at_byte(offset_of(p)); }

  bool add_root_scalar(std::string_view token) {
    std::string_view text = trimmed(token);
    if (text == "null") return builder_.add_scalar(position_of(token.data()), text, true);
    return fail(offset_of(token.data()), "not an object; write one object, an array of objects or a List");
  }

  // `wanted` is about this value; null, or with nothing below, is all of it.
  bool add_value(ondemand::value value, const Wanted* wanted) {
    std::string_view token = value.raw_json_token();
    ondemand::json_type type{};
    if (auto e = value.type().get(type)) return fail_at(offset_of(token.data()), e);
    if (type == ondemand::json_type::object) return add_object(value, position_of(token.data()), wanted);
    if (type == ondemand::json_type::array) return add_array(value, position_of(token.data()), wanted);
    return add_scalar(value, type, token);
  }

  bool add_scalar(ondemand::value& value, ondemand::json_type type, std::string_view token) {
    Position at = position_of(token.data());
    if (type == ondemand::json_type::string) {
      std::string_view text;
      if (auto e = value.get_string().get(text)) return fail_at(offset_of(token.data()), e);
      return builder_.add_scalar(at, text, false);
    }
    std::string_view text = trimmed(token);
    bool good =
        type == ondemand::json_type::number ? is_number(text) : text == "true" || text == "false" || text == "null";
    if (!good)
      return fail(offset_of(token.data()),
                  "not a JSON value; write a text in double quotes, a number, true, false or null");
    return builder_.add_scalar(at, text, true);
  }

  bool add_array(ondemand::value& value, Position at, const Wanted* wanted) {
    ondemand::array array;
    if (auto e = value.get_array().get(array)) return fail_here(*document_, e);
    if (!builder_.begin(Node::Type::kSequence, at)) return false;
    for (auto element : array) {
      ondemand::value item;
      if (auto e = element.get(item)) return fail_here(*document_, e);
      if (!add_value(item, wanted)) return false;
    }
    builder_.end();
    return true;
  }

  bool add_object(ondemand::value& value, Position at, const Wanted* wanted) {
    bool all = wanted == nullptr || wanted->below.empty();
    ondemand::object object;
    if (auto e = value.get_object().get(object)) return fail_here(*document_, e);
    if (!builder_.begin(Node::Type::kMapping, at)) return false;
    for (auto entry : object) {
      ondemand::field field;
      if (auto e = std::move(entry).get(field)) return fail_here(*document_, e);
      std::size_t key_at = offset_of(field.key().raw()) - 1;  // raw() stands behind the quote
      std::string_view key;
      if (auto e = field.unescaped_key().get(key)) return fail_at(key_at, e);
      const Wanted* below = all ? nullptr : wanted->find(key);
      if (!all && below == nullptr) continue;
      if (!builder_.add_scalar(at_byte(key_at), key, false)) return false;
      if (!add_value(field.value(), below)) return false;
    }
    builder_.end();
    return true;
  }

  bool fail(std::size_t offset, std::string_view message) {
    report_.error(at_byte(offset), "{}", message);
    return false;
  }

  bool fail_here(ondemand::document& document, error_code error) {
    const char* here = nullptr;
    std::size_t offset = document.current_location().get(here) == SUCCESS ? offset_of(here) : text_.size();
    return fail_at(offset, error);
  }

  bool fail_at(std::size_t offset, error_code error) {
    std::size_t end = trimmed(text_).size();
    if (error == INCOMPLETE_ARRAY_OR_OBJECT || offset >= end) {
      return fail(end, "the text ends before its last } or ]; write the file again, completely");
    }
    switch (error) {
      case STRING_ERROR: return fail(offset, "an invalid escape in this text; write \\\\ for a backslash, or \\uXXXX");
      case MEMALLOC: return fail(offset, "out of memory; split the file");
      default:
        return fail(
            offset,
            "not JSON here; write ',' between entries, ':' after a key in double quotes, and close every { and [");
    }
  }

  // Errors of the first pass come without a place; they are about strings.
  bool fail_stage1(error_code error) {
    if (error != UNESCAPED_CHARS && error != UNCLOSED_STRING) return fail_at(0, error);
    std::string_view text = text_;
    for (std::size_t i = 0; i < text.size(); ++i) {
      if (text[i] != '"') continue;
      std::size_t start = i++;
      while (i < text.size() && text[i] != '"') {
        if (static_cast<unsigned char>(text[i]) < 0x20) {
          return fail(
              i,
              "a text in quotes cannot contain a line break or a tab; write \\n or \\t, or close the quote before it");
        }
        i += text[i] == '\\' ? 2 : 1;
      }
      if (i >= text.size())
        return fail(start, "a text in quotes that never ends; close the quote (is the file written completely?)");
    }
    return fail_at(text.size(), error);
  }

  const std::string_view text_;
  const SourceText* const places_;
  padded_string padded_;
  ondemand::parser parser_;
  ondemand::document* document_ = nullptr;
  TreeBuilder& builder_;
  Report& report_;
};

}  // namespace

bool read_json(const SourceText& source, TreeBuilder& builder, Report& report, const OnDocument& on_document) {
  if (!JsonReader(source.text(), &source, builder, report).run(nullptr)) return false;
  on_document(builder.root());
  builder.clear();
  return true;
}

bool read_api_json(std::string_view text, const Wanted& wanted, TreeBuilder& builder, Report& report,
                   const OnDocument& on_document) {
  if (!JsonReader(text, nullptr, builder, report).run(&wanted)) return false;
  on_document(builder.root());
  builder.clear();
  return true;
}

}  // namespace casa::policy

#include "source/kube_json.h"

#include <simdjson.h>

#include "base/text.h"

namespace casa::source {
namespace {

using namespace simdjson;

// A parser keeps room for the largest text that it has read.
constexpr std::size_t kLargeText = 1u << 20;

std::unexpected<Error> broken(error_code error) {
  return casa::fail(ErrorCode::kInvalidArgument, "sent no sound JSON: {}", error_message(error));
}

error_code take_text(ondemand::value value, std::string_view& text) {
  ondemand::json_type type{};
  if (auto e = value.type().get(type)) return e;
  if (type == ondemand::json_type::null) return SUCCESS;
  return value.get_string().get(text);
}

// The fields lie together near the front of what an API server writes for its own kinds, and in alphabetical order for custom ones.
error_code read_metadata(ondemand::value value, ObjectHead& head) {
  ondemand::object metadata;
  if (auto e = value.get_object().get(metadata)) return e;
  for (auto entry : metadata) {
    ondemand::field field;
    if (auto e = std::move(entry).get(field)) return e;
    ondemand::raw_json_string key = field.key();
    std::string_view* wanted = key == "name"              ? &head.name
                               : key == "namespace"       ? &head.ns
                               : key == "uid"             ? &head.uid
                               : key == "resourceVersion" ? &head.version
                                                          : nullptr;
    if (wanted == nullptr) continue;
    if (auto e = take_text(field.value(), *wanted)) return e;
    if (!head.name.empty() && !head.ns.empty() && !head.uid.empty() && !head.version.empty()) break;
  }
  return SUCCESS;
}

error_code read_head(ondemand::object& object, ObjectHead& head) {
  ondemand::value metadata;
  if (auto e = object.find_field_unordered("metadata").get(metadata)) return e;
  return read_metadata(metadata, head);
}

// The name becomes part of an origin: nothing in it may look like another one's.
Status check_head(const ObjectHead& head) {
  auto plain = [](std::string_view text) {
    for (char c : text)
      if (c <= ' ' || c > '~' || c == '/') return false;
    return true;
  };
  if (head.name.empty() || head.version.empty() || !plain(head.name) || !plain(head.ns))
    return casa::fail(ErrorCode::kInvalidArgument, "sent an object without a name or a resourceVersion");
  return {};
}

// After an error that is more than an absent field, simdjson's document must not be touched any more.
error_code read_failure(ondemand::object& object, WatchEvent& event) {
  ondemand::value value;
  std::uint64_t code = 0;
  auto e = object.find_field_unordered("code").get(value);
  if (e == SUCCESS) e = value.get_uint64().get(code);
  if (e != SUCCESS && e != NO_SUCH_FIELD) return e;
  event.code = static_cast<unsigned>(code);
  std::string_view text;
  e = object.find_field_unordered("message").get(value);
  if (e == SUCCESS) e = take_text(value, text);
  if (e != SUCCESS && e != NO_SUCH_FIELD) return e;
  event.message = text;
  return SUCCESS;
}

error_code read_type(ondemand::value value, WatchEvent& event, bool& known) {
  std::string_view type;
  if (auto e = value.get_string().get(type)) return e;
  using Type = WatchEvent::Type;
  known = true;
  if (type == "ADDED") event.type = Type::kAdded;
  else if (type == "MODIFIED") event.type = Type::kModified;
  else if (type == "DELETED") event.type = Type::kDeleted;
  else if (type == "BOOKMARK") event.type = Type::kBookmark;
  else if (type == "ERROR") event.type = Type::kError;
  else known = false;
  return SUCCESS;
}

std::string_view trimmed(std::string_view text) {
  auto end = text.find_last_not_of(" \t\r\n");
  return text.substr(0, end == std::string_view::npos ? 0 : end + 1);
}

}  // namespace

struct KubeJson::Impl {
  ondemand::parser parser;
  ondemand::document document;

  error_code open(std::string& text, ondemand::object& object) {
    if (parser.capacity() > kLargeText && text.size() < kLargeText) parser = ondemand::parser();
    if (text.capacity() < text.size() + SIMDJSON_PADDING) text.reserve(text.size() + SIMDJSON_PADDING);
    if (auto e = parser.iterate(text).get(document)) return e;
    return document.get_object().get(object);
  }

  error_code read_event(std::string& text, WatchEvent& event, bool& known) {
    ondemand::object line, object;
    ondemand::value value;
    if (auto e = open(text, line)) return e;
    if (auto e = line.find_field_unordered("type").get(value)) return e;
    if (auto e = read_type(value, event, known)) return e;
    if (!known) return SUCCESS;
    if (auto e = line.find_field_unordered("object").get_object().get(object)) return e;
    if (event.type == WatchEvent::Type::kError) return read_failure(object, event);
    if (auto e = read_head(object, event.head)) return e;
    if (event.type == WatchEvent::Type::kBookmark || event.type == WatchEvent::Type::kDeleted) return SUCCESS;
    if (auto e = object.reset().error()) return e;
    if (auto e = object.raw_json().get(event.object)) return e;
    event.object = trimmed(event.object);
    return SUCCESS;
  }
};

KubeJson::KubeJson() : impl_(std::make_unique<Impl>()) {}
KubeJson::~KubeJson() = default;

Result<ObjectHead> KubeJson::read_object(std::string& text) {
  ObjectHead head;
  ondemand::object object;
  if (auto e = impl_->open(text, object)) return broken(e);
  if (auto e = read_head(object, head)) return broken(e);
  TRY(check_head(head));
  return head;
}

Result<WatchEvent> KubeJson::read_event(std::string& text) {
  WatchEvent event;
  bool known = false;
  if (auto e = impl_->read_event(text, event, known)) return broken(e);
  if (!known) return casa::fail(ErrorCode::kInvalidArgument, "sent an event of an unknown type");
  if (event.type == WatchEvent::Type::kBookmark) {
    if (event.head.version.empty())
      return casa::fail(ErrorCode::kInvalidArgument, "sent a bookmark without a resourceVersion");
  } else if (event.type != WatchEvent::Type::kError) {
    TRY(check_head(event.head));
  }
  return event;
}

Result<ListHead> KubeJson::read_list(std::string& text) {
  ondemand::object list, metadata;
  if (auto e = impl_->open(text, list)) return broken(e);
  if (auto e = list.find_field_unordered("metadata").get_object().get(metadata)) return broken(e);
  ListHead head;
  for (auto entry : metadata) {
    ondemand::field field;
    if (auto e = std::move(entry).get(field)) return broken(e);
    ondemand::raw_json_string key = field.key();
    std::string* wanted = key == "resourceVersion" ? &head.version : key == "continue" ? &head.next : nullptr;
    std::string_view value;
    if (wanted == nullptr) continue;
    if (auto e = take_text(field.value(), value)) return broken(e);
    *wanted = value;
  }
  if (head.version.empty()) return casa::fail(ErrorCode::kInvalidArgument, "sent a list without a resourceVersion");
  return head;
}

StatusText KubeJson::read_status(std::string& text) {
  StatusText status;
  ondemand::object object;
  if (impl_->open(text, object) != SUCCESS) return status;
  for (auto entry : object) {
    ondemand::field field;
    if (std::move(entry).get(field) != SUCCESS) return {};
    ondemand::raw_json_string key = field.key();
    std::string* wanted = key == "message" ? &status.message : key == "reason" ? &status.reason : nullptr;
    std::string_view value;
    if (wanted == nullptr) continue;
    if (take_text(field.value(), value) != SUCCESS) return {};
    *wanted = value;
  }
  return status;
}

std::uint64_t version_number(std::string_view version) { return parse_number(version, UINT64_MAX).value_or(0); }

}  // namespace casa::source

#include "policy/api_status.h"

#include <simdjson.h>

namespace casa::policy {
namespace {

using namespace simdjson;

// Absent and of another type are the same here: the server has validated what there is.
std::string text_at(ondemand::object& object, std::string_view key) {
  std::string_view text;
  if (object[key].get_string().get(text) != SUCCESS) return {};
  return std::string(text);
}

}  // namespace

std::optional<ApiStatus> read_api_status(std::string_view bytes) {
  padded_string padded(bytes);
  ondemand::parser parser;
  ondemand::document document;
  ondemand::object root, metadata, status;
  if (parser.iterate(padded).get(document) != SUCCESS || document.get_object().get(root) != SUCCESS)
    return std::nullopt;
  ApiStatus result;
  if (root["metadata"].get_object().get(metadata) != SUCCESS) return std::nullopt;
  result.name = text_at(metadata, "name");
  result.ns = text_at(metadata, "namespace");
  result.uid = text_at(metadata, "uid");
  std::int64_t generation = 0;
  if (metadata["generation"].get_int64().get(generation) == SUCCESS) result.generation = generation;
  if (root["status"].get_object().get(status) == SUCCESS) {
    result.phase = text_at(status, "phase");
    result.message = text_at(status, "message");
  }
  if (result.name.empty()) return std::nullopt;
  return result;
}

}  // namespace casa::policy

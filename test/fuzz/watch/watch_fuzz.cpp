// libFuzzer target of the Kubernetes source's wire format: any bytes as a watch and as a list, cut at places that the first byte says. However they
// are cut, the same objects come out; nothing that comes out is longer than what went in.
//   build-fuzz/test/fuzz/watch/watch_fuzz -max_total_time=60 test/fuzz/watch/corpus
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

#include "source/json_split.h"
#include "source/kube_json.h"

namespace {

using namespace casa::source;

void require(bool condition) {
  if (!condition) std::abort();
}

struct Cut {
  std::vector<std::string> objects;
  std::string rest;
  bool whole = false;
};

Cut cut(JsonSplit::Shape shape, std::string_view text, std::size_t step) {
  Cut result;
  JsonSplit split(shape, 1u << 20, [&](std::string& object) {
    result.objects.push_back(object);
    return casa::Status();
  });
  casa::Status status;
  for (std::size_t at = 0; at < text.size() && status; at += step) status = split.feed(text.substr(at, step));
  result.whole = status && split.finish();
  result.rest = std::move(split.rest());
  return result;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  std::string_view text(reinterpret_cast<const char*>(data) + 1, size - 1);
  KubeJson json;
  for (auto shape : {JsonSplit::Shape::kStream, JsonSplit::Shape::kList}) {
    Cut once = cut(shape, text, text.size() + 1), pieces = cut(shape, text, data[0] % 32 + 1);
    require(once.objects == pieces.objects && once.rest == pieces.rest && once.whole == pieces.whole);
    std::size_t bytes = once.rest.size();
    for (auto& object : once.objects) {
      bytes += object.size();
      if (auto head = json.read_object(object)) {
        require(!head->name.empty() && head->name.find('/') == std::string_view::npos);
        require(head->name.size() <= object.size());
      }
      if (auto event = json.read_event(object)) {
        require(event->object.size() <= object.size());
        if (event->type == WatchEvent::Type::kAdded) require(event->object.front() == '{');
      }
      static_cast<void>(json.read_status(object));
    }
    require(bytes <= text.size());
    if (once.whole && shape == JsonSplit::Shape::kList) static_cast<void>(json.read_list(once.rest));
  }
  return 0;
}

// Cuts what an API server sends into its objects, as the bytes come in, so that no more than one object has to be held at a time: the
// events of a watch (one JSON object after the other), or the items of a list. It knows JSON's quotes and brackets only; whether an object
// is sound is for whoever reads it.
#pragma once

#include <cstddef>
#include <functional>
#include <string>
#include <string_view>

#include "base/error.h"

namespace casa::source {

class JsonSplit {
 public:
  enum class Shape {
    kStream,  // {...}{...}
    kList,    // {"kind":"PodList",...,"items":[{...},{...}]}
  };
  // One object, with room behind its end for simdjson. The callee may take the text away. An error ends the splitting.
  using OnObject = std::function<Status(std::string& object)>;

  JsonSplit(Shape shape, std::size_t most_bytes, OnObject on_object)
      : shape_(shape), most_(most_bytes), on_object_(std::move(on_object)) {}

  Status feed(std::string_view piece);
  // After the last piece: an error when it ended in the middle.
  Status finish() const;
  // Of a list: all but its items, `{"kind":"PodList",...,"items":[]}`. After finish().
  [[nodiscard]] std::string& rest() { return rest_; }

 private:
  std::size_t skip_string(std::string_view piece, std::size_t at);
  std::size_t feed_object(std::string_view piece, std::size_t at);
  Status feed_rest(char c);
  [[nodiscard]] bool between_objects() const {
    return shape_ == Shape::kStream ? depth_ == 0 : in_items_ && depth_ == 2;
  }
  Status begin_object();
  Status end_object();

  const Shape shape_;
  const std::size_t most_;
  const OnObject on_object_;
  std::string object_, rest_;
  std::size_t key_begin_ = 0, key_end_ = 0;  // in rest_: the last text at depth 1
  std::size_t usual_ = 0;                    // bytes of the largest object lately
  int depth_ = 0;
  int object_depth_ = 0;  // where the object that is being taken began; 0: none
  bool taking_ = false;
  bool in_string_ = false, escaped_ = false;
  bool in_items_ = false, ended_ = false;
};

}  // namespace casa::source

#include "source/json_split.h"

#include <simdjson.h>

#include <algorithm>
#include <cstring>

namespace casa::source {
namespace {

constexpr std::size_t kMaxRest = 1u << 20;

bool is_space(char c) { return c == ' ' || c == '\n' || c == '\r' || c == '\t'; }

std::unexpected<Error> broken(const char* what) {
  return fail(ErrorCode::kInvalidArgument, "sent no sound JSON: {}", what);
}

}  // namespace

// Behind the quote that ends the string, or the end of the piece.
std::size_t JsonSplit::skip_string(std::string_view piece, std::size_t at) {
  if (escaped_ && at < piece.size()) {
    escaped_ = false;
    ++at;
  }
  while (at < piece.size()) {
    const void* found = std::memchr(piece.data() + at, '"', piece.size() - at);
    std::size_t quote =
        found == nullptr ? piece.size() : static_cast<std::size_t>(static_cast<const char*>(found) - piece.data());
    std::size_t first = quote;
    while (first > at && piece[first - 1] == '\\') --first;
    bool odd = (quote - first) % 2 != 0;
    if (quote == piece.size()) {
      escaped_ = odd;
      return quote;
    }
    at = quote + 1;
    if (!odd) {
      in_string_ = false;
      return at;
    }
  }
  return at;
}

// Takes bytes of the object up to its end, or to that of the piece.
std::size_t JsonSplit::feed_object(std::string_view piece, std::size_t at) {
  std::size_t begin = at;
  while (at < piece.size()) {
    if (in_string_) {
      at = skip_string(piece, at);
      continue;
    }
    char c = piece[at++];
    if (c == '"') {
      in_string_ = true;
    } else if (c == '{' || c == '[') {
      ++depth_;
    } else if (c == '}' || c == ']') {
      if (--depth_ == object_depth_) break;
    }
  }
  object_.append(piece, begin, at - begin);
  return at;
}

Status JsonSplit::begin_object() {
  object_.clear();
  object_.reserve(usual_ + simdjson::SIMDJSON_PADDING);
  taking_ = true;
  object_depth_ = depth_;
  return {};
}

Status JsonSplit::end_object() {
  taking_ = false;
  // Slowly downwards, so that one large object does not make all later ones claim its room.
  usual_ = std::max(object_.size(), usual_ - usual_ / 8);
  object_.reserve(object_.size() + simdjson::SIMDJSON_PADDING);
  return on_object_(object_);
}

Status JsonSplit::feed(std::string_view piece) {
  for (std::size_t at = 0; at < piece.size();) {
    if (taking_) {
      at = feed_object(piece, at);
      if (object_.size() > most_) return fail(ErrorCode::kLimit, "sent an object of more than {} bytes", most_);
      if (depth_ == object_depth_ && !in_string_) TRY(end_object());
      continue;
    }
    if (!between_objects()) {
      TRY(feed_rest(piece[at++]));
      continue;
    }
    char c = piece[at];
    if (c == '{') {
      if (ended_) return broken("something behind its end");
      TRY(begin_object());
      // Its own bracket, so that the depth is more than where it began.
      object_.push_back('{');
      ++depth_;
      ++at;
      continue;
    }
    ++at;
    if (is_space(c)) continue;
    if (shape_ == Shape::kStream) return broken("something between two objects");
    if (c == ',') continue;
    if (c != ']') return broken("an item of a list that is no object");
    in_items_ = false;
    --depth_;
    rest_.push_back(c);
  }
  return {};
}

// A list outside its items.
Status JsonSplit::feed_rest(char c) {
  if (rest_.size() >= kMaxRest) return fail(ErrorCode::kLimit, "sent a list with {} bytes beside its items", kMaxRest);
  if (ended_ || (depth_ == 0 && c != '{')) {
    if (is_space(c)) return {};
    return broken(ended_ ? "something behind its end" : "no object");
  }
  rest_.push_back(c);
  if (in_string_) {
    if (escaped_) {
      escaped_ = false;
    } else if (c == '\\') {
      escaped_ = true;
    } else if (c == '"') {
      in_string_ = false;
      if (depth_ == 1) key_end_ = rest_.size() - 1;
    }
    return {};
  }
  if (c == '"') {
    in_string_ = true;
    if (depth_ == 1) key_begin_ = rest_.size();
  } else if (c == '{' || c == '[') {
    bool items =
        c == '[' && depth_ == 1 && std::string_view(rest_).substr(key_begin_, key_end_ - key_begin_) == "items";
    ++depth_;
    in_items_ = items;
  } else if (c == '}' || c == ']') {
    if (--depth_ == 0) ended_ = true;
  }
  return {};
}

Status JsonSplit::finish() const {
  if (taking_ || depth_ != 0 || (shape_ == Shape::kList && !ended_)) return broken("it broke off");
  return {};
}

}  // namespace casa::source

// Writes JSON text: the API's answers and the CLI's --json. Commas and escapes are its business; nesting is the caller's.
// Strings that are not valid UTF-8 (a process's comm can be anything) come out with U+FFFD for each bad byte.
#pragma once

#include <concepts>
#include <cstdint>
#include <string>
#include <string_view>

namespace casa {

class JsonWriter {
 public:
  JsonWriter& begin_object();
  JsonWriter& end_object();
  JsonWriter& begin_array();
  JsonWriter& end_array();
  JsonWriter& key(std::string_view name);
  JsonWriter& value(std::string_view text);
  JsonWriter& value(const char* text) { return value(std::string_view(text)); }
  JsonWriter& value(bool b);
  JsonWriter& value(double d);
  template <std::integral T>
    requires(!std::same_as<T, bool>)
  JsonWriter& value(T n) {
    return number(std::is_signed_v<T> ? std::to_string(static_cast<std::int64_t>(n))
                                      : std::to_string(static_cast<std::uint64_t>(n)));
  }
  JsonWriter& null();
  JsonWriter& raw(std::string_view json);  // an already written value
  template <typename T>
  JsonWriter& field(std::string_view name, const T& v) {
    return key(name).value(v);
  }

  [[nodiscard]] const std::string& str() const { return out_; }
  std::string take() { return std::move(out_); }

 private:
  JsonWriter& number(std::string_view text);
  void separate();
  std::string out_;
  bool need_comma_ = false;
};

void append_json_string(std::string& out, std::string_view text);

}  // namespace casa

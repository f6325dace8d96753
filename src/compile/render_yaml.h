// The YAML that the writers of network policies have in common: documents, quoted texts, the head of an object, selectors and ports.
#pragma once

#include <fmt/format.h>

#include <string>
#include <string_view>
#include <vector>

#include "compile/render_plan.h"

namespace casa::compile {

// A text in double quotes, as JSON has it, whatever is in it.
std::string quoted(std::string_view text);

class YamlText {
 public:
  // One line, `depth` steps of two spaces in.
  template <typename... Args>
  void line(unsigned depth, fmt::format_string<Args...> format, Args&&... args) {
    text_.append(2 * std::size_t{depth}, ' ');
    fmt::format_to(std::back_inserter(text_), format, std::forward<Args>(args)...);
    text_ += '\n';
  }
  // A new document up to `spec:`, with comments that say what it is for.
  void begin_object(std::string_view api_version, std::string_view kind, const Subject& subject);
  // `key: {}` for none, else one line for each label with `prefix` before its name.
  void labels(unsigned depth, std::string_view key, std::string_view prefix, const Labels& labels);
  std::string take() { return std::move(text_); }

 private:
  std::string text_;
};

const char* to_string(policy::Protocol protocol);  // TCP, UDP

// `plan` has no error: what `write` makes of it, with the notes of both.
Rendered finish(Plan plan, std::string yaml);

}  // namespace casa::compile

// Collects what is wrong with one file. Messages read "<field>: <what is wrong>; <what to write instead>". Text is only
// formatted while there is room for it (kMaxDiagnostics), so that a file with a million mistakes costs no more than
// counting them; pass the lazy forms below (Path, Quoted, Suggestion) instead of strings.
#pragma once

#include <fmt/format.h>

#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "policy/objects.h"
#include "policy/parse.h"
#include "policy/source_text.h"

namespace casa::policy {

// Where a field stands in its object: spec.allowedEndpoints[3].port. A chain of parts on the stack: a Path must not
// outlive its parent.
class Path {
 public:
  Path() = default;
  Path operator/(std::string_view name) const { return Path(this, name, -1); }
  Path operator[](std::size_t index) const { return Path(this, {}, static_cast<long>(index)); }
  void append_to(std::string& out) const;

 private:
  Path(const Path* parent, std::string_view name, long index) : parent_(parent), name_(name), index_(index) {}
  const Path* parent_ = nullptr;
  std::string_view name_;
  long index_ = -1;
};

// A text from the file: in quotes, control characters escaped (a diagnostic ends on a terminal), long ones cut.
struct Quoted {
  std::string_view text;
};
// The text of a plain scalar: the same without quotes.
struct Raw {
  std::string_view text;
};

// "did you mean X?", or `otherwise` followed by the candidates when they are few.
struct Suggestion {
  std::string_view word;
  std::span<const std::string_view> candidates;
  std::string_view otherwise;
};

void append_quoted(std::string& out, std::string_view text, bool quotes);
void append_suggestion(std::string& out, const Suggestion& suggestion);

class Report {
 public:
  enum class About { kFile, kApiObject };
  explicit Report(std::string_view file, About about = About::kFile) : file_(file), about_(about) {}

  // While it lives, and the report is about an API server's object: that server has validated what is read, maybe by a version newer
  // than casad. Fields that casad does not know are no news, and what it cannot read is left out with a warning.
  class Forgiving {
   public:
    explicit Forgiving(Report& report) : report_(report), before_(report.forgiving_) {
      report.forgiving_ = before_ || report.about_ == About::kApiObject;
    }
    ~Forgiving() { report_.forgiving_ = before_; }
    Forgiving(const Forgiving&) = delete;
    Forgiving& operator=(const Forgiving&) = delete;

   private:
    Report& report_;
    const bool before_;
  };
  [[nodiscard]] bool is_forgiving() const { return forgiving_; }

  template <typename... Args>
  void error(Position at, fmt::format_string<Args...> format, Args&&... args) {
    if (forgiving_) return warning(at, format, std::forward<Args>(args)...);
    if (count(Diagnostic::Severity::kError, at)) {
      add(Diagnostic::Severity::kError, at, fmt::format(format, std::forward<Args>(args)...));
    }
  }
  template <typename... Args>
  void warning(Position at, fmt::format_string<Args...> format, Args&&... args) {
    if (count(Diagnostic::Severity::kWarning, at)) {
      add(Diagnostic::Severity::kWarning, at, fmt::format(format, std::forward<Args>(args)...));
    }
  }

  // Errors from here on belong to a new object.
  void begin_object();
  [[nodiscard]] std::size_t object_errors() const { return object_errors_; }
  // "file:line:col: message" of the object's first error in the order of the text; of an API server's object "origin: message".
  [[nodiscard]] const std::string& first_error() const { return first_error_; }

  [[nodiscard]] Location where(Position at) const { return {file_, at.line, at.column}; }
  void finish(ParseResult& result);

 private:
  bool count(Diagnostic::Severity severity, Position at);  // true when its text is needed
  void add(Diagnostic::Severity severity, Position at, std::string message);

  std::string file_;
  const About about_;
  bool forgiving_ = false;
  std::vector<Diagnostic> diagnostics_;
  std::size_t omitted_errors_ = 0, omitted_warnings_ = 0;
  Position first_omitted_;
  std::size_t object_errors_ = 0;
  Position first_error_at_;
  std::string first_error_;
};

}  // namespace casa::policy

template <>
struct fmt::formatter<casa::policy::Path> : fmt::formatter<std::string_view> {
  template <typename Context>
  auto format(const casa::policy::Path& path, Context& ctx) const {
    std::string out;
    path.append_to(out);
    return fmt::formatter<std::string_view>::format(out, ctx);
  }
};
template <>
struct fmt::formatter<casa::policy::Quoted> : fmt::formatter<std::string_view> {
  template <typename Context>
  auto format(const casa::policy::Quoted& quoted, Context& ctx) const {
    std::string out;
    casa::policy::append_quoted(out, quoted.text, true);
    return fmt::formatter<std::string_view>::format(out, ctx);
  }
};
template <>
struct fmt::formatter<casa::policy::Raw> : fmt::formatter<std::string_view> {
  template <typename Context>
  auto format(const casa::policy::Raw& raw, Context& ctx) const {
    std::string out;
    casa::policy::append_quoted(out, raw.text, false);
    return fmt::formatter<std::string_view>::format(out, ctx);
  }
};
template <>
struct fmt::formatter<casa::policy::Suggestion> : fmt::formatter<std::string_view> {
  template <typename Context>
  auto format(const casa::policy::Suggestion& suggestion, Context& ctx) const {
    std::string out;
    casa::policy::append_suggestion(out, suggestion);
    return fmt::formatter<std::string_view>::format(out, ctx);
  }
};

// See report.h. Keeps the first kMaxDiagnostics in the order in which they are found, counts the rest, and sorts once at
// the end. Apart from these it remembers one text: the first error of the current object, which becomes the message of an
// invalid policy.
#include "policy/report.h"

#include <algorithm>
#include <tuple>

#include "base/text.h"

namespace casa::policy {
namespace {
constexpr std::size_t kMaxQuoted = 80;
constexpr std::size_t kMaxListed = 12;

bool same_but_for_case(std::string_view a, std::string_view b) {
  auto lower = [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; };
  return std::ranges::equal(a, b, {}, lower, lower);
}
}  // namespace

void Path::append_to(std::string& out) const {
  if (parent_ != nullptr) parent_->append_to(out);
  if (index_ >= 0) {
    fmt::format_to(std::back_inserter(out), "[{}]", index_);
  } else if (!name_.empty()) {
    if (!out.empty()) out += '.';
    append_quoted(out, name_, false);
  }
}

void append_quoted(std::string& out, std::string_view text, bool quotes) {
  bool cut = text.size() > kMaxQuoted;
  if (cut) {
    std::size_t end = kMaxQuoted;
    while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xC0) == 0x80) --end;
    text = text.substr(0, end);
  }
  if (quotes) out += '"';
  for (char c : text) {
    auto byte = static_cast<unsigned char>(c);
    if (byte < 0x20 || byte == 0x7f) {
      fmt::format_to(std::back_inserter(out), "\\x{:02x}", byte);
    } else {
      if (quotes && (c == '"' || c == '\\')) out += '\\';
      out += c;
    }
  }
  if (cut) out += "...";
  if (quotes) out += '"';
}

void append_suggestion(std::string& out, const Suggestion& suggestion) {
  std::string_view near = nearest_name(suggestion.word, suggestion.candidates);
  for (auto candidate : suggestion.candidates) {
    if (same_but_for_case(suggestion.word, candidate)) near = candidate;
  }
  if (!near.empty()) {
    out += "did you mean ";
    out += near;
    out += '?';
    return;
  }
  out += suggestion.otherwise;
  if (suggestion.candidates.size() > kMaxListed) return;
  const char* separator = suggestion.otherwise.empty() ? "write " : ", or write ";
  for (auto candidate : suggestion.candidates) {
    out += separator;
    out += candidate;
    separator = candidate == suggestion.candidates[suggestion.candidates.size() - 1] ? "" : ", ";
    if (suggestion.candidates.size() > 1 && candidate == suggestion.candidates[suggestion.candidates.size() - 2])
      separator = " or ";
  }
}

void Report::begin_object() {
  object_errors_ = 0;
  first_error_.clear();
}

bool Report::count(Diagnostic::Severity severity, Position at) {
  bool is_error = severity == Diagnostic::Severity::kError;
  bool first = is_error && (object_errors_ == 0 || at < first_error_at_);
  if (is_error) ++object_errors_;
  if (diagnostics_.size() < kMaxDiagnostics) return true;
  if (omitted_errors_ + omitted_warnings_ == 0) first_omitted_ = at;
  ++(is_error ? omitted_errors_ : omitted_warnings_);
  return first;
}

void Report::add(Diagnostic::Severity severity, Position at, std::string message) {
  // The first error of an object is its policy's message, also when the list is full.
  if (severity == Diagnostic::Severity::kError && (first_error_.empty() || at < first_error_at_)) {
    first_error_at_ = at;
    first_error_ = at.line == 0 ? fmt::format("{}: {}", file_, message)
                                : fmt::format("{}:{}:{}: {}", file_, at.line, at.column, message);
  }
  if (diagnostics_.size() < kMaxDiagnostics) diagnostics_.push_back({severity, where(at), std::move(message)});
}

void Report::finish(ParseResult& result) {
  std::ranges::sort(diagnostics_, {},
                    [](const Diagnostic& d) { return std::tie(d.where.line, d.where.column, d.message); });
  if (omitted_errors_ + omitted_warnings_ > 0) {
    auto severity = omitted_errors_ > 0 ? Diagnostic::Severity::kError : Diagnostic::Severity::kWarning;
    diagnostics_.push_back({severity, where(first_omitted_),
                            fmt::format("{} more errors and {} more warnings are not shown; correct those above first",
                                        omitted_errors_, omitted_warnings_)});
  }
  result.omitted_errors = omitted_errors_;
  result.omitted_warnings = omitted_warnings_;
  result.diagnostics = std::move(diagnostics_);
}

}  // namespace casa::policy

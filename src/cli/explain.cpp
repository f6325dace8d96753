// `casad explain`: see client.h.
#include <fmt/format.h>
#include <simdjson.h>

#include "cli/answer.h"
#include "cli/client.h"
#include "cli/terminal.h"

namespace casa::cli {
namespace {

using simdjson::dom::element;

std::string text(const element& object, std::string_view name) {
  std::string_view value;
  return object[name].get(value) == simdjson::SUCCESS ? printable(value) : std::string();
}

// Lines of a suggestion stay lines; everything else in it is made safe.
std::string indented(std::string_view lines, std::string_view indent) {
  std::string out;
  while (!lines.empty()) {
    auto end = std::min(lines.find('\n'), lines.size());
    out += fmt::format("{}{}\n", indent, printable(lines.substr(0, end)));
    lines.remove_prefix(std::min(end + 1, lines.size()));
  }
  return out;
}

void print_step(std::FILE* out, const element& step, bool colour) {
  std::string verdict = text(step, "verdict"), reason = text(step, "reason"), policy = text(step, "policy"),
              field = text(step, "field");
  std::string line = fmt::format("  {}  {}", paint(fmt::format("{:<7}", verdict), colour_of_verdict(verdict), colour),
                                 text(step, "where"));
  if (!reason.empty()) line += "  " + reason;
  if (!policy.empty()) line += fmt::format("  by {}{}{}", policy, field.empty() ? "" : " ", field);
  fmt::print(out, "{}\n", line);
  if (std::string sentence = text(step, "text"); !sentence.empty()) fmt::print(out, "           {}\n", sentence);
}

bool print_explanation(std::FILE* out, const element& answer) {
  bool colour = wants_colour(out);
  std::string verdict = text(answer, "verdict");
  simdjson::dom::array steps, suggestions;
  if (verdict.empty() || answer["steps"].get(steps) != simdjson::SUCCESS) return false;
  fmt::print(out, "{}\n",
             paint(verdict == "NONE" ? "NONE: neither end is under enforcement" : verdict, colour_of_verdict(verdict),
                   colour));
  for (element step : steps) print_step(out, step, colour);
  if (answer["suggestions"].get(suggestions) != simdjson::SUCCESS || suggestions.size() == 0) return true;
  fmt::print(out, "to allow it:\n");
  for (element suggestion : suggestions) {
    std::string_view lines;
    if (suggestion.get(lines) == simdjson::SUCCESS) fmt::print(out, "{}", indented(lines, "  "));
  }
  return true;
}

bool print_baseline(std::FILE* out, const element& answer) {
  simdjson::dom::array rules;
  if (answer["baseline"].get(rules) != simdjson::SUCCESS) return false;
  for (element rule : rules) {
    std::string_view sentence;
    if (rule.get(sentence) == simdjson::SUCCESS) fmt::print(out, "{}\n", printable(sentence));
  }
  return true;
}

}  // namespace

int run_explain(const ExplainOptions& options) {
  std::vector<std::pair<std::string_view, std::string>> parameters;
  if (options.baseline) parameters = {{"baseline", "true"}};
  else parameters = {{"from", options.from}, {"to", options.to}, {"protocol", options.protocol}};
  if (!options.baseline && (options.from.empty() || options.to.empty()))
    return report_error(options.err, {ErrorCode::kInvalidArgument, "explain needs --from and --to, or --baseline"});
  HttpClient client(options.api_socket);
  auto response = client.get(make_target("/v1/explain", parameters));
  if (!response) return report_error(options.err, response.error());
  if (response->status != 200) return report_problem(options.err, *response);
  simdjson::dom::parser parser;
  element answer;
  if (parser.parse(response->body).get(answer) != simdjson::SUCCESS)
    return report_error(options.err, not_understood("explain"));
  std::string_view verdict;
  bool denied = answer["verdict"].get(verdict) == simdjson::SUCCESS && verdict == "DENIED";
  bool understood = true;
  if (options.json) fmt::print(options.out, "{}\n", printable_json(response->body));
  else understood = options.baseline ? print_baseline(options.out, answer) : print_explanation(options.out, answer);
  if (!understood) return report_error(options.err, not_understood("explain"));
  std::fflush(options.out);
  return denied ? kExitNo : kExitDone;
}

}  // namespace casa::cli

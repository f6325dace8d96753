// `casad status`: see client.h.
#include <fmt/format.h>
#include <simdjson.h>

#include "cli/answer.h"
#include "cli/client.h"
#include "cli/terminal.h"

namespace casa::cli {
namespace {

using simdjson::dom::element;

// A scalar of the answer as text; empty when it is absent.
std::string scalar(const element& object, std::string_view name) {
  element value;
  if (object[name].get(value) != simdjson::SUCCESS) return {};
  std::string_view text;
  if (value.get(text) == simdjson::SUCCESS) return printable(text);
  return simdjson::minify(value);
}

void print_line(std::FILE* out, std::string_view title, const std::string& text) {
  if (!text.empty()) fmt::print(out, "{:<12} {}\n", title, text);
}

std::string with_names(const element& object) {
  std::string text;
  simdjson::dom::object fields;
  if (object.get(fields) != simdjson::SUCCESS) return text;
  for (auto field : fields) {
    if (!text.empty()) text += ", ";
    text += fmt::format("{} {}", simdjson::minify(field.value), printable(field.key));
  }
  return text;
}

template <typename Each>
void for_items(const element& document, std::string_view name, Each each) {
  simdjson::dom::array items;
  if (document[name].get(items) != simdjson::SUCCESS) return;
  for (element item : items) each(item);
}

void print_source(std::FILE* out, const element& source) {
  std::string text = fmt::format("{} {}: {} objects from {} documents", scalar(source, "kind"),
                                 scalar(source, "location"), scalar(source, "objects"), scalar(source, "documents"));
  if (std::string bad = scalar(source, "badDocuments"); bad != "0") text += fmt::format(", {} bad", bad);
  if (std::string problem = scalar(source, "problem"); !problem.empty()) text += "; " + problem;
  print_line(out, "source", text);
  std::string resources;
  for_items(source, "resources", [&](const element& resource) {
    std::string state = scalar(resource, "state");
    resources +=
        fmt::format("{}{} {}", resources.empty() ? "" : ", ", scalar(resource, "objects"), scalar(resource, "name"));
    if (state != "watching") resources += fmt::format(" ({})", state);
  });
  print_line(out, "watched", resources);
}

void print_status(std::FILE* out, const element& status) {
  bool colour = wants_colour(out);
  std::string phase = scalar(status, "phase");
  Colour paint_as = phase == "enforcing" ? Colour::kGreen : phase == "degraded" ? Colour::kRed : Colour::kYellow;
  fmt::print(out, "{:<12} {}\n", "state", paint(phase, paint_as, colour));
  print_line(out, "version", scalar(status, "version"));
  print_line(out, "started", scalar(status, "started"));
  std::string generation = scalar(status, "generation");
  if (std::string since = scalar(status, "generationTime"); !since.empty()) generation += " since " + since;
  if (scalar(status, "adopted") == "true") generation += " (took over what an earlier run left in the kernel)";
  print_line(out, "generation", generation);
  print_line(out, "digest", scalar(status, "policyDigest"));
  print_line(out, "cgroup root", scalar(status, "cgroupRoot"));
  print_line(out, "bpffs", scalar(status, "bpffs"));
  for_items(status, "sources", [&](const element& source) { print_source(out, source); });
  element counts, features;
  if (status["counts"].get(counts) == simdjson::SUCCESS) print_line(out, "counts", with_names(counts));
  for_items(status, "maps", [&](const element& map) {
    print_line(out, "map",
               fmt::format("{}: {} of {}", scalar(map, "name"), scalar(map, "used"), scalar(map, "capacity")));
  });
  simdjson::dom::object fields;
  if (status["features"].get(fields) == simdjson::SUCCESS) {
    for (auto field : fields) {
      std::string_view text;
      if (field.value.get(text) == simdjson::SUCCESS)
        print_line(out, "feature", fmt::format("{}: {}", printable(field.key), printable(text)));
    }
  }
  for_items(status, "enforcementGaps", [&](const element& gap) {
    std::string from = scalar(gap, "from"), until = scalar(gap, "until");
    print_line(out, "gap",
               fmt::format("nothing was enforced, at most from {} until {}: the cgroup root was removed",
                           from.empty() ? "before the start" : from, until.empty() ? "now" : until));
  });
  for_items(status, "problems", [&](const element& problem) {
    std::string_view text;
    if (problem.get(text) == simdjson::SUCCESS) print_line(out, "problem", printable(text));
  });
}

}  // namespace

int run_status(const StatusOptions& options) {
  HttpClient client(options.api_socket);
  auto response = client.get(options.alive ? "/healthz" : "/v1/status");
  if (!response) return report_error(options.err, response.error());
  if (response->status != 200) return report_problem(options.err, *response);
  if (options.alive) return kExitDone;
  simdjson::dom::parser parser;
  element status;
  bool ready = false;
  if (parser.parse(response->body).get(status) != simdjson::SUCCESS || status["ready"].get(ready) != simdjson::SUCCESS)
    return report_error(options.err, not_understood("status"));
  if (options.json) fmt::print(options.out, "{}\n", printable_json(response->body));
  else print_status(options.out, status);
  std::fflush(options.out);
  return ready ? kExitDone : kExitNo;
}

}  // namespace casa::cli

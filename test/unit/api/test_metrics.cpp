// /metrics, held to the text exposition format 0.0.4 by a strict reader; and what stands in it.
#include <catch2/catch_test_macros.hpp>
#include <map>
#include <set>
#include <sstream>

#include "api/metrics.h"
#include "api/router.h"
#include "fake_state.h"

using namespace casa;
using namespace casa::api;

namespace {

struct Metrics {
  std::map<std::string, std::string> types;    // by family
  std::map<std::string, std::string> samples;  // name and labels to value
};

bool is_name(std::string_view text) {
  if (text.empty() || (text[0] >= '0' && text[0] <= '9')) return false;
  return text.find_first_not_of("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_") ==
         std::string_view::npos;
}

// {name="value",...} with only the three escapes that there are; returns what is behind it.
std::string_view read_labels(std::string_view text, std::set<std::string>& names) {
  REQUIRE(text.starts_with('{'));
  do {
    text.remove_prefix(1);
    auto equals = text.find("=\"");
    REQUIRE(equals != std::string_view::npos);
    REQUIRE(is_name(text.substr(0, equals)));
    REQUIRE(names.emplace(text.substr(0, equals)).second);
    text.remove_prefix(equals + 2);
    while (!text.starts_with('"')) {
      REQUIRE(!text.empty());
      REQUIRE(text[0] != '\n');
      bool escape = text[0] == '\\';
      if (escape) REQUIRE((text.size() > 1 && std::string_view("\\\"n").find(text[1]) != std::string_view::npos));
      text.remove_prefix(escape ? 2 : 1);
    }
    text.remove_prefix(1);
  } while (text.starts_with(','));
  REQUIRE(text.starts_with('}'));
  return text.substr(1);
}

// Families are whole and come once, each with HELP, TYPE, then its samples; no sample comes twice.
Metrics read_strictly(const std::string& text) {
  Metrics metrics;
  REQUIRE(text.ends_with('\n'));
  std::istringstream lines(text);
  std::string line, family, helped;
  while (std::getline(lines, line)) {
    CAPTURE(line);
    if (line.starts_with("# HELP ")) {
      helped = line.substr(7, line.find(' ', 7) - 7);
      REQUIRE(is_name(helped));
      REQUIRE(!metrics.types.contains(helped));
      continue;
    }
    if (line.starts_with("# TYPE ")) {
      auto space = line.find(' ', 7);
      family = line.substr(7, space - 7);
      REQUIRE(family == helped);
      std::string type = line.substr(space + 1);
      REQUIRE((type == "counter" || type == "gauge"));
      REQUIRE((type == "counter") == family.ends_with("_total"));
      REQUIRE(metrics.types.emplace(family, type).second);
      continue;
    }
    REQUIRE(line.starts_with(family));
    std::string_view rest = std::string_view(line).substr(family.size());
    std::set<std::string> names;
    if (rest.starts_with('{')) rest = read_labels(rest, names);
    REQUIRE(rest.starts_with(' '));
    REQUIRE(rest.find_first_not_of("0123456789", 1) == std::string_view::npos);
    REQUIRE(rest.size() > 1);
    REQUIRE(metrics.samples.emplace(line.substr(0, line.size() - rest.size()), rest.substr(1)).second);
  }
  return metrics;
}

}  // namespace

TEST_CASE("metrics: the format, and everything that there is") {
  test::FakeState state;
  Router router(state);
  Reply reply = router.handle("GET", "/metrics", std::chrono::system_clock::now());
  CHECK(reply.status == 200);
  CHECK(reply.content_type == "text/plain; version=0.0.4; charset=utf-8");
  Metrics m = read_strictly(reply.body);
  CHECK(m.samples.at("casad_build_info{version=\"0.1.0\"}") == "1");
  CHECK(m.samples.at("casad_ready") == "1");
  CHECK(m.samples.at("casad_generation") == "7");
  CHECK(m.samples.at("casad_map_entries{map=\"casa_policy\"}") == "10");
  CHECK(m.samples.at("casad_feature_on{feature=\"tcx\"}") == "0");
  CHECK(m.samples.at("casad_kernel_events_total") == "5");
  CHECK(m.samples.at("casad_denied_attempts_total{reason=\"no_policy\"}") == "2");
  CHECK(m.samples.at("casad_flows_total{verdict=\"DENIED\"}") == "2");
  std::string agent = "namespace=\"team-a\",workload=\"agent\"";
  CHECK(m.samples.at("casad_token_events_total{" + agent + ",event=\"use\"}") == "2");
  CHECK(m.samples.at("casad_tokens_distinct{" + agent + "}") == "2");
  CHECK(m.samples.at("casad_instance_token_events_total{" + agent +
                     ",instance=\"team-a.slice/agent.service\",event=\"use\"}") == "2");
  CHECK(m.samples.at("casad_namespace_tokens_distinct{namespace=\"team-a\"}") == "2");
  CHECK(m.samples.at("casad_connections_unread_total{namespace=\"team-a\",workload=\"rogue\",why=\"ambiguous\"}") ==
        "1");
  CHECK(m.samples.at("casad_alerts_total{kind=\"token_replay\"}") == "1");
  CHECK(m.samples.at("casad_tokens_stored") == "2");
}

TEST_CASE("metrics: label values are escaped") {
  MetricsWriter out;
  out.family("a", "gauge", "with \\ and \"quotes\"\nand lines").sample({{"l", "a\\b\"c\nd"}, {"m", ""}}, 3).sample(4);
  std::string text = out.take();
  CHECK(text ==
        "# HELP a with \\\\ and \"quotes\"\\nand lines\n# TYPE a gauge\na{l=\"a\\\\b\\\"c\\nd\",m=\"\"} 3\na 4\n");
  read_strictly(text);
}

TEST_CASE("metrics: instances are bounded") {
  test::FakeState state;
  for (std::uint64_t i = 0; i < 2 * kMaxInstances; ++i) {
    auto s = test::sighting(1, std::chrono::system_clock::now());
    s.instance = {100'000 + i, nullptr};
    state.tracker.see(s, 0);
  }
  Metrics m = read_strictly(write_metrics(state, std::chrono::system_clock::now()));
  std::size_t shown = 0;
  for (const auto& [name, value] : m.samples) shown += name.starts_with("casad_instance_tokens_distinct{") ? 1 : 0;
  CHECK(shown == kMaxInstances);
  CHECK(std::stoul(m.samples.at("casad_instances_hidden")) ==
        state.tracker.activity().instances().size() - kMaxInstances);
}

// See router.h.
#include "api/router.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <random>
#include <type_traits>

#include "api/json.h"
#include "api/metrics.h"
#include "api/openapi.h"
#include "api/query.h"
#include "base/text.h"

namespace casa::api {
namespace {

struct Call {
  const State& state;
  const Cursors& cursors;
  const RouteInfo& route;
  const Query& query;
  Time now;
  std::string_view last_segment;  // of a route that ends in {one}
};

Reply json_reply(JsonWriter& out) {
  Reply reply;
  reply.body = out.take();
  return reply;
}

template <typename View>
Reply whole(const View& view) {
  JsonWriter out;
  write(out, view);
  return json_reply(out);
}

Reply bad_cursor() {
  return problem(
      400,
      "Parameter 'cursor' is not a nextCursor that this list gave in this run of casad. Leave it out to start again.");
}

void end_page(JsonWriter& out, const std::string& next_cursor) {
  out.end_array();
  if (!next_cursor.empty()) out.field("nextCursor", next_cursor);
  out.end_object();
}

// A page of a list whose rows have a unique key: in the order of the keys, from the first one past the cursor. A row
// that comes or goes between two pages therefore neither repeats nor hides another.
template <typename View, typename Key, typename Matches, typename Write>
Reply keyed_page(const Call& call, const std::vector<View>& views, Key key, Matches matches, Write write_item) {
  std::string after;
  if (!call.query.cursor.empty()) {
    auto position = call.cursors.open(call.route.path, call.query.cursor);
    if (!position) return bad_cursor();
    after = std::move(*position);
  }
  std::vector<std::pair<std::string, const View*>> rows;
  for (const View& view : views) {
    if (!matches(view)) continue;
    std::string row_key = key(view);
    if (after.empty() || row_key > after) rows.emplace_back(std::move(row_key), &view);
  }
  std::ranges::sort(rows, {}, [](const auto& row) -> const std::string& { return row.first; });
  std::string next;
  if (rows.size() > call.query.limit) {
    rows.resize(call.query.limit);
    next = call.cursors.seal(call.route.path, rows.back().first);
  }
  JsonWriter out;
  out.begin_object().key("items").begin_array();
  for (const auto& row : rows) write_item(out, *row.second);
  end_page(out, next);
  return json_reply(out);
}

Reply answer_events(const Call& call) {
  EventQuery events{~0u, call.query.ns, call.query.workload};
  if (!call.query.kind.empty()) {
    auto kinds = parse_event_kinds(call.query.kind);
    if (!kinds) return problem(kinds.error());
    events.kinds = *kinds;
  }
  return {200, kEventStream, "", false, std::move(events)};
}

// Parts cannot have a NUL, so no two keys run into one another.
std::string make_key(std::string_view ns, std::string_view name, std::string_view rest) {
  std::string key(ns);
  key += '\0';
  key += name;
  key += '\0';
  key += rest;
  return key;
}

bool in_namespace(const Query& query, const std::string& ns) { return query.ns.empty() || query.ns == ns; }

Reply answer_status(const Call& call) { return whole(call.state.status()); }

Reply answer_stats(const Call& call) {
  JsonWriter out;
  write(out, call.state.stats(), call.state.tokens(), call.now);
  return json_reply(out);
}

Reply answer_metrics(const Call& call) { return {200, kMetricsText, write_metrics(call.state, call.now), false, {}}; }

Reply answer_policies(const Call& call) {
  auto matches = [&](const PolicyView& policy) {
    auto target = policy.target.substr(policy.target.find('/') + 1);  // "Deployment/agent"; npos + 1 is 0
    return in_namespace(call.query, policy.ns) && means_workload(call.query.workload, policy.ns, target);
  };
  return keyed_page(
      call, call.state.policies(), [](const PolicyView& p) { return make_key(p.ns, p.name, p.kind); }, matches,
      [](JsonWriter& out, const PolicyView& p) { write(out, p); });
}

Reply answer_workloads(const Call& call) {
  auto matches = [&](const WorkloadView& workload) {
    return in_namespace(call.query, workload.ns) && means_workload(call.query.workload, workload.ns, workload.name);
  };
  return keyed_page(
      call, call.state.workloads(), [](const WorkloadView& w) { return make_key(w.ns, w.name, w.kind); }, matches,
      [&](JsonWriter& out, const WorkloadView& w) { write(out, w, call.state.tokens().activity()); });
}

Reply answer_endpoints(const Call& call) {
  auto matches = [&](const EndpointView& endpoint) {
    // An FQDN is in no namespace: it is where its callers are.
    bool named = !endpoint.fqdn.empty();
    auto in_callers = [&](const std::string& caller) {
      return in_namespace(call.query, caller.substr(0, caller.find('/')));
    };
    if (!call.query.ns.empty() &&
        !(named ? std::ranges::any_of(endpoint.callers, in_callers) : in_namespace(call.query, endpoint.ns)))
      return false;
    if (call.query.workload.empty()) return true;
    auto is_meant = [&](std::string_view workload) {
      auto slash = workload.find('/');
      if (slash == std::string_view::npos) return means_workload(call.query.workload, endpoint.ns, workload);
      return means_workload(call.query.workload, workload.substr(0, slash), workload.substr(slash + 1));
    };
    return std::ranges::any_of(named ? endpoint.callers : endpoint.workloads, is_meant) ||
           std::ranges::any_of(endpoint.pods, is_meant);
  };
  auto key = [](const EndpointView& e) {
    return make_key(e.ns, e.fqdn.empty() ? e.name : e.fqdn, fmt::format("{:05} {}", e.port, e.protocol));
  };
  return keyed_page(call, call.state.endpoints(), key, matches,
                    [](JsonWriter& out, const EndpointView& e) { write(out, e); });
}

// A page of a store whose rows have numbers that only grow, newest first.
template <typename Store, typename Filter>
Reply numbered_page(const Call& call, const Store& store, const Filter& filter) {
  std::uint64_t before_id = 0;
  if (!call.query.cursor.empty()) {
    auto position = call.cursors.open(call.route.path, call.query.cursor);
    auto id = position ? parse_number(*position, UINT64_MAX) : std::nullopt;
    if (!id) return bad_cursor();
    before_id = *id;
  }
  auto page = store.query(filter, call.query.limit, before_id);
  std::string next;
  if (page.next_before_id) next = call.cursors.seal(call.route.path, std::to_string(*page.next_before_id));
  JsonWriter out;
  out.begin_object().key("items").begin_array();
  for (const auto& row : page.rows) {
    if constexpr (std::is_pointer_v<std::remove_cvref_t<decltype(row)>>) write(out, *row);
    else write(out, row);
  }
  end_page(out, next);
  return json_reply(out);
}

Reply answer_flows(const Call& call) {
  const Query& query = call.query;
  store::FlowFilter filter{query.since,   query.until,  query.ns,       query.workload,
                           query.verdict, query.reason, query.direction};
  return numbered_page(call, call.state.flows(), filter);
}

Reply answer_tokens(const Call& call) {
  const Query& query = call.query;
  token::TokenFilter filter{query.since, query.until, query.ns, query.workload};
  return numbered_page(call, call.state.tokens().ledger(), filter);
}

Reply answer_token(const Call& call) {
  auto sha256 = event::parse_sha256(call.last_segment);
  if (!sha256)
    return problem(400, "A token is named by its SHA-256, 64 hexadecimal digits: printf %s \"$TOKEN\" | sha256sum.");
  const auto* row = call.state.tokens().ledger().find(*sha256);
  if (row == nullptr)
    return problem(
        404, "No token with this SHA-256 is remembered: it was not seen, or not for so long that it was forgotten.");
  JsonWriter out;
  write_token_with_path(out, *row);
  return json_reply(out);
}

Reply answer_alerts(const Call& call) {
  const Query& query = call.query;
  token::AlertFilter filter{query.since, query.until, query.ns, query.workload, {}};
  if (!query.kind.empty()) {
    auto kind = parse_alert_kind(query.kind);
    if (!kind) return problem(kind.error());
    filter.kind = *kind;
  }
  return numbered_page(call, call.state.tokens().alerts(), filter);
}

Reply answer_explain(const Call& call) {
  const Query& query = call.query;
  if (query.baseline) {
    if (!query.from.empty() || !query.to.empty())
      return problem(400, "Ask for the baseline, or from one end to another, not for both.");
    JsonWriter out;
    out.begin_object();
    write_strings(out, "baseline", call.state.baseline());
    out.end_object();
    return json_reply(out);
  }
  if (query.from.empty() || query.to.empty())
    return problem(400,
                   "Parameters 'from' and 'to' are both needed, as in from=team-a/agent and to=tools/mcp-server:8080; "
                   "or baseline=true.");
  auto answer = call.state.explain({query.from, query.to, query.protocol});
  return answer ? whole(*answer) : problem(answer.error());
}

Reply answer_health(const Call&) { return {200, kPlainText, "ok\n", false, {}}; }

Reply answer_ready(const Call& call) {
  StatusView status = call.state.status();
  if (!status.ready) return not_ready(status.phase, status.problems);
  JsonWriter out;
  out.begin_object().field("ready", true).field("phase", status.phase);
  write_strings(out, "problems", status.problems);
  out.end_object();
  return json_reply(out);
}

Reply answer_openapi(const Call&) { return {200, kJson, std::string(openapi_json()), false, {}}; }

constexpr std::array<std::string_view, 9> kFlowParameters{"since",  "until",     "namespace", "workload", "verdict",
                                                          "reason", "direction", "limit",     "cursor"};
constexpr std::array<std::string_view, 4> kListParameters{"namespace", "workload", "limit", "cursor"};
constexpr std::array<std::string_view, 6> kTokenParameters{"since",    "until", "namespace",
                                                           "workload", "limit", "cursor"};
constexpr std::array<std::string_view, 7> kAlertParameters{"since", "until", "namespace", "workload",
                                                           "kind",  "limit", "cursor"};
constexpr std::array<std::string_view, 3> kEventParameters{"namespace", "workload", "kind"};
constexpr std::array<std::string_view, 4> kExplainParameters{"from", "to", "protocol", "baseline"};

constexpr std::size_t kRoutes = 15;
constexpr std::array<RouteInfo, kRoutes> kRouteTable{{{"/v1/status", {}},
                                                      {"/v1/policies", kListParameters},
                                                      {"/v1/workloads", kListParameters},
                                                      {"/v1/endpoints", kListParameters},
                                                      {"/v1/flows", kFlowParameters},
                                                      {"/v1/tokens", kTokenParameters},
                                                      {"/v1/tokens/{sha256}", {}},
                                                      {"/v1/alerts", kAlertParameters},
                                                      {"/v1/events", kEventParameters},
                                                      {"/v1/stats", {}},
                                                      {"/v1/explain", kExplainParameters},
                                                      {"/metrics", {}},
                                                      {"/healthz", {}},
                                                      {"/readyz", {}},
                                                      {"/openapi.json", {}}}};
constexpr std::array<Reply (*)(const Call&), kRoutes> kAnswers{
    answer_status,  answer_policies, answer_workloads, answer_endpoints, answer_flows,
    answer_tokens,  answer_token,    answer_alerts,    answer_events,    answer_stats,
    answer_explain, answer_metrics,  answer_health,    answer_ready,     answer_openapi};

// Whether `path` is the route's; of one that ends in {one}, with what stands there.
bool is_route(std::string_view route, std::string_view path, std::string_view& last_segment) {
  auto brace = route.find('{');
  if (brace == std::string_view::npos) return route == path;
  if (!path.starts_with(route.substr(0, brace))) return false;
  last_segment = path.substr(brace);
  return !last_segment.empty() && last_segment.find('/') == std::string_view::npos;
}

std::string_view nearest_route(std::string path) {
  std::array<std::string_view, kRoutes> paths;
  std::ranges::transform(kRouteTable, paths.begin(), &RouteInfo::path);
  while (path.size() > 1 && path.ends_with('/')) path.pop_back();
  for (auto candidate : paths) {
    if (candidate == path || candidate == "/v1" + path || path.starts_with(std::string(candidate) + "/"))
      return candidate;
  }
  return nearest_name(path, paths);
}

Reply unknown_path(const std::string& path) {
  constexpr std::size_t kMaxEchoed = 200;
  std::string shown = path.size() <= kMaxEchoed ? path : path.substr(0, kMaxEchoed) + "...";
  auto near = path.size() <= kMaxEchoed ? nearest_route(path) : std::string_view{};
  if (near.empty()) return problem(404, fmt::format("There is no {}. /openapi.json lists the routes.", shown));
  return problem(404, fmt::format("There is no {}. Did you mean {}?", shown, near));
}

std::uint64_t random_seed() {
  std::random_device device;
  return std::uint64_t{device()} << 32 | device();
}

}  // namespace

std::span<const RouteInfo> route_table() { return kRouteTable; }

Router::Router(const State& state) : state_(state), cursors_(random_seed()) {}

Reply Router::handle(std::string_view method, std::string_view target, Time now) const {
  if (method != "GET" && method != "HEAD")
    return problem(405, "This API only reads: use GET or HEAD. Policies change through files, not here.");
  auto parsed = parse_target(target);
  if (!parsed) return problem(parsed.error());
  std::string_view last_segment;
  auto route = std::ranges::find_if(
      kRouteTable, [&](const RouteInfo& info) { return is_route(info.path, parsed->path, last_segment); });
  if (route == kRouteTable.end()) return unknown_path(parsed->path);
  auto query = parse_query(*parsed, route->parameters, now);
  if (!query) return problem(query.error());
  Call call{state_, cursors_, *route, *query, now, last_segment};
  return kAnswers[static_cast<std::size_t>(route - kRouteTable.begin())](call);
}

}  // namespace casa::api

#include "app/status_writer.h"

#include <fmt/chrono.h>
#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "base/json.h"

namespace casa::app {
namespace {

using policy::NamespacedName;
using std::chrono::milliseconds;

constexpr std::string_view kManager = "casad";
constexpr std::size_t kMaxMessage = 32 * 1024;  // of a status; an Event's message may have 1024 bytes
constexpr std::size_t kMaxEventMessage = 1024;
constexpr double kEventsPerSecond = 0.2, kMaxEventBurst = 25;

std::string rfc3339(std::chrono::system_clock::time_point time) {
  return fmt::format("{:%FT%TZ}", std::chrono::floor<std::chrono::seconds>(time));
}

// At a character's border.
std::string shortened(std::string text, std::size_t most) {
  if (text.size() <= most) return text;
  std::size_t end = most - 3;
  while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xC0) == 0x80) --end;
  text.resize(end);
  return text + "...";
}

std::string path_of(const NamespacedName& name) {
  return fmt::format("/apis/casa.io/v1alpha1/namespaces/{}/casapolicies/{}", name.ns, name.name);
}

}  // namespace

StatusWriter::StatusWriter(boost::asio::io_context& io, source::KubeAccess access, std::string node,
                           std::function<void(std::string)> on_problem, StatusTimes times)
    : writer_(io, std::move(access)),
      node_(std::move(node)),
      on_problem_(std::move(on_problem)),
      times_(times),
      event_room_(kMaxEventBurst) {}

bool StatusWriter::learn(const policy::ApiStatus& now) {
  auto [it, fresh] = rows_.try_emplace({now.ns, now.name});
  Row& row = it->second;
  bool same_spec =
      !fresh && now.generation != 0 && row.server.uid == now.uid && row.server.generation == now.generation;
  if (!fresh && row.server.uid != now.uid) row = {};
  row.server = now;
  stale_ = row.told = true;
  return !same_spec;
}

void StatusWriter::forget(const NamespacedName& name) { rows_.erase(name); }

void StatusWriter::follow(const compile::Compiled& compiled, const identity::Snapshot& snapshot,
                          Clock::time_point now) {
  if (std::exchange(stale_, false)) plan_all(compiled, snapshot, now);
  for (auto& [name, row] : rows_)
    if (row.waits && !row.under_way && row.due <= now) write(name, row, now);
}

void StatusWriter::plan_all(const compile::Compiled& compiled, const identity::Snapshot& snapshot,
                            Clock::time_point now) {
  for (const auto& report : compiled.policies) {
    if (report.kind != "CASAPolicy") continue;
    if (auto row = rows_.find(report.name); row != rows_.end()) plan(row->second, report, snapshot, now);
  }
}

void StatusWriter::plan(Row& row, const compile::PolicyReport& report, const identity::Snapshot& snapshot,
                        Clock::time_point now) {
  compile::PolicyStatus wanted = compile::cluster_status(report, snapshot, node_, row.server.message);
  wanted.message = shortened(std::move(wanted.message), kMaxMessage);
  bool written = row.server.phase == compile::to_string(wanted.phase) && row.server.message == wanted.message;
  if (written) {
    row.waits = false;
    row.wanted = std::move(wanted);
    return;
  }
  int rank = compile::writer_rank(report, snapshot, node_, row.server.uid, row.server.message, wanted.message);
  row.wanted = std::move(wanted);
  if (row.waits && row.rank == rank) return;
  row.rank = rank;
  row.waits = rank >= 0;
  row.due = now + times_.settle + times_.turn * std::max(rank, 0);
  if (row.last != Clock::time_point{}) row.due = std::max(row.due, row.last + times_.between);
}

void StatusWriter::write(const NamespacedName& name, Row& row, Clock::time_point now) {
  JsonWriter body;
  body.begin_object().field("apiVersion", "casa.io/v1alpha1").field("kind", "CASAPolicy");
  body.key("metadata").begin_object().field("name", name.name).field("namespace", name.ns);
  // Not another policy of that name, made meanwhile.
  if (!row.server.uid.empty()) body.field("uid", row.server.uid);
  body.end_object().key("status").begin_object();
  body.field("phase", compile::to_string(row.wanted.phase))
      .field("lastSyncTime", rfc3339(std::chrono::system_clock::now()))
      .field("message", row.wanted.message);
  body.end_object().end_object();
  source::KubeRequest request{.method = boost::beast::http::verb::patch,
                              .target = fmt::format("{}/status?fieldManager={}&force=true", path_of(name), kManager),
                              .content_type = "application/apply-patch+yaml",
                              .body = body.take()};
  Sent sent{name, row.server.uid, row.wanted};
  if (!writer_.send(std::move(request), [this, sent = std::move(sent)](const Status& outcome) { done(sent, outcome); }))
    return;  // the next second
  row.under_way = true;
  row.told = false;
  row.last = now;
  // The watch may tell of the new status before the answer to the write comes.
  const char* failed = compile::to_string(compile::Phase::kFailed);
  row.fails_anew = row.wanted.phase == compile::Phase::kFailed && row.server.phase != failed;
}

void StatusWriter::done(const Sent& sent, const Status& outcome) {
  if (outcome) ++written_;
  auto it = rows_.find(sent.name);
  // One that was made anew under that name has writes of its own.
  if (it == rows_.end() || it->second.server.uid != sent.uid) return;
  Row& row = it->second;
  row.under_way = false;
  Clock::time_point now = Clock::now();
  if (outcome) {
    on_problem_("");
    // The watch will say the same; until then it is not written again.
    if (!row.told) {
      row.server.phase = compile::to_string(sent.status.phase);
      row.server.message = sent.status.message;
    }
    row.waits = false;
    stale_ = true;  // it may have changed while the write was under way
    if (row.fails_anew) tell_failure(sent, now);
    return;
  }
  row.due = now + times_.retry;
  if (outcome.error().code == ErrorCode::kNotFound) return;  // deleted meanwhile; the watch will tell
  ++failed_;
  on_problem_(fmt::format("the status of CASAPolicy {}/{} cannot be written: {}", sent.name.ns, sent.name.name,
                          outcome.error().context));
}

void StatusWriter::tell_failure(const Sent& sent, Clock::time_point now) {
  JsonWriter involved;
  involved.begin_object()
      .field("apiVersion", "casa.io/v1alpha1")
      .field("kind", "CASAPolicy")
      .field("namespace", sent.name.ns)
      .field("name", sent.name.name)
      .field("uid", sent.uid)
      .end_object();
  send_event(sent.name.ns, involved.str(), "PolicyFailed", sent.status.message, now);
}

void StatusWriter::tell(const token::Alert& alert, Clock::time_point now) {
  const auto& who = alert.workload.who;
  if (!who || who->ns.empty()) return;  // an Event has to be in a namespace
  JsonWriter involved;
  involved.begin_object();
  bool workload = token::is_workload(alert.workload);
  involved.field("kind", workload ? who->workload_kind : "Namespace");
  involved.field("apiVersion", workload && who->workload_kind != "Pod" ? "apps/v1" : "v1");
  if (workload) involved.field("namespace", who->ns);
  involved.field("name", workload ? who->name : who->ns).end_object();
  send_event(who->ns, involved.str(), token::to_string(alert.kind), alert.message, now);
}

void StatusWriter::send_event(const std::string& ns, std::string_view involved, std::string_view reason,
                              std::string_view message, Clock::time_point now) {
  if (event_room_at_ != Clock::time_point{})
    event_room_ = std::min(
        kMaxEventBurst, event_room_ + kEventsPerSecond * std::chrono::duration<double>(now - event_room_at_).count());
  event_room_at_ = now;
  if (event_room_ < 1) return;
  event_room_ -= 1;
  std::string time = rfc3339(std::chrono::system_clock::now());
  JsonWriter body;
  body.begin_object().field("apiVersion", "v1").field("kind", "Event");
  body.key("metadata").begin_object().field("generateName", "casad-").field("namespace", ns).end_object();
  body.key("involvedObject").raw(involved);
  body.field("type", "Warning")
      .field("reason", reason)
      .field("message", shortened(std::string(message), kMaxEventMessage))
      .field("firstTimestamp", time)
      .field("lastTimestamp", time)
      .field("count", 1);
  body.key("source").begin_object().field("component", kManager).field("host", node_).end_object();
  body.field("reportingComponent", kManager).field("reportingInstance", node_).end_object();
  source::KubeRequest request{.method = boost::beast::http::verb::post,
                              .target = fmt::format("/api/v1/namespaces/{}/events", ns),
                              .content_type = "application/json",
                              .body = body.take()};
  // An Event is a courtesy: alerts and statuses are kept all the same.
  (void)writer_.send(std::move(request), [this](const Status& outcome) {
    if (!outcome) ++failed_;
  });
}

}  // namespace casa::app

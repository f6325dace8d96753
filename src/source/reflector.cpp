#include "source/reflector.h"

#include <algorithm>
#include <boost/asio/as_tuple.hpp>
#include <boost/asio/use_awaitable.hpp>

namespace casa::source {
namespace {

namespace asio = boost::asio;
using std::chrono::milliseconds;

constexpr auto kAwait = asio::as_tuple(asio::use_awaitable);
constexpr std::size_t kMaxStatusBytes = 64 * 1024;
// The server is to end a watch by itself; one that does not is ended here so much later.
constexpr std::chrono::seconds kLate{30};
// A watch that is over sooner, without an event, is one that something in between does not let live.
constexpr milliseconds kShortWatch{1000};

}  // namespace

Reflector::Reflector(asio::io_context& io, std::shared_ptr<KubeLogin> login, KubeResource resource, ObjectTable& table,
                     ReflectorListener& listener, const KubernetesOptions& options)
    : connection_(io, std::move(login), {options.connect_timeout, options.request_timeout}),
      resource_(std::move(resource)),
      table_(table),
      listener_(listener),
      options_(options),
      stream_(table.add_stream()),
      timer_(io),
      random_(std::random_device{}()),
      retry_(options.first_retry) {}

void Reflector::stop() {
  stopped_ = true;
  timer_.cancel();
  connection_.close();
}

void Reflector::drop(const std::string& why) {
  if (!heard_ || stopped_) return;
  fault_ = why;
  connection_.close();
}

void Reflector::hurry() { timer_.cancel(); }

void Reflector::take_exception(const std::string& what) {
  connection_.close();
  heard_.reset();
  version_.clear();
  pause_first_ = true;
  fail_with("cannot be followed: " + what);
}

KubernetesResource Reflector::describe() const { return {resource_.name, state_, table_.size(stream_), problem_}; }

asio::awaitable<void> Reflector::run() {
  if (std::exchange(pause_first_, false)) co_await pause(Outcome::kFailed);
  while (!stopped_) {
    Outcome outcome = Outcome::kGood;
    if (unsure_ && !version_.empty()) outcome = co_await check_version();
    if (outcome == Outcome::kGood && !stopped_) {
      if (version_.empty()) outcome = co_await list();
      else outcome = co_await watch();
    }
    if (stopped_) co_return;
    bool at_once = outcome == Outcome::kGood;
    if (outcome == Outcome::kExpired) {
      version_.clear();
      at_once = expired_in_row_++ == 0;
    }
    if (!at_once) co_await pause(outcome);
  }
}

// A pause is a random part of a time that doubles, so that the nodes of a cluster do not come back all at once.
asio::awaitable<void> Reflector::pause(Outcome outcome) {
  milliseconds most = outcome == Outcome::kAbsent ? options_.absent_retry : retry_;
  if (outcome != Outcome::kAbsent) retry_ = std::min(retry_ * 2, options_.longest_retry);
  timer_.expires_after(std::max(most - random_part(most / 2), std::exchange(retry_after_, milliseconds{0})));
  co_await timer_.async_wait(kAwait);
}

milliseconds Reflector::random_part(milliseconds most) {
  return milliseconds(
      std::uniform_int_distribution<milliseconds::rep>(0, std::max<milliseconds::rep>(most.count(), 0))(random_));
}

std::string Reflector::target(const std::string& query) const {
  std::string text = resource_.paths[path_] + "?" + query;
  if (!resource_.fields.empty()) text += "&fieldSelector=" + percent_encode(resource_.fields);
  return text;
}

void Reflector::set(State state, std::string problem) {
  state_ = state;
  problem_ = std::move(problem);
  listener_.on_state();
}

Reflector::Outcome Reflector::fail_with(const std::string& what) {
  if (!stopped_) set(State::kFailing, what);
  return Outcome::kFailed;
}

// Sends the request; kGood: the answer's body can be read. Whatever else is dealt with completely.
asio::awaitable<Reflector::Outcome> Reflector::open(const std::string& query, const char* verb) {
  KubeRequest request;
  request.target = target(query);
  Result<KubeAnswer> answer = co_await connection_.send(std::move(request));
  if (stopped_) co_return Outcome::kFailed;
  if (!answer) co_return fail_with("cannot be reached: " + answer.error().context);
  if (answer->status == 200) co_return Outcome::kGood;
  Result<std::string> body = co_await connection_.read_all(kMaxStatusBytes);
  connection_.close();
  if (stopped_) co_return Outcome::kFailed;
  StatusText status;
  if (body) status = json_.read_status(*body);
  std::string text = status.message.empty() ? fmt::format("it answers {}", answer->status) : status.message;
  retry_after_ = answer->retry_after.value_or(std::chrono::seconds{0});
  if (answer->status == 410) co_return Outcome::kExpired;
  if (answer->status == 404) {
    path_ = (path_ + 1) % resource_.paths.size();
    if (++absent_ < resource_.paths.size()) co_return Outcome::kExpired;  // the next version is asked for
    absent_ = 0;
    if (resource_.may_be_absent) co_return take_absence();
  }
  if (answer->status == 403) {
    set(State::kForbidden, fmt::format("does not allow to {} {}: {}", verb, resource_.name, text));
    co_return Outcome::kFailed;
  }
  co_return fail_with(fmt::format("refuses to {} {}: {} (HTTP {})", verb, resource_.name, text, answer->status));
}

// A kind that was there and is not any more takes its objects away one by one, as events. Without them this is as likely a server that is not
// what it was.
Reflector::Outcome Reflector::take_absence() {
  if (std::size_t known = table_.size(stream_); known != 0)
    return fail_with(fmt::format("does not know {} any more (HTTP 404)", resource_.name));
  listed_ = true;
  if (!std::exchange(noted_absent_, true))
    listener_.on_note(fmt::format("the API server has no {} yet; it is asked again every {} s", resource_.name,
                                  std::chrono::duration_cast<std::chrono::seconds>(options_.absent_retry).count()));
  if (!stopped_) set(State::kAbsent);
  return Outcome::kAbsent;
}

asio::awaitable<Reflector::Outcome> Reflector::list() {
  if (state_ == State::kWatching) set(State::kListing);
  table_.begin_list(stream_);
  std::string next, version;
  bool first = true;
  while (first || !next.empty()) {
    std::string before = next;
    Outcome outcome = co_await list_page(next, version);
    if (outcome == Outcome::kExpired && !first) pages_ = false;
    if (outcome != Outcome::kGood) co_return outcome;
    if (!next.empty() && next == before)
      co_return fail_with(fmt::format("sends a list of {} that does not end", resource_.name));
    first = false;
  }
  pages_ = true;
  version_ = std::move(version);
  unsure_ = false;
  finish_list();
  co_return Outcome::kGood;
}

// `next`: in, the page that is wanted, out, the one behind it. `version`: of the first page, which all have in common.
asio::awaitable<Reflector::Outcome> Reflector::list_page(std::string& next, std::string& version) {
  std::string query = pages_ ? fmt::format("limit={}", options_.page) : std::string("limit=0");
  if (!next.empty()) query += "&continue=" + percent_encode(next);
  Outcome outcome = co_await open(query, "list");
  if (outcome != Outcome::kGood) co_return outcome;
  absent_ = 0;
  JsonSplit split(JsonSplit::Shape::kList, kMaxDocumentBytes, [this](std::string& text) { return take_item(text); });
  Status taken;
  for (;;) {
    Result<std::string_view> piece = co_await connection_.read(options_.request_timeout);
    if (stopped_) co_return Outcome::kFailed;
    if (!piece) co_return fail_with("does not finish its answer: " + piece.error().context);
    taken = piece->empty() ? split.finish() : split.feed(*piece);
    if (stopped_) co_return Outcome::kFailed;
    if (!taken || piece->empty()) break;
  }
  Result<ListHead> head;
  if (taken) head = json_.read_list(split.rest());
  if (!taken || !head) {
    connection_.close();
    co_return fail_with(taken ? head.error().context : taken.error().context);
  }
  if (version.empty()) version = head->version;
  next = head->next;
  co_return Outcome::kGood;
}

Status Reflector::take_item(std::string& text) {
  if (stopped_) return {};
  TRY_ASSIGN(ObjectHead head, json_.read_object(text));
  announce(head, std::move(text));
  return {};
}

// The table is to know nothing that the listener does not: where it throws, the next list tells it again.
void Reflector::announce(const ObjectHead& head, std::string&& text) {
  std::string origin = table_.origin_of(head);
  if (!table_.note(stream_, origin, head)) return;
  try {
    listener_.on_object({origin, origin, Format::kApiObject, std::move(text), table_.kind()});
  } catch (...) {
    table_.doubt(origin);
    throw;
  }
}

void Reflector::announce_gone(const std::string& origin) {
  listener_.on_gone(origin);
  table_.remove(origin);
}

void Reflector::finish_list() {
  for (const auto& origin : table_.vanished(stream_)) {
    if (stopped_) return;
    announce_gone(origin);
  }
  if (noted_absent_ && !stopped_) listener_.on_note(fmt::format("the API server has {} now", resource_.name));
  noted_absent_ = false;
  listed_ = true;
  if (!stopped_) set(State::kListing);
}

// An API server whose etcd was set back to an older state knows nothing of our version, and a watch from there would wait for ever.
asio::awaitable<Reflector::Outcome> Reflector::check_version() {
  Outcome outcome = co_await open("limit=1", "list");
  if (outcome != Outcome::kGood) co_return outcome;
  JsonSplit split(JsonSplit::Shape::kList, kMaxDocumentBytes, [](std::string&) { return Status(); });
  Result<std::string> body = co_await connection_.read_all(kMaxDocumentBytes + kMaxStatusBytes);
  if (stopped_) co_return Outcome::kFailed;
  if (!body) co_return fail_with("does not finish its answer: " + body.error().context);
  Status taken = split.feed(*body);
  if (taken) taken = split.finish();
  Result<ListHead> head;
  if (taken) head = json_.read_list(split.rest());
  if (!taken || !head) {
    connection_.close();
    co_return fail_with(taken ? head.error().context : taken.error().context);
  }
  unsure_ = false;
  // At once: the list is what comes next.
  if (version_number(head->version) < version_number(version_)) version_.clear();
  co_return Outcome::kGood;
}

asio::awaitable<Reflector::Outcome> Reflector::watch() {
  auto span = options_.longest_watch - options_.shortest_watch;
  auto most = options_.shortest_watch + std::chrono::duration_cast<std::chrono::seconds>(random_part(span));
  std::string query = fmt::format("watch=1&allowWatchBookmarks=true&timeoutSeconds={}&resourceVersion={}", most.count(),
                                  percent_encode(version_));
  Outcome outcome = co_await open(query, "watch");
  if (outcome != Outcome::kGood) co_return outcome;
  absent_ = 0;
  expired_ = ended_by_event_ = false;
  fault_.clear();
  events_ = 0;
  auto began = Clock::now();
  heard_ = began;
  set(State::kWatching);
  JsonSplit split(JsonSplit::Shape::kStream, kMaxDocumentBytes + kMaxStatusBytes,
                  [this](std::string& line) { return take_event(line); });
  bool broken = false;
  for (;;) {
    milliseconds left = std::chrono::duration_cast<milliseconds>(began + most + kLate - Clock::now());
    Result<std::string_view> piece = co_await connection_.read(left);
    if (stopped_) co_return Outcome::kFailed;
    heard_ = Clock::now();
    broken = !piece;
    if (broken) break;
    bool ended = piece->empty();
    Status taken = ended ? split.finish() : split.feed(*piece);
    if (stopped_) co_return Outcome::kFailed;
    if (!taken) {
      // What cannot be read is left behind with a list.
      if (!ended_by_event_) version_.clear();
      fault_ = std::move(taken).error().context;
      break;
    }
    if (ended) break;
  }
  heard_.reset();
  co_return end_watch(broken, Clock::now() - began);
}

// `broken`: the connection ended before the answer did. That alone is nobody's problem: it is one when the next one cannot be made.
Reflector::Outcome Reflector::end_watch(bool broken, Clock::duration lasted) {
  bool lived = !version_.empty() && (events_ != 0 || lasted >= kShortWatch);
  if (lived) {
    retry_ = options_.first_retry;
    expired_in_row_ = 0;
  }
  if (broken || !fault_.empty()) connection_.close();
  if (expired_) return Outcome::kExpired;
  if (!fault_.empty()) {
    unsure_ = true;
    return fail_with(std::exchange(fault_, {}));
  }
  if (!broken && lived) return Outcome::kGood;
  unsure_ = broken;
  set(State::kListing);
  return Outcome::kFailed;
}

Status Reflector::take_event(std::string& line) {
  if (stopped_) return {};
  TRY_ASSIGN(WatchEvent event, json_.read_event(line));
  using Type = WatchEvent::Type;
  if (event.type == Type::kError) {
    ended_by_event_ = true;
    expired_ = event.code == 410;
    return fail(ErrorCode::kSystem, "ends the watch of {}: {} ({})", resource_.name, event.message, event.code);
  }
  ++events_;
  version_ = event.head.version;
  if (event.type == Type::kBookmark) return {};
  if (event.type != Type::kDeleted) announce(event.head, std::string(event.object));
  else if (std::string origin = table_.origin_of(event.head); table_.has(stream_, origin)) announce_gone(origin);
  return {};
}

}  // namespace casa::source

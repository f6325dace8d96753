// See session.h. Coroutine rules for g++ 12: one co_await a statement, never in a condition, named locals only.
#include "api/session.h"

#include <fmt/format.h>

#include <array>
#include <boost/asio/as_tuple.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/beast/http/string_body.hpp>
#include <boost/beast/http/write.hpp>
#include <chrono>
#include <ctime>
#include <exception>
#include <optional>

#include "base/log.h"

namespace casa::api {
namespace {

namespace asio = boost::asio;
namespace http = boost::beast::http;
using boost::system::error_code;

constexpr auto kAwait = asio::as_tuple(asio::use_awaitable);
constexpr std::size_t kReadBytes = 4096;
// A pipelining client may have sent some of its next requests with this one.
constexpr std::size_t kMaxBuffered = kMaxHeaderBytes + kReadBytes;

// What a client is told whose request could not be read; nothing when it went away, or was too slow to be told.
std::optional<Reply> read_failure(const error_code& ec) {
  if (ec == http::error::header_limit)
    return problem(431, fmt::format("The request line and headers are longer than {} bytes.", kMaxHeaderBytes));
  const error_code any_http_error = http::error::bad_method;
  if (ec.category() != any_http_error.category()) return std::nullopt;
  return problem(400, fmt::format("This is not a request of HTTP/1.1 or HTTP/1.0: {}.", ec.message()));
}

std::string http_date() {
  std::time_t now = std::time(nullptr);
  std::tm parts{};
  gmtime_r(&now, &parts);
  std::array<char, 40> text{};
  std::size_t n = std::strftime(text.data(), text.size(), "%a, %d %b %Y %H:%M:%S GMT", &parts);
  return {text.data(), n};
}

}  // namespace

Session::Session(std::shared_ptr<Hub> hub, Socket socket, Kind kind)
    : hub_(std::move(hub)), stream_(std::move(socket)), buffer_(kMaxBuffered), kind_(kind) {
  (kind_ == Kind::kAdmitted ? hub_->admitted : hub_->turned_away).insert(this);
}

Session::~Session() { (kind_ == Kind::kAdmitted ? hub_->admitted : hub_->turned_away).erase(this); }

void Session::close() { stream_.close(); }

asio::awaitable<void> Session::run() {
  if (kind_ == Kind::kTurnedAway) {
    Reply reply =
        problem(503, fmt::format("casad serves {} connections at once, and all are taken. Try again in a moment.",
                                 hub_->limits.connections));
    co_await refuse(std::move(reply), false);
    co_return;
  }
  bool more = true;
  while (more) {
    more = co_await await_first_byte();
    if (more) more = co_await serve_one();
  }
}

// Waiting for a request to begin may take long; once it has begun, it must come quickly.
asio::awaitable<bool> Session::await_first_byte() {
  if (hub_->stopping) co_return false;
  if (buffer_.size() != 0) co_return true;
  stream_.expires_after(hub_->limits.idle);
  auto space = buffer_.prepare(kReadBytes);
  auto result = co_await stream_.async_read_some(space, kAwait);
  if (std::get<0>(result)) co_return false;
  buffer_.commit(std::get<1>(result));
  co_return true;
}

// Bytes that wait in buffer_ go first. Beast's own header limit holds per piece that it parses, so a client that sends its
// fields one by one would pass it: the whole is counted here.
asio::awaitable<error_code> Session::read_header(Parser& parser) {
  error_code ec;
  std::size_t parsed = 0;
  for (;;) {
    std::size_t used = parser.put(asio::const_buffer(buffer_.data()), ec);
    buffer_.consume(used);
    parsed += used;
    bool complete = parser.is_header_done();
    if (ec && ec != http::error::need_more) co_return ec;
    if (parsed + (complete ? 0 : buffer_.size()) > kMaxHeaderBytes) co_return http::error::header_limit;
    if (complete) co_return error_code();
    auto space = buffer_.prepare(kReadBytes);
    auto result = co_await stream_.async_read_some(space, kAwait);
    if (std::get<0>(result)) co_return std::get<0>(result);
    buffer_.commit(std::get<1>(result));
  }
}

asio::awaitable<bool> Session::serve_one() {
  Parser parser;
  parser.header_limit(kMaxHeaderBytes);
  parser.body_limit(boost::none);  // any body is refused by answer(), with a reason
  stream_.expires_after(hub_->limits.header);
  error_code ec = co_await read_header(parser);
  if (hub_->stopping) co_return false;
  if (ec) {
    std::optional<Reply> failure = read_failure(ec);
    if (failure) co_await refuse(std::move(*failure), false);
    co_return false;
  }
  Reply reply = answer(parser);
  const auto& request = parser.get();
  bool head = request.method() == http::verb::head;
  if (reply.close) {
    co_await refuse(std::move(reply), head);
    co_return false;
  }
  if (reply.events && !head) {
    std::string last_id(request["Last-Event-ID"]);
    co_await stream_events(std::move(*reply.events), std::move(last_id));
    co_return false;
  }
  bool keep_alive = request.keep_alive();
  bool sent = co_await send(std::move(reply), request.version(), keep_alive, head);
  co_return sent&& keep_alive;
}

Reply Session::answer(const Parser& parser) const {
  const auto& request = parser.get();
  auto refused = [](unsigned status, std::string_view detail) {
    Reply reply = problem(status, detail);
    reply.close = true;
    return reply;
  };
  // Where a body would end is what request smuggling is about: none is taken, and the connection ends with it.
  bool has_body = parser.content_length().value_or(0) != 0 || request.count(http::field::transfer_encoding) != 0;
  bool reads = request.method() == http::verb::get || request.method() == http::verb::head;
  if (has_body && reads) return refused(413, "This API takes no request bodies.");
  if (request.version() == 11 && request.count(http::field::host) != 1)
    return refused(400, "An HTTP/1.1 request has exactly one Host header.");
  try {
    Reply reply = hub_->router.handle(request.method_string(), request.target(), std::chrono::system_clock::now());
    reply.close = reply.close || has_body;
    if (reply.events && hub_->streams >= hub_->limits.streams)
      return problem(503, fmt::format("casad streams events to {} clients at once, and all are there. Try again later.",
                                      hub_->limits.streams));
    return reply;
  } catch (const std::exception& e) {
    spdlog::error("the API failed to answer {} {}: {}", std::string(request.method_string()),
                  std::string(request.target().substr(0, 200)), e.what());
    return problem(500, "casad failed to answer this; its log says more.");
  }
}

asio::awaitable<bool> Session::send(Reply reply, unsigned version, bool keep_alive, bool head) {
  http::response<http::string_body> response;
  response.version(version == 10 ? 10 : 11);
  response.result(reply.status);
  response.reason(status_phrase(reply.status));
  response.set(http::field::date, http_date());
  response.set(http::field::content_type, reply.content_type);
  response.set(http::field::cache_control, "no-store");
  response.set("X-Content-Type-Options", "nosniff");
  if (reply.status == 405) response.set(http::field::allow, "GET, HEAD");
  if (reply.status == 503) response.set(http::field::retry_after, "1");
  response.content_length(reply.body.size());
  response.keep_alive(keep_alive);
  if (!head) response.body() = std::move(reply.body);
  stream_.expires_after(hub_->limits.write);
  auto result = co_await http::async_write(stream_, response, kAwait);
  co_return !std::get<0>(result);
}

asio::awaitable<void> Session::refuse(Reply reply, bool head) {
  bool sent = co_await send(std::move(reply), 11, false, head);
  if (sent) co_await linger();
}

// Closing while the client still sends would make its send fail before it reads the answer: let it finish, shortly.
asio::awaitable<void> Session::linger() {
  error_code ignored;
  stream_.socket().shutdown(asio::socket_base::shutdown_send, ignored);
  stream_.expires_after(hub_->limits.linger);
  std::array<char, kReadBytes> waste;
  auto space = asio::buffer(waste);
  while (!hub_->stopping) {
    auto result = co_await stream_.async_read_some(space, kAwait);
    if (std::get<0>(result)) co_return;
  }
}

}  // namespace casa::api

// A session that streams events: it writes what there is for its client, and waits for more; it ends with its client, with a write that takes
// too long, or with the server. See session.h, whose coroutine rules hold here too.
#include <array>
#include <boost/asio/as_tuple.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/asio/write.hpp>
#include <chrono>

#include "api/session.h"

namespace casa::api {
namespace {

namespace asio = boost::asio;
using boost::system::error_code;

constexpr auto kAwait = asio::as_tuple(asio::use_awaitable);
// One write; with it a client's share of the memory.
constexpr std::size_t kBatchBytes = 64 * 1024;

// The end of the connection is the end of the stream: no length, and no other answer after it.
constexpr std::string_view kHead =
    "HTTP/1.1 200 OK\r\n"
    "Content-Type: text/event-stream\r\n"
    "Cache-Control: no-store\r\n"
    "X-Content-Type-Options: nosniff\r\n"
    "Connection: close\r\n"
    "\r\n"
    "retry: 2000\n\n";

struct CountedStream {
  explicit CountedStream(std::shared_ptr<Hub> given) : hub(std::move(given)) { ++hub->streams; }
  ~CountedStream() { --hub->streams; }
  CountedStream(const CountedStream&) = delete;
  CountedStream& operator=(const CountedStream&) = delete;
  std::shared_ptr<Hub> hub;
};

}  // namespace

// Shared with the read that waits for the client's end, which may come back after the session is gone.
struct Session::Client final : Feed::Listener {
  explicit Client(const boost::asio::any_io_executor& executor) : timer(executor) {}
  void wake() override { timer.cancel(); }
  asio::steady_timer timer;
  std::array<char, 64> waste{};
  bool gone = false;
};

// Whatever a client sends after its request, it has no business to: that is its end, too.
void Session::watch_for_end(const std::shared_ptr<Client>& client) {
  stream_.expires_never();
  stream_.async_read_some(asio::buffer(client->waste), [client](error_code, std::size_t) {
    client->gone = true;
    client->wake();
  });
}

asio::awaitable<bool> Session::write_text(const std::string& text) {
  stream_.expires_after(hub_->limits.write);
  auto buffer = asio::buffer(text);
  auto result = co_await asio::async_write(stream_, buffer, kAwait);
  co_return !std::get<0>(result);
}

asio::awaitable<void> Session::stream_events(EventQuery query, std::string last_id) {
  CountedStream counted(hub_);
  auto client = std::make_shared<Client>(stream_.get_executor());
  watch_for_end(client);
  Feed::Reader reader(hub_->state.feed(), std::move(query), last_id);
  std::string text(kHead);
  auto beat = std::chrono::steady_clock::now() + hub_->limits.heartbeat;
  while (!client->gone && !hub_->stopping) {
    text += reader.read(kBatchBytes);
    auto now = std::chrono::steady_clock::now();
    if (text.empty() && now >= beat) text = reader.heartbeat();
    if (text.empty()) {
      hub_->state.feed().wake_once(client);
      client->timer.expires_at(beat);
      auto waited = co_await client->timer.async_wait(kAwait);
      static_cast<void>(waited);
      continue;
    }
    bool written = co_await write_text(text);
    if (!written) co_return;
    text.clear();
    beat = std::chrono::steady_clock::now() + hub_->limits.heartbeat;
  }
}

}  // namespace casa::api

// One client: requests in, answers out, in order, until either side has had enough. Every wait has a deadline. A
// defect in an answer becomes a 500 of this client, nothing more.
#pragma once

#include <boost/asio/awaitable.hpp>
#include <boost/asio/local/stream_protocol.hpp>
#include <boost/beast/core/basic_stream.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http/empty_body.hpp>
#include <boost/beast/http/parser.hpp>
#include <memory>
#include <set>

#include "api/router.h"
#include "api/server.h"

namespace casa::api {

class Session;

// What all sessions of a server share. Outlives them.
struct Hub {
  Hub(const State& given_state, const Limits& given) : state(given_state), router(given_state), limits(given) {}
  const State& state;
  Router router;
  Limits limits;
  bool stopping = false;
  std::set<Session*> admitted, turned_away;
  std::size_t streams = 0;
};

class Session {
 public:
  using Socket = boost::asio::local::stream_protocol::socket;
  enum class Kind { kAdmitted, kTurnedAway };

  Session(std::shared_ptr<Hub> hub, Socket socket, Kind kind);
  ~Session();
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

  boost::asio::awaitable<void> run();
  void close();

 private:
  using Parser = boost::beast::http::request_parser<boost::beast::http::empty_body>;

  boost::asio::awaitable<bool> await_first_byte();
  boost::asio::awaitable<boost::system::error_code> read_header(Parser& parser);
  boost::asio::awaitable<bool> serve_one();
  boost::asio::awaitable<bool> send(Reply reply, unsigned version, bool keep_alive, bool head);
  boost::asio::awaitable<void> refuse(Reply reply, bool head);
  boost::asio::awaitable<void> linger();
  [[nodiscard]] Reply answer(const Parser& parser) const;
  // stream.cpp
  struct Client;
  boost::asio::awaitable<void> stream_events(EventQuery query, std::string last_id);
  boost::asio::awaitable<bool> write_text(const std::string& text);
  void watch_for_end(const std::shared_ptr<Client>& client);

  std::shared_ptr<Hub> hub_;
  boost::beast::basic_stream<boost::asio::local::stream_protocol> stream_;
  boost::beast::flat_buffer buffer_;
  Kind kind_;
};

}  // namespace casa::api

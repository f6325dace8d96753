// The REST API on a Unix socket: accepts, bounds and ends sessions. One thread, the io_context's. Reads State only; a
// slow, hostile or dead client costs at most what the limits say.
#pragma once

#include <sys/types.h>

#include <boost/asio/io_context.hpp>
#include <chrono>
#include <cstddef>
#include <memory>
#include <string>

#include "api/state.h"
#include "base/error.h"

namespace casa::api {

inline constexpr const char* kDefaultSocketPath = "/run/casad/casad.sock";
inline constexpr std::size_t kMaxConnections = 64;  // at once; further ones get 503
inline constexpr std::size_t kMaxTurnedAway =
    64;  // of those, how many are told so at once; further ones are just closed
inline constexpr std::size_t kMaxHeaderBytes = 16 * 1024;          // request line and headers
inline constexpr std::chrono::milliseconds kIdleTimeout{10'000};   // until the first byte of the next request
inline constexpr std::chrono::milliseconds kHeaderTimeout{5'000};  // from there to the end of its headers
inline constexpr std::chrono::milliseconds kWriteTimeout{10'000};  // for one whole answer
inline constexpr std::chrono::milliseconds kLingerTimeout{1'000};  // for a refused client to read why

inline constexpr std::size_t kMaxStreams = 32;                  // of the connections, how many may be streams of events
inline constexpr std::chrono::milliseconds kHeartbeat{15'000};  // of a stream on which nothing happens

struct Limits {
  std::size_t connections = kMaxConnections;
  std::size_t turned_away = kMaxTurnedAway;
  std::size_t streams = kMaxStreams;
  std::chrono::milliseconds idle = kIdleTimeout, header = kHeaderTimeout, write = kWriteTimeout,
                            linger = kLingerTimeout, heartbeat = kHeartbeat;
};

struct ServerOptions {
  std::string socket_path = kDefaultSocketPath;
  mode_t mode = 0660;
  std::string group = "casad";  // used where it exists
  Limits limits;
};

class Server {
 public:
  // `io` and `state` outlive the server.
  Server(boost::asio::io_context& io, State& state, ServerOptions options);
  ~Server();  // stops
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;

  // kBusy when a living server has the path.
  Status start();
  // Ends every session at once and removes the socket file if it is still ours. State is not read after this.
  void stop();

 private:
  class Acceptor;
  boost::asio::io_context& io_;
  State& state_;
  ServerOptions options_;
  std::shared_ptr<Acceptor> acceptor_;
};

}  // namespace casa::api

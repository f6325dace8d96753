// See server.h.
#include "api/server.h"

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/local/stream_protocol.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <exception>
#include <utility>

#include "api/session.h"
#include "api/socket_file.h"
#include "base/log.h"

namespace casa::api {
namespace {

namespace asio = boost::asio;
using Protocol = asio::local::stream_protocol;

constexpr auto kAwait = asio::as_tuple(asio::use_awaitable);
// Out of descriptors or memory: nothing gets better by asking again at once.
constexpr std::chrono::milliseconds kAcceptRetry{100};

void log_escaped(const std::exception_ptr& escaped, const char* what) {
  if (!escaped) return;
  try {
    std::rethrow_exception(escaped);
  } catch (const std::exception& e) {
    spdlog::error("an API {} ended by an exception: {}", what, e.what());
  } catch (...) {
    spdlog::error("an API {} ended by an unknown exception", what);
  }
}

asio::awaitable<void> run_session(std::unique_ptr<Session> session) { co_await session->run(); }

}  // namespace

// Kept alive by the server and by its own coroutine, whichever ends last.
class Server::Acceptor : public std::enable_shared_from_this<Acceptor> {
 public:
  Acceptor(asio::io_context& io, const State& state, const Limits& limits, SocketFile file)
      : io_(io), hub_(std::make_shared<Hub>(state, limits)), file_(std::move(file)), acceptor_(io), retry_(io) {}

  Status start() {
    boost::system::error_code ec;
    Protocol protocol;
    acceptor_.assign(protocol, file_.release(), ec);
    if (ec) return fail(ErrorCode::kSystem, "cannot serve the API socket {}: {}", file_.path(), ec.message());
    asio::co_spawn(io_, run(shared_from_this()),
                   [](const std::exception_ptr& escaped) { log_escaped(escaped, "server"); });
    return {};
  }

  void stop() {
    if (std::exchange(hub_->stopping, true)) return;
    file_.remove();
    boost::system::error_code ignored;
    acceptor_.close(ignored);
    retry_.cancel();
    for (Session* session : hub_->admitted) session->close();
    for (Session* session : hub_->turned_away) session->close();
  }

 private:
  static asio::awaitable<void> run(std::shared_ptr<Acceptor> self) {
    while (!self->hub_->stopping) {
      Session::Socket socket(self->io_);
      auto accepted = co_await self->acceptor_.async_accept(socket, kAwait);
      if (self->hub_->stopping) co_return;
      if (!std::get<0>(accepted)) {
        self->admit(std::move(socket));
        continue;
      }
      self->retry_.expires_after(kAcceptRetry);
      auto waited = co_await self->retry_.async_wait(kAwait);
      static_cast<void>(waited);
    }
  }

  void admit(Session::Socket socket) {
    auto kind = Session::Kind::kAdmitted;
    if (hub_->admitted.size() >= hub_->limits.connections) {
      if (hub_->turned_away.size() >= hub_->limits.turned_away) return;  // closes
      kind = Session::Kind::kTurnedAway;
    }
    auto session = std::make_unique<Session>(hub_, std::move(socket), kind);
    asio::co_spawn(io_, run_session(std::move(session)),
                   [](const std::exception_ptr& escaped) { log_escaped(escaped, "session"); });
  }

  asio::io_context& io_;
  std::shared_ptr<Hub> hub_;
  SocketFile file_;
  Protocol::acceptor acceptor_;
  asio::steady_timer retry_;
};

Server::Server(asio::io_context& io, State& state, ServerOptions options)
    : io_(io), state_(state), options_(std::move(options)) {}

Server::~Server() { stop(); }

Status Server::start() {
  if (acceptor_) return fail(ErrorCode::kInternal, "the API server is started already");
  TRY_ASSIGN(SocketFile file, SocketFile::create(options_.socket_path, options_.mode, options_.group));
  acceptor_ = std::make_shared<Acceptor>(io_, state_, options_.limits, std::move(file));
  return acceptor_->start();
}

void Server::stop() {
  if (acceptor_) acceptor_->stop();
  acceptor_.reset();
}

}  // namespace casa::api

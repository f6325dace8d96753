// See http_client.h. Beast does the HTTP; each operation runs its own io_context until done, which is what gives a
// synchronous call a deadline.
#include "cli/http_client.h"

#include <fmt/format.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <boost/asio/io_context.hpp>
#include <boost/asio/local/stream_protocol.hpp>
#include <boost/beast/core/basic_stream.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http/empty_body.hpp>
#include <boost/beast/http/read.hpp>
#include <boost/beast/http/string_body.hpp>
#include <boost/beast/http/write.hpp>
#include <cctype>
#include <cerrno>
#include <exception>
#include <optional>

namespace casa::cli {
namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = boost::beast::http;
using Protocol = asio::local::stream_protocol;
using boost::system::error_code;

constexpr std::uint64_t kMaxAnswer = 64 * 1024 * 1024;

std::unexpected<Error> no_answer(const std::string& path, std::string_view why, bool denied = false) {
  if (denied)
    return fail(ErrorCode::kSystem, "no answer at {}: {}; run this as root, or as a member of the group casad", path,
                why);
  return fail(ErrorCode::kSystem, "no answer at {}: {}; is casad running? try `systemctl status casad`", path, why);
}

}  // namespace

// By hand, because Asio takes EAGAIN (the daemon's queue is full) for a connect that goes on, and a Unix socket's does not.
Result<Fd> connect_to_daemon(const std::string& path, std::chrono::milliseconds timeout) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.empty() || path.size() >= sizeof(address.sun_path))
    return fail(ErrorCode::kInvalidArgument, "'{}' cannot be a socket's path: it needs 1 to {} bytes", path,
                sizeof(address.sun_path) - 1);
  path.copy(address.sun_path, path.size());
  Fd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!fd) return fail_errno(errno, "cannot open a Unix socket");
  timeval limit{.tv_sec = static_cast<time_t>(timeout.count() / 1000),
                .tv_usec = static_cast<suseconds_t>(timeout.count() % 1000 * 1000)};
  ::setsockopt(fd.get(), SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
  int done = 0;
  do {
    done = ::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address));
  } while (done != 0 && errno == EINTR);
  if (done == 0) return fd;
  int err = errno;
  return no_answer(path, err == EAGAIN ? "too many are waiting for it" : std::strerror(err),
                   err == EACCES || err == EPERM);
}

struct HttpClient::Connection {
  asio::io_context io;
  beast::basic_stream<Protocol> stream{io};
  beast::flat_buffer buffer;
};

HttpClient::HttpClient(std::string socket_path, std::chrono::milliseconds timeout)
    : socket_path_(std::move(socket_path)), timeout_(timeout) {}

HttpClient::~HttpClient() = default;

Status HttpClient::connect() {
  TRY_ASSIGN(Fd fd, connect_to_daemon(socket_path_, timeout_));
  auto connection = std::make_unique<Connection>();
  error_code ec;
  connection->stream.socket().assign(Protocol(), fd.get(), ec);
  if (ec) return no_answer(socket_path_, ec.message());
  fd.release();
  connection_ = std::move(connection);
  return {};
}

Result<Response> HttpClient::get(const std::string& target) {
  try {
    bool kept = connection_ != nullptr;
    if (!kept) TRY(connect());
    auto response = exchange(target);
    if (response || !kept) return response;
    TRY(connect());  // the daemon may have ended the idle connection, or have been restarted
    return exchange(target);
  } catch (const std::exception& e) {
    connection_.reset();
    return no_answer(socket_path_, e.what());
  }
}

Result<Response> HttpClient::exchange(const std::string& target) {
  Connection& c = *connection_;
  error_code ec;
  auto done = [&ec](error_code result, std::size_t) { ec = result; };
  auto finish = [&c] {
    c.io.restart();
    c.io.run();
  };
  c.stream.expires_after(timeout_);
  http::request<http::empty_body> request(http::verb::get, target, 11);
  request.set(http::field::host, "localhost");
  request.set(http::field::user_agent, "casad");
  http::async_write(c.stream, request, done);
  finish();
  // A daemon that turns a client away answers before it reads; so an answer may stand there although the write failed.
  http::response_parser<http::string_body> parser;
  parser.body_limit(kMaxAnswer);
  error_code write_error = ec;
  http::async_read(c.stream, c.buffer, parser, done);
  finish();
  if (ec) {
    connection_.reset();
    return no_answer(socket_path_, write_error ? write_error.message() : ec.message());
  }
  Response response{parser.get().result_int(), std::move(parser.get().body())};
  if (!parser.get().keep_alive()) connection_.reset();
  return response;
}

std::string make_target(std::string_view path,
                        const std::vector<std::pair<std::string_view, std::string>>& parameters) {
  std::string target(path);
  char separator = '?';
  for (const auto& [name, value] : parameters) {
    if (value.empty()) continue;
    target += separator;
    separator = '&';
    target += name;
    target += '=';
    for (unsigned char c : value) {
      bool plain = (c < 0x80 && std::isalnum(c) != 0) ||
                   std::string_view("-._~/:,@").find(static_cast<char>(c)) != std::string_view::npos;
      if (plain) target += static_cast<char>(c);
      else target += fmt::format("%{:02X}", c);
    }
  }
  return target;
}

}  // namespace casa::cli

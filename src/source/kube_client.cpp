#include "source/kube_client.h"

#include <netinet/tcp.h>
#include <sys/socket.h>

#include <array>
#include <boost/asio/as_tuple.hpp>
#include <boost/asio/ssl/error.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http.hpp>
#include <cerrno>

#include "base/text.h"
#include "base/tls_client.h"
#include "source/inflate.h"

namespace casa::source {
namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = boost::beast::http;
namespace ssl = boost::asio::ssl;
using boost::system::error_code;
using std::chrono::milliseconds;

constexpr auto kAwait = asio::as_tuple(asio::use_awaitable);
constexpr std::uint32_t kMaxHeadBytes = 16 * 1024;
constexpr std::size_t kPieceBytes = 16 * 1024;  // as a TLS record
constexpr std::size_t kMaxStatusBytes = 64 * 1024;
constexpr unsigned kUnauthorized = 401;
constexpr unsigned kLongestRetryAfter = 60;

// A peer that is gone without a word: a probe after 10 s, and one each 5 s. With TCP_USER_TIMEOUT it is that time since the last sign of
// life that ends the connection, at the time of a probe (tcp(7)): 25 s. The same holds for what was sent and is not acknowledged.
void notice_dead_peer(int fd) {
  constexpr int kOn = 1, kIdle = 10, kInterval = 5, kCount = 3;
  constexpr unsigned kUserTimeout = 25'000 - 500;  // ms
  ::setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &kOn, sizeof kOn);
  ::setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &kIdle, sizeof kIdle);
  ::setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &kInterval, sizeof kInterval);
  ::setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &kCount, sizeof kCount);
  ::setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &kUserTimeout, sizeof kUserTimeout);
  ::setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &kOn, sizeof kOn);
}

}  // namespace

class KubeConnection::Impl {
 public:
  using Parser = http::response_parser<http::buffer_body>;

  Impl(asio::io_context& io, std::shared_ptr<KubeLogin> login, KubeTimeouts timeouts)
      : io_(io), login_(std::move(login)), timeouts_(timeouts) {}

  asio::awaitable<Result<KubeAnswer>> send(KubeRequest request) {
    bool again = request.method == http::verb::get, renewed = false;
    for (;;) {
      bool kept = usable();
      if (!kept) {
        Status connected = co_await connect();
        if (!connected) co_return std::unexpected(std::move(connected).error());
      }
      std::uint64_t connection = closed_;
      Result<std::string> authorization = login_->authorization();
      if (!authorization) co_return std::unexpected(std::move(authorization).error());
      Result<KubeAnswer> answer = co_await exchange(request, *authorization);
      if (!answer) {
        bool by_others = closed_ != connection;
        close();
        // The server may have ended a connection that was at rest.
        if (kept && again && !by_others) {
          again = false;
          continue;
        }
        co_return answer;
      }
      if (answer->status != kUnauthorized || renewed) co_return answer;
      renewed = true;
      if (!login_->renewed(*authorization)) co_return answer;
      Result<std::string> ignored = co_await read_all(kMaxStatusBytes);
      close();
    }
  }

  asio::awaitable<Result<std::string_view>> read(milliseconds timeout) {
    for (;;) {
      if (inflate_) {
        Result<std::string_view> piece = inflate_->next();
        if (!piece || !piece->empty()) {
          if (!piece) close();
          co_return piece;
        }
      }
      if (!parser_ || parser_->is_done()) {
        Status ended = end_answer();
        if (!ended) co_return std::unexpected(std::move(ended).error());
        co_return std::string_view();
      }
      lowest().expires_after(timeout);
      auto& body = parser_->get().body();
      body.data = piece_.data();
      body.size = piece_.size();
      body.more = true;
      auto result = co_await http::async_read_some(*stream_, buffer_, *parser_, kAwait);
      error_code ec = std::get<0>(result);
      std::size_t have = piece_.size() - body.size;
      if (have > 0) login_->heard();
      if (ec && ec != http::error::need_buffer) {
        close();
        co_return fail_network("reading the answer", ec);
      }
      if (have == 0) continue;
      std::string_view piece(piece_.data(), have);
      if (!inflate_) co_return piece;
      inflate_->give(piece);
    }
  }

  asio::awaitable<Result<std::string>> read_all(std::size_t most) {
    std::string all;
    for (;;) {
      Result<std::string_view> piece = co_await read(timeouts_.request);
      if (!piece) co_return std::unexpected(std::move(piece).error());
      if (piece->empty()) co_return all;
      if (all.size() + piece->size() > most) {
        close();
        co_return fail(ErrorCode::kLimit, "its answer is larger than {} bytes", most);
      }
      all += *piece;
    }
  }

  void close() {
    ++closed_;
    if (stream_) lowest().close();
    open_ = false;
  }

 private:
  beast::tcp_stream& lowest() { return beast::get_lowest_layer(*stream_); }
  // Not while an answer is read in part only, and not when the server has ended the connection while it was at rest, or has said
  // something that nobody asked for.
  [[nodiscard]] bool usable() {
    if (!open_ || parser_) return false;
    char byte = 0;
    ssize_t waiting = ::recv(lowest().socket().native_handle(), &byte, sizeof byte, MSG_PEEK | MSG_DONTWAIT);
    return waiting < 0 && errno == EAGAIN;
  }

  asio::awaitable<Status> connect() {
    open_ = false;
    parser_.reset();
    inflate_.reset();
    buffer_.clear();
    stream_.reset();
    // With the stream that uses it, and longer than that one.
    context_.emplace(ssl::context::tls_client);
    Status prepared = login_->prepare(*context_);
    if (!prepared) co_return prepared;
    stream_.emplace(io_, *context_);
    lowest().expires_after(timeouts_.connect);
    std::vector<IpAddress> addresses = login_->addresses();
    Status connected = co_await connect_any(lowest(), login_->server(), addresses);
    if (!connected) co_return connected;
    notice_dead_peer(lowest().socket().native_handle());
    Status shaken = co_await shake_hands(*stream_, login_->name());
    if (!shaken) co_return shaken;
    open_ = true;
    co_return Status();
  }

  asio::awaitable<Result<KubeAnswer>> exchange(const KubeRequest& wanted, const std::string& authorization) {
    http::request<http::string_body> request(wanted.method, login_->server().path + wanted.target, 11);
    request.set(http::field::host, host_field(login_->server()));
    request.set(http::field::user_agent, "casad");
    request.set(http::field::accept, "application/json");
    request.set(http::field::accept_encoding, "gzip");
    if (!authorization.empty()) request.set(http::field::authorization, authorization);
    if (!wanted.content_type.empty()) request.set(http::field::content_type, wanted.content_type);
    request.body() = wanted.body;
    if (!wanted.body.empty()) request.prepare_payload();
    lowest().expires_after(timeouts_.request);
    auto written = co_await http::async_write(*stream_, request, kAwait);
    if (std::get<0>(written)) co_return fail_network("sending the request", std::get<0>(written));
    parser_.emplace();
    parser_->header_limit(kMaxHeadBytes);
    parser_->body_limit(boost::none);
    auto read = co_await http::async_read_header(*stream_, buffer_, *parser_, kAwait);
    if (std::get<0>(read)) co_return fail_network("waiting for the answer", std::get<0>(read));
    login_->heard();
    co_return head();
  }

  Result<KubeAnswer> head() {
    auto& response = parser_->get();
    std::string_view encoding = response[http::field::content_encoding];
    inflate_.reset();
    if (beast::iequals(encoding, "gzip")) inflate_ = std::make_unique<Inflate>();
    else if (!encoding.empty())
      return fail(ErrorCode::kUnsupported, "its answer is packed in a way that was not asked for");
    KubeAnswer answer{response.result_int(), {}};
    if (auto seconds = parse_number(response[http::field::retry_after], kLongestRetryAfter))
      answer.retry_after = std::chrono::seconds(*seconds);
    return answer;
  }

  Status end_answer() {
    bool broke_off = inflate_ && !inflate_->ended();
    bool keep = parser_ && parser_->keep_alive();
    inflate_.reset();
    parser_.reset();
    if (!keep || broke_off) close();
    if (broke_off) return fail(ErrorCode::kInvalidArgument, "the packed answer breaks off");
    return {};
  }

  asio::io_context& io_;
  const std::shared_ptr<KubeLogin> login_;
  const KubeTimeouts timeouts_;
  std::optional<ssl::context> context_;
  std::optional<TlsStream> stream_;
  beast::flat_buffer buffer_{kMaxHeadBytes + 64 * 1024};
  std::optional<Parser> parser_;  // while an answer is read
  std::unique_ptr<Inflate> inflate_;
  std::array<char, kPieceBytes> piece_;
  std::uint64_t closed_ = 0;  // times
  bool open_ = false;
};

KubeConnection::KubeConnection(asio::io_context& io, std::shared_ptr<KubeLogin> login, KubeTimeouts timeouts)
    : impl_(std::make_unique<Impl>(io, std::move(login), timeouts)) {}
KubeConnection::~KubeConnection() = default;
asio::awaitable<Result<KubeAnswer>> KubeConnection::send(KubeRequest request) {
  return impl_->send(std::move(request));
}
asio::awaitable<Result<std::string_view>> KubeConnection::read(milliseconds timeout) { return impl_->read(timeout); }
asio::awaitable<Result<std::string>> KubeConnection::read_all(std::size_t most) { return impl_->read_all(most); }
void KubeConnection::close() { impl_->close(); }

std::string percent_encode(std::string_view text) {
  std::string encoded;
  for (char c : text) {
    bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '.' ||
                 c == '_' || c == '~';
    if (plain) encoded += c;
    else encoded += fmt::format("%{:02X}", static_cast<unsigned char>(c));
  }
  return encoded;
}

}  // namespace casa::source

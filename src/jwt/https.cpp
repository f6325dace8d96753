#include "jwt/https.h"

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http.hpp>

#include "base/tls_client.h"

namespace casa::jwt {
namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = boost::beast::http;
namespace ssl = boost::asio::ssl;
using boost::system::error_code;
using Response = http::response_parser<http::string_body>;

constexpr auto kAwait = asio::as_tuple(asio::use_awaitable);
constexpr std::uint32_t kMaxHeaderBytes = 16 * 1024;

Result<std::string> body_of(Response& parser) {
  auto& response = parser.get();
  auto status = static_cast<unsigned>(response.result_int());
  if (status >= 300 && status < 400)
    return fail(ErrorCode::kInvalidArgument, "it answers {}, a redirect, which is not followed: write the URL itself",
                status);
  if (status != 200) return fail(ErrorCode::kSystem, "it answers {}", status);
  return std::move(response.body());
}

template <typename Stream>
asio::awaitable<Result<std::string>> ask(Stream& stream, const Location& location, std::size_t most) {
  http::request<http::empty_body> request(http::verb::get, location.path, 11);
  request.set(http::field::host, host_field(location));
  request.set(http::field::user_agent, "casad");
  request.set(http::field::accept, "application/jwk-set+json, application/json");
  request.set(http::field::connection, "close");
  auto written = co_await http::async_write(stream, request, kAwait);
  if (std::get<0>(written)) co_return fail_network("sending the request", std::get<0>(written));
  beast::flat_buffer buffer(kMaxHeaderBytes + 64 * 1024);
  Response parser;
  parser.header_limit(kMaxHeaderBytes);
  parser.body_limit(most);
  auto read = co_await http::async_read(stream, buffer, parser, kAwait);
  error_code ec = std::get<0>(read);
  if (ec == http::error::body_limit) {
    co_return fail(ErrorCode::kLimit, "its answer is larger than {} bytes", most);
  }
  if (ec) co_return fail_network("reading the answer", ec);
  co_return body_of(parser);
}

}  // namespace

asio::awaitable<Result<std::string>> fetch(Location location, std::vector<IpAddress> addresses, std::string ca_file,
                                           FetchLimits limits) {
  auto executor = co_await asio::this_coro::executor;
  if (location.kind == Location::Kind::kHttp) {
    PlainStream stream(executor);
    stream.expires_after(limits.timeout);
    Status connected = co_await connect_any(stream, location, addresses);
    if (!connected) co_return std::unexpected(connected.error());
    Result<std::string> answer = co_await ask(stream, location, limits.body);
    co_return answer;
  }
  ssl::context context(ssl::context::tls_client);
  Status trusted = trust_authorities(context, ca_file);
  if (!trusted) co_return std::unexpected(trusted.error());
  TlsStream stream(executor, context);
  beast::get_lowest_layer(stream).expires_after(limits.timeout);
  Status connected = co_await connect_any(beast::get_lowest_layer(stream), location, addresses);
  if (!connected) co_return std::unexpected(connected.error());
  Status shaken = co_await shake_hands(stream, location.host);
  if (!shaken) co_return std::unexpected(shaken.error());
  Result<std::string> answer = co_await ask(stream, location, limits.body);
  co_return answer;
}

}  // namespace casa::jwt

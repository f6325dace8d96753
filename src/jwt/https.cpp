#include "jwt/https.h"

#include <openssl/err.h>
#include <sys/stat.h>

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/ssl/context.hpp>
#include <boost/asio/ssl/host_name_verification.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/core/tcp_stream.hpp>
#include <boost/beast/http.hpp>
#include <boost/beast/ssl/ssl_stream.hpp>
#include <optional>

namespace casa::jwt {
namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = boost::beast::http;
namespace ssl = boost::asio::ssl;
using boost::system::error_code;
using Response = http::response_parser<http::string_body>;
using Plain = beast::tcp_stream;
using Tls = beast::ssl_stream<beast::tcp_stream>;

constexpr auto kAwait = asio::as_tuple(asio::use_awaitable);
constexpr std::uint32_t kMaxHeaderBytes = 16 * 1024;
constexpr std::size_t kMaxAddresses = 4;

// Where distributions keep their authorities, besides the place that OpenSSL was built with.
constexpr const char* kBundles[] = {"/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt",
                                    "/etc/ssl/cert.pem"};

asio::ip::tcp::endpoint endpoint_of(const IpAddress& ip, std::uint16_t port) {
  asio::ip::address_v6 v6(ip.bytes);
  if (ip.is_v4()) return {asio::ip::make_address_v4(asio::ip::v4_mapped, v6), port};
  return {v6, port};
}

// Made anew for each fetch: the file of authorities may have been renewed.
Status trust(ssl::context& context, const std::string& ca_file) {
  error_code ec;
  context.set_verify_mode(ssl::verify_peer, ec);
  SSL_CTX_set_min_proto_version(context.native_handle(), TLS1_2_VERSION);
  if (!ca_file.empty()) {
    context.load_verify_file(ca_file, ec);
    if (ec) return fail(ErrorCode::kInvalidArgument, "cannot read the certificates in {}: {}", ca_file, ec.message());
    return {};
  }
  context.set_default_verify_paths(ec);
  for (const char* bundle : kBundles) {
    struct stat st{};
    if (::stat(bundle, &st) != 0) continue;
    context.load_verify_file(bundle, ec);
    break;
  }
  ERR_clear_error();
  return {};
}

std::unexpected<Error> explain(const char* what, const error_code& ec) {
  if (ec == beast::error::timeout) return fail(ErrorCode::kSystem, "it did not answer in time ({})", what);
  return fail(ErrorCode::kSystem, "{}: {}", what, ec.message());
}

std::string host_field(const Location& location) {
  std::string host = location.address && !location.address->is_v4() ? "[" + location.host + "]" : location.host;
  bool usual = location.port == (location.kind == Location::Kind::kHttps ? 443 : 80);
  return usual ? host : fmt::format("{}:{}", host, location.port);
}

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
  if (std::get<0>(written)) co_return explain("sending the request", std::get<0>(written));
  beast::flat_buffer buffer(kMaxHeaderBytes + 64 * 1024);
  Response parser;
  parser.header_limit(kMaxHeaderBytes);
  parser.body_limit(most);
  auto read = co_await http::async_read(stream, buffer, parser, kAwait);
  error_code ec = std::get<0>(read);
  if (ec == http::error::body_limit) {
    co_return fail(ErrorCode::kLimit, "its answer is larger than {} bytes", most);
  }
  if (ec) co_return explain("reading the answer", ec);
  co_return body_of(parser);
}

asio::awaitable<Status> connect(Plain& stream, const Location& location, const std::vector<IpAddress>& addresses) {
  Status last = fail(ErrorCode::kNotFound, "its host has no address");
  std::size_t tried = 0;
  for (const auto& address : addresses) {
    if (++tried > kMaxAddresses) break;
    auto endpoint = endpoint_of(address, location.port);
    error_code ec;
    stream.socket().close(ec);  // one that failed is of its address's family still
    auto result = co_await stream.async_connect(endpoint, kAwait);
    ec = std::get<0>(result);
    if (!ec) co_return Status();
    std::string what = "connecting to " + with_port(address, location.port);
    last = explain(what.c_str(), ec);
    if (ec == beast::error::timeout) break;
  }
  co_return last;
}

asio::awaitable<Status> shake_hands(Tls& stream, const Location& location) {
  // A server name is a name, never an address (RFC 6066).
  bool named = !location.address;
  if (named && SSL_set_tlsext_host_name(stream.native_handle(), location.host.c_str()) != 1)
    co_return fail(ErrorCode::kInternal, "cannot set the server name");
  error_code ec;
  stream.set_verify_callback(ssl::host_name_verification(location.host), ec);
  auto result = co_await stream.async_handshake(ssl::stream_base::client, kAwait);
  ec = std::get<0>(result);
  if (!ec) co_return Status();
  long verified = SSL_get_verify_result(stream.native_handle());
  if (verified != X509_V_OK) {
    co_return fail(ErrorCode::kInvalidArgument, "its certificate is not trusted: {}",
                   X509_verify_cert_error_string(verified));
  }
  co_return explain("the TLS handshake", ec);
}

}  // namespace

asio::awaitable<Result<std::string>> fetch(Location location, std::vector<IpAddress> addresses, std::string ca_file,
                                           FetchLimits limits) {
  auto executor = co_await asio::this_coro::executor;
  if (location.kind == Location::Kind::kHttp) {
    Plain stream(executor);
    stream.expires_after(limits.timeout);
    Status connected = co_await connect(stream, location, addresses);
    if (!connected) co_return std::unexpected(connected.error());
    Result<std::string> answer = co_await ask(stream, location, limits.body);
    co_return answer;
  }
  ssl::context context(ssl::context::tls_client);
  Status trusted = trust(context, ca_file);
  if (!trusted) co_return std::unexpected(trusted.error());
  Tls stream(executor, context);
  beast::get_lowest_layer(stream).expires_after(limits.timeout);
  Status connected = co_await connect(beast::get_lowest_layer(stream), location, addresses);
  if (!connected) co_return std::unexpected(connected.error());
  Status shaken = co_await shake_hands(stream, location);
  if (!shaken) co_return std::unexpected(shaken.error());
  Result<std::string> answer = co_await ask(stream, location, limits.body);
  co_return answer;
}

}  // namespace casa::jwt

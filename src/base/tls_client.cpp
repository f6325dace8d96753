#include "base/tls_client.h"

#include <openssl/err.h>
#include <sys/stat.h>

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/ssl/host_name_verification.hpp>
#include <boost/asio/use_awaitable.hpp>

namespace casa {
namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace ssl = boost::asio::ssl;
using boost::system::error_code;

constexpr auto kAwait = asio::as_tuple(asio::use_awaitable);
constexpr std::size_t kMaxAddresses = 4;

// Where distributions keep their authorities, besides the place that OpenSSL was built with.
constexpr const char* kBundles[] = {"/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt",
                                    "/etc/ssl/cert.pem"};

asio::ip::tcp::endpoint endpoint_of(const IpAddress& ip, std::uint16_t port) {
  asio::ip::address_v6 v6(ip.bytes);
  if (ip.is_v4()) return {asio::ip::make_address_v4(asio::ip::v4_mapped, v6), port};
  return {v6, port};
}

// Asio reads all certificates of the text.
Status add_authorities(ssl::context& context, std::string_view pem) {
  error_code ec;
  context.add_certificate_authority(asio::buffer(pem.data(), pem.size()), ec);
  ERR_clear_error();
  if (ec) return fail(ErrorCode::kInvalidArgument, "cannot read the certificates of the authorities: {}", ec.message());
  return {};
}

}  // namespace

Status trust_authorities(ssl::context& context, const std::string& ca_file, std::string_view ca_text) {
  error_code ec;
  context.set_verify_mode(ssl::verify_peer, ec);
  SSL_CTX_set_min_proto_version(context.native_handle(), TLS1_2_VERSION);
  if (!ca_file.empty()) {
    context.load_verify_file(ca_file, ec);
    if (ec) return fail(ErrorCode::kInvalidArgument, "cannot read the certificates in {}: {}", ca_file, ec.message());
    return {};
  }
  if (!ca_text.empty()) return add_authorities(context, ca_text);
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

std::unexpected<Error> fail_network(const char* what, const error_code& ec) {
  if (ec == beast::error::timeout) return fail(ErrorCode::kSystem, "it did not answer in time ({})", what);
  return fail(ErrorCode::kSystem, "{}: {}", what, ec.message());
}

std::string host_field(const Location& location) {
  std::string host = location.address && !location.address->is_v4() ? "[" + location.host + "]" : location.host;
  bool usual = location.port == (location.kind == Location::Kind::kHttps ? 443 : 80);
  return usual ? host : fmt::format("{}:{}", host, location.port);
}

asio::awaitable<Status> connect_any(PlainStream& stream, const Location& location,
                                    const std::vector<IpAddress>& addresses) {
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
    last = fail_network(what.c_str(), ec);
    if (ec == beast::error::timeout || ec == asio::error::operation_aborted) break;
  }
  co_return last;
}

asio::awaitable<Status> shake_hands(TlsStream& stream, const std::string& name) {
  // A server name is a name, never an address (RFC 6066).
  bool named = !parse_ip(name);
  if (named && SSL_set_tlsext_host_name(stream.native_handle(), name.c_str()) != 1)
    co_return fail(ErrorCode::kInternal, "cannot set the server name");
  error_code ec;
  stream.set_verify_callback(ssl::host_name_verification(name), ec);
  auto result = co_await stream.async_handshake(ssl::stream_base::client, kAwait);
  ec = std::get<0>(result);
  if (!ec) co_return Status();
  long verified = SSL_get_verify_result(stream.native_handle());
  if (verified != X509_V_OK) {
    co_return fail(ErrorCode::kInvalidArgument, "its certificate is not trusted: {}",
                   X509_verify_cert_error_string(verified));
  }
  co_return fail_network("the TLS handshake", ec);
}

}  // namespace casa

// What every HTTPS client of casad shares: whom to trust, how to connect, how a server proves its name. As coroutines on the caller's
// executor; deadlines are the caller's (stream.expires_after), and so is the request. Names are not looked up here: the addresses are given.
#pragma once

#include <boost/asio/awaitable.hpp>
#include <boost/asio/ssl/context.hpp>
#include <boost/beast/core/tcp_stream.hpp>
#include <boost/beast/ssl/ssl_stream.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "base/ip.h"
#include "base/location.h"

namespace casa {

using PlainStream = boost::beast::tcp_stream;
using TlsStream = boost::beast::ssl_stream<boost::beast::tcp_stream>;

// TLS 1.2 or newer; the server must have a certificate of an authority in `ca_file` or in `ca_text` (PEM), of the system's when both are
// empty. Made anew for each connection: the file may have been renewed.
Status trust_authorities(boost::asio::ssl::context& context, const std::string& ca_file, std::string_view ca_text = {});

// Tries the addresses one after the other, four at most, until one can be connected to.
boost::asio::awaitable<Status> connect_any(PlainStream& stream, const Location& location,
                                           const std::vector<IpAddress>& addresses);

// `name`: a DNS name or an address that the server's certificate must be for.
boost::asio::awaitable<Status> shake_hands(TlsStream& stream, const std::string& name);

// The Host field of a request: without the port where it is the usual one.
std::string host_field(const Location& location);

// "<what>: <why>", or that there was no answer in time.
std::unexpected<Error> fail_network(const char* what, const boost::system::error_code& ec);

}  // namespace casa

// A server on 127.0.0.1 that answers as a test says, over TLS or plainly.
#pragma once

#include <unistd.h>

#include <array>
#include <boost/asio/as_tuple.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/read_until.hpp>
#include <boost/asio/ssl.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/asio/write.hpp>
#include <fstream>
#include <memory>
#include <string>

#include "../certificate.h"
#include "keys.h"

namespace casa::jwt::test {

namespace asio = boost::asio;

using casa::test::Certificate;

class TempFile {
 public:
  explicit TempFile(const std::string& content = "") {
    char path[] = "/tmp/casad-jwt-XXXXXX";
    int fd = ::mkstemp(path);
    REQUIRE(fd >= 0);
    ::close(fd);
    path_ = path;
    write(content);
  }
  ~TempFile() { ::unlink(path_.c_str()); }
  TempFile(const TempFile&) = delete;
  TempFile& operator=(const TempFile&) = delete;
  void write(const std::string& content) const { std::ofstream(path_, std::ios::binary) << content; }
  // As a program does that wants no reader to see half of it.
  void replace(const std::string& content) const {
    std::string next = path_ + ".next";
    std::ofstream(next, std::ios::binary) << content;
    REQUIRE(::rename(next.c_str(), path_.c_str()) == 0);
  }
  [[nodiscard]] const std::string& path() const { return path_; }

 private:
  std::string path_;
};

inline std::string http_answer(const std::string& body, const std::string& status = "200 OK",
                               const std::string& more = "") {
  return "HTTP/1.1 " + status + "\r\n" + more + "Content-Length: " + std::to_string(body.size()) + "\r\n\r\n" + body;
}

class KeyServer {
 public:
  KeyServer(asio::io_context& io, const Certificate* certificate)
      : io_(io), acceptor_(io, {asio::ip::make_address("127.0.0.1"), 0}), context_(asio::ssl::context::tls_server) {
    if (certificate != nullptr) {
      std::string chain = certificate->pem(), key = certificate->key_pem();
      context_.use_certificate_chain(asio::buffer(chain));
      context_.use_private_key(asio::buffer(key), asio::ssl::context::pem);
    }
    tls_ = certificate != nullptr;
    asio::co_spawn(io_, accept(), asio::detached);
  }

  [[nodiscard]] unsigned port() const { return acceptor_.local_endpoint().port(); }

  std::string answer;  // what is written, empty: nothing ever
  std::string last_request;
  bool drip = false;  // the answer byte by byte, for ever slow
  unsigned connections = 0;

 private:
  asio::awaitable<void> accept() {
    for (;;) {
      auto socket = co_await acceptor_.async_accept(asio::use_awaitable);
      ++connections;
      asio::co_spawn(io_, serve(std::move(socket)), asio::detached);
    }
  }

  asio::awaitable<void> serve(asio::ip::tcp::socket socket) {
    try {
      if (!tls_) {
        co_await talk(socket);
        co_return;
      }
      asio::ssl::stream<asio::ip::tcp::socket> stream(std::move(socket), context_);
      co_await stream.async_handshake(asio::ssl::stream_base::server, asio::use_awaitable);
      co_await talk(stream);
    } catch (const std::exception&) {
      // The client went away, as it should in most of these tests.
    }
  }

  template <typename Stream>
  asio::awaitable<void> talk(Stream& stream) {
    std::string request;
    co_await asio::async_read_until(stream, asio::dynamic_buffer(request), "\r\n\r\n", asio::use_awaitable);
    last_request = request;
    asio::steady_timer timer(io_);
    std::string text = answer;
    for (std::size_t at = 0; drip && at < text.size(); ++at) {
      co_await asio::async_write(stream, asio::buffer(text.data() + at, 1), asio::use_awaitable);
      timer.expires_after(std::chrono::milliseconds{50});
      co_await timer.async_wait(asio::use_awaitable);
    }
    if (!drip && !text.empty()) co_await asio::async_write(stream, asio::buffer(text), asio::use_awaitable);
    // Until the client goes: it is not to wait for the connection's end.
    std::array<char, 64> rest{};
    co_await stream.async_read_some(asio::buffer(rest), asio::use_awaitable);
  }

  asio::io_context& io_;
  asio::ip::tcp::acceptor acceptor_;
  asio::ssl::context context_;
  bool tls_ = false;
};

}  // namespace casa::jwt::test

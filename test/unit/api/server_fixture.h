// A real server over a FakeState on its own thread and socket, and the plainest of clients. State is touched from the
// server's thread only: change it through run().
#pragma once

#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <filesystem>
#include <future>
#include <stdexcept>
#include <string>
#include <thread>

#include "api/server.h"
#include "base/fd.h"
#include "fake_state.h"

namespace casa::test {

class TempDir {
 public:
  TempDir() {
    std::string pattern = (std::filesystem::temp_directory_path() / "casa-api-XXXXXX").string();
    if (::mkdtemp(pattern.data()) == nullptr) throw std::runtime_error("mkdtemp");
    path_ = pattern;
  }
  ~TempDir() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  [[nodiscard]] std::string file(const std::string& name) const { return (path_ / name).string(); }

 private:
  std::filesystem::path path_;
};

inline Fd connect_to(const std::string& path) {
  Fd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  path.copy(address.sun_path, sizeof(address.sun_path) - 1);
  if (::connect(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)) != 0) return Fd();
  return fd;
}

inline void send_text(const Fd& fd, std::string_view text) {
  while (!text.empty()) {
    ssize_t n = ::send(fd.get(), text.data(), text.size(), MSG_NOSIGNAL);
    if (n <= 0) return;
    text.remove_prefix(static_cast<std::size_t>(n));
  }
}

// Everything until the server closes; throws when it does not within the time.
inline std::string read_all(const Fd& fd, int timeout_ms = 20'000) {
  std::string out;
  char buffer[65536];
  for (;;) {
    pollfd ready{fd.get(), POLLIN, 0};
    if (::poll(&ready, 1, timeout_ms) <= 0)
      throw std::runtime_error("the server neither answers nor closes; so far: " + out);
    ssize_t n = ::recv(fd.get(), buffer, sizeof(buffer), 0);
    if (n <= 0) return out;
    out.append(buffer, static_cast<std::size_t>(n));
  }
}

class ServerFixture {
 public:
  explicit ServerFixture(api::Limits limits = {}) {
    options.socket_path = dir.file("api.sock");
    options.limits = limits;
    server.emplace(io, state, options);
    if (auto started = server->start(); !started) throw std::runtime_error(started.error().context);
    thread = std::thread([this] { io.run(); });
  }
  ~ServerFixture() {
    run([&] { server->stop(); });
    work.reset();
    io.stop();
    thread.join();
  }
  template <typename F>
  void run(F f) {
    std::promise<void> done;
    boost::asio::post(io, [&] {
      f();
      done.set_value();
    });
    done.get_future().get();
  }
  [[nodiscard]] std::string path() const { return options.socket_path; }
  [[nodiscard]] std::string exchange(std::string_view request) const {
    Fd fd = connect_to(path());
    send_text(fd, request);
    return read_all(fd);
  }

  TempDir dir;
  FakeState state;
  boost::asio::io_context io{1};
  boost::asio::executor_work_guard<boost::asio::io_context::executor_type> work{io.get_executor()};
  api::ServerOptions options;
  std::optional<api::Server> server;
  std::thread thread;
};

}  // namespace casa::test

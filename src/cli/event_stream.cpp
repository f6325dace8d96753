// See event_stream.h. Plain sockets: the answer has no length, and its events are lines.
#include "cli/event_stream.h"

#include <poll.h>
#include <sys/socket.h>

#include <cerrno>
#include <cstring>

#include "base/text.h"

namespace casa::cli {
namespace {

constexpr std::chrono::milliseconds kAnswerTimeout{10'000};
constexpr std::size_t kMaxHead = 16 * 1024;
constexpr std::size_t kMaxEvent = 1024 * 1024;

}  // namespace

std::unexpected<Error> EventStream::ended(std::string_view why) {
  fd_ = Fd();
  buffer_.clear();
  return fail(ErrorCode::kSystem, "the events of {} have ended: {}", socket_path_, why);
}

Result<bool> EventStream::receive(std::chrono::milliseconds timeout) {
  pollfd ready{fd_.get(), POLLIN, 0};
  int n = ::poll(&ready, 1, static_cast<int>(timeout.count()));
  if (n < 0 && errno != EINTR) return ended(std::strerror(errno));
  if (n <= 0) return false;
  char bytes[65536];
  ssize_t got = ::recv(fd_.get(), bytes, sizeof bytes, 0);
  if (got < 0) return ended(std::strerror(errno));
  if (got == 0) return ended("the daemon closed the connection");
  buffer_.append(bytes, static_cast<std::size_t>(got));
  return true;
}

Result<std::optional<Response>> EventStream::open() {
  TRY_ASSIGN(fd_, connect_to_daemon(socket_path_, kAnswerTimeout));
  buffer_.clear();
  std::string request = "GET " + target_ + " HTTP/1.1\r\nHost: localhost\r\nUser-Agent: casad\r\n";
  if (!last_id_.empty()) request += "Last-Event-ID: " + last_id_ + "\r\n";
  request += "\r\n";
  // A daemon that turns a client away may have closed already; what it said can still be read.
  for (std::string_view left = request; !left.empty();) {
    ssize_t n = ::send(fd_.get(), left.data(), left.size(), MSG_NOSIGNAL);
    if (n <= 0) break;
    left.remove_prefix(static_cast<std::size_t>(n));
  }
  std::size_t end = std::string::npos;
  while ((end = buffer_.find("\r\n\r\n")) == std::string::npos) {
    TRY_ASSIGN(bool more, receive(kAnswerTimeout));
    if (!more || buffer_.size() > kMaxHead) return ended("the daemon does not answer");
  }
  auto status = parse_number(std::string_view(buffer_).substr(std::min<std::size_t>(9, end), 3), 999);
  if (!buffer_.starts_with("HTTP/1.") || !status) return ended("this is not the daemon's API");
  bool streams = buffer_.substr(0, end).find("text/event-stream") != std::string::npos;
  buffer_.erase(0, end + 4);
  if (*status == 200 && streams) return std::nullopt;
  // A problem; its connection is kept alive, so its body is what comes at once.
  Response response{static_cast<unsigned>(*status), buffer_};
  while (response.body.find('}') == std::string::npos) {
    auto more = receive(kAnswerTimeout);
    if (!more || !*more) break;
    response.body = buffer_;
  }
  fd_ = Fd();
  buffer_.clear();
  return response;
}

// The first whole block that has an event; what only moves the id, or is a comment, is passed over.
std::optional<StreamedEvent> EventStream::take_event() {
  for (auto end = buffer_.find("\n\n"); end != std::string::npos; end = buffer_.find("\n\n")) {
    std::string block = buffer_.substr(0, end + 1);
    buffer_.erase(0, end + 2);
    StreamedEvent event;
    for (std::size_t at = 0; at < block.size();) {
      auto line_end = block.find('\n', at);
      std::string_view line = std::string_view(block).substr(at, line_end - at);
      at = line_end + 1;
      if (line.starts_with("id: ")) last_id_ = line.substr(4);
      else if (line.starts_with("event: ")) event.kind = line.substr(7);
      else if (line.starts_with("data: ")) event.data = line.substr(6);
    }
    if (!event.kind.empty()) return event;
  }
  return std::nullopt;
}

Result<std::optional<StreamedEvent>> EventStream::next(std::chrono::milliseconds timeout) {
  if (auto event = take_event()) return event;
  if (!fd_) return ended("it was not open");
  if (buffer_.size() > kMaxEvent) return ended("an event is longer than any that the daemon has");
  TRY_ASSIGN(bool more, receive(timeout));
  return more ? take_event() : std::nullopt;
}

}  // namespace casa::cli

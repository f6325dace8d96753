// The client of /v1/events: one event after the other, over restarts of the daemon, from where it was. Blocks for at most a short while, so that
// its caller can look whether it is to stop.
#pragma once

#include <chrono>
#include <optional>
#include <string>

#include "base/error.h"
#include "base/fd.h"
#include "cli/http_client.h"

namespace casa::cli {

struct StreamedEvent {
  std::string kind;  // flow, sighting, alert, lost
  std::string data;  // JSON
};

class EventStream {
 public:
  EventStream(std::string socket_path, std::string target)
      : socket_path_(std::move(socket_path)), target_(std::move(target)) {}

  // Asks, and waits until the daemon has said yes. A Response: it said something else.
  Result<std::optional<Response>> open();
  // Nothing: none came within the time. An Error: the stream has ended; open() goes on behind the last event.
  Result<std::optional<StreamedEvent>> next(std::chrono::milliseconds timeout);
  [[nodiscard]] bool is_open() const { return static_cast<bool>(fd_); }

 private:
  // More bytes into buffer_. False: none came within the time.
  Result<bool> receive(std::chrono::milliseconds timeout);
  std::optional<StreamedEvent> take_event();
  std::unexpected<Error> ended(std::string_view why);

  std::string socket_path_, target_, last_id_, buffer_;
  Fd fd_;
};

}  // namespace casa::cli

// Tells systemd how we are (sd_notify's protocol: one datagram to $NOTIFY_SOCKET). Does nothing where there is none.
#pragma once

#include <chrono>
#include <optional>
#include <string_view>

namespace casa::app {

void notify_service_manager(std::string_view state);
// How often the watchdog wants a sign of life (half of $WATCHDOG_USEC), when it is set for this process.
std::optional<std::chrono::microseconds> watchdog_interval();

}  // namespace casa::app

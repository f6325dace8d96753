// The log: one line per record on standard error, `<level> message key=value...`; under systemd with syslog level prefixes
// and no time (journald has its own). Only app, api, cli and main log.
#pragma once

#include <spdlog/spdlog.h>

namespace casa {

// `level`: trace, debug, info, warning, error. An unknown level leaves it at info and returns false.
bool init_log(const char* level);

}  // namespace casa

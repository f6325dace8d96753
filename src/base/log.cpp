#include "base/log.h"

#include <spdlog/pattern_formatter.h>
#include <spdlog/sinks/stdout_sinks.h>

#include <cstdlib>
#include <cstring>
#include <memory>
#include <string_view>

namespace casa {
namespace {

// Journald reads a leading <N> as the syslog priority.
class SyslogPrefix : public spdlog::custom_flag_formatter {
 public:
  void format(const spdlog::details::log_msg& msg, const std::tm&, spdlog::memory_buf_t& out) override {
    static constexpr const char* kPrefix[] = {"<7>", "<7>", "<6>", "<4>", "<3>", "<2>", "<6>"};
    const char* prefix = kPrefix[static_cast<std::size_t>(msg.level)];
    out.append(prefix, prefix + 3);
  }
  std::unique_ptr<custom_flag_formatter> clone() const override { return std::make_unique<SyslogPrefix>(); }
};

}  // namespace

bool init_log(const char* level) {
  auto logger = spdlog::stderr_logger_mt("casad");
  if (std::getenv("JOURNAL_STREAM") != nullptr) {
    auto formatter = std::make_unique<spdlog::pattern_formatter>();
    formatter->add_flag<SyslogPrefix>('J').set_pattern("%J%v");
    logger->set_formatter(std::move(formatter));
  } else {
    logger->set_pattern("%Y-%m-%dT%H:%M:%S.%eZ %l %v", spdlog::pattern_time_type::utc);
  }
  spdlog::set_default_logger(logger);
  spdlog::flush_on(spdlog::level::trace);
  std::string_view wanted(level == nullptr ? "info" : level);
  for (auto known : {"trace", "debug", "info", "warning", "error"}) {
    if (wanted == known) {
      spdlog::set_level(spdlog::level::from_str(known));
      return true;
    }
  }
  spdlog::set_level(spdlog::level::info);
  return false;
}

}  // namespace casa

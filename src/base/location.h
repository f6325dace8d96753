// Where something is that is asked for: a file, or a URL. HTTPS, and HTTP for loopback only, as whoever can change the answer can forge it
// (keys for tokens, the objects of a cluster). Pure.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "base/error.h"
#include "base/ip.h"

namespace casa {

struct Location {
  enum class Kind { kFile, kHttp, kHttps };
  Kind kind = Kind::kFile;
  std::string path;                  // of the file; of a URL: what is asked for, with its query
  std::string host;                  // of a URL: a DNS name in lower case, or an address without brackets
  std::uint16_t port = 0;            // of a URL
  std::optional<IpAddress> address;  // when the host is one

  // A name that DNS must be asked for.
  [[nodiscard]] bool needs_name() const { return kind != Kind::kFile && !address && host != "localhost"; }
};

// An absolute path, https://HOST[:PORT]/PATH, or http:// with a loopback address or localhost.
Result<Location> parse_location(std::string_view text);
std::string to_string(const Location& location);

}  // namespace casa

// A gzip stream, unpacked piece by piece: never more than one block of it is held.
#pragma once

#include <zlib.h>

#include <array>
#include <string_view>

#include "base/error.h"

namespace casa::source {

class Inflate {
 public:
  Inflate() = default;
  Inflate(const Inflate&) = delete;
  Inflate& operator=(const Inflate&) = delete;
  ~Inflate();

  // The next packed bytes, which must stay where they are until next() has returned an empty piece.
  void give(std::string_view packed);
  // The next unpacked bytes, valid until the next call; empty: more packed bytes are needed, or it is over.
  Result<std::string_view> next();
  [[nodiscard]] bool ended() const { return ended_; }

 private:
  z_stream stream_{};
  bool open_ = false, ended_ = false;
  std::array<char, 32 * 1024> block_;
};

}  // namespace casa::source

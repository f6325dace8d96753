#include "source/inflate.h"

namespace casa::source {

Inflate::~Inflate() {
  if (open_) inflateEnd(&stream_);
}

void Inflate::give(std::string_view packed) {
  stream_.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(packed.data()));
  stream_.avail_in = static_cast<uInt>(packed.size());
}

Result<std::string_view> Inflate::next() {
  constexpr int kGzipOnly = 15 + 16;
  if (!open_ && inflateInit2(&stream_, kGzipOnly) != Z_OK) return fail(ErrorCode::kSystem, "out of memory");
  open_ = true;
  if (ended_) {
    if (stream_.avail_in != 0)
      return fail(ErrorCode::kInvalidArgument, "there is something behind the packed answer's end");
    return std::string_view();
  }
  stream_.next_out = reinterpret_cast<Bytef*>(block_.data());
  stream_.avail_out = static_cast<uInt>(block_.size());
  int result = inflate(&stream_, Z_NO_FLUSH);
  ended_ = result == Z_STREAM_END;
  if (result != Z_OK && result != Z_STREAM_END && result != Z_BUF_ERROR)
    return fail(ErrorCode::kInvalidArgument, "the packed answer cannot be unpacked: {}",
                stream_.msg == nullptr ? "it is broken" : stream_.msg);
  return std::string_view(block_.data(), block_.size() - stream_.avail_out);
}

}  // namespace casa::source

// Makes what an HTTP/2 client could send: header blocks in every representation that HPACK has, with a dynamic table of its own, in
// frames of every legal form, between others. What it does hangs on the numbers that it is given: random ones, or a fuzzer's.
#pragma once

#include <deque>
#include <functional>
#include <string>

#include "machine.h"

namespace casa::inspect {

class H2Encoder {
 public:
  // `tame`: nothing that the reader may lose track of (a token that was one of many, long names), and nothing malformed.
  H2Encoder(std::function<std::uint32_t()> next, bool tame);

  Bytes take() { return std::move(out_); }
  // A request with these fields beside random ones, or frames without a meaning for it.
  void request();
  void other_frame();
  // A block that somebody else has made, in frames.
  void frames(std::uint32_t stream, View block);
  std::uint32_t next_stream() { return stream_ += 2; }

 private:
  struct Entry {
    std::string name, value;
  };
  std::uint32_t below(std::uint32_t n) { return next_() % n; }
  bool one_in(std::uint32_t n) { return !below(n); }
  void frame(unsigned type, unsigned flags, std::uint32_t stream, View payload);
  void integer(unsigned first, unsigned bits, std::uint64_t value);
  void string(std::string_view text);
  void literal(std::size_t name_index, const std::string& name, const std::string& value);
  void field(const std::string& name, const std::string& value);
  void resize();
  void evict(std::size_t room);
  std::string value_of(const std::string& name);
  std::string random_text(std::size_t length);

  std::function<std::uint32_t()> next_;
  bool tame_;
  Bytes out_;
  Bytes block_;
  std::deque<Entry> table_;  // the newest first
  std::size_t table_bytes_ = 0, table_size_ = 4096;
  std::uint32_t stream_ = 0xffffffff;
};

// As RFC 7541, 5.2 has it; made from the reader's own table, which libnghttp2 is held to in the same test.
void huffman_encode(Bytes& out, std::string_view text);

}  // namespace casa::inspect

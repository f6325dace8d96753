#include "h2_encode.h"

#include <algorithm>
#include <array>
#include <utility>

#include "casa/abi/token.h"
#include "huffman_table.h"

namespace casa::inspect {
namespace {

constexpr std::string_view kPreface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
constexpr std::pair<std::string_view, std::string_view> kStatic[] = {
    {":authority", ""},       {":method", "GET"},  {":method", "POST"}, {":path", "/"},
    {":path", "/index.html"}, {":scheme", "http"}, {":scheme", "https"}};
constexpr std::pair<std::size_t, std::string_view> kStaticNames[] = {
    {23, "authorization"}, {28, "content-length"}, {31, "content-type"}, {32, "cookie"}, {58, "user-agent"}};

using Code = std::vector<bool>;
void codes_below(std::array<Code, 256>& codes, std::uint32_t place, const Code& bits) {
  // An entry stands for four bits, of which a symbol's last ones come first; the bits behind them lead from the root to the entry's place.
  for (std::uint32_t nibble = 0; nibble < 16; nibble++) {
    std::uint32_t entry = casa_huffman[place << 4 | nibble];
    Code all = bits;
    for (int bit = 3; bit >= 0; bit--) all.push_back(nibble >> bit & 1);
    if (entry & CASA_HUFFMAN_FAIL || all.size() > 40) continue;
    if (!(entry & CASA_HUFFMAN_EMIT)) {
      codes_below(codes, entry & 0xff, all);
      continue;
    }
    Code& code = codes[entry >> 8 & 0xff];
    if (code.empty()) {
      code = all;
      continue;
    }
    // What every way to this symbol has in common is its code.
    std::size_t same = 0;
    while (same < code.size() && same < all.size() && code[same] == all[same]) same++;
    code.resize(same);
  }
}

const std::array<Code, 256>& codes() {
  static const std::array<Code, 256> all = [] {
    std::array<Code, 256> made;
    codes_below(made, 0, {});
    return made;
  }();
  return all;
}

}  // namespace

void huffman_encode(Bytes& out, std::string_view text) {
  unsigned byte = 0, have = 0;
  auto put = [&](bool bit) {
    byte = byte << 1 | bit;
    if (++have % 8) return;
    out.push_back(static_cast<std::uint8_t>(byte));
    byte = 0;
  };
  for (char c : text)
    for (bool bit : codes()[static_cast<std::uint8_t>(c)]) put(bit);
  while (have % 8) put(true);
}

H2Encoder::H2Encoder(std::function<std::uint32_t()> next, bool tame)
    : next_(std::move(next)), tame_(tame), out_(kPreface.begin(), kPreface.end()) {
  frame(4, 0, 0, {});
}

void H2Encoder::frame(unsigned type, unsigned flags, std::uint32_t stream, View payload) {
  std::size_t n = payload.size();
  for (std::size_t byte : {n >> 16, n >> 8, n, std::size_t{type}, std::size_t{flags}, std::size_t{stream >> 24},
                           std::size_t{stream >> 16}, std::size_t{stream >> 8}, std::size_t{stream}})
    out_.push_back(static_cast<std::uint8_t>(byte));
  out_.insert(out_.end(), payload.begin(), payload.end());
}

void H2Encoder::frames(std::uint32_t stream, View block) {
  bool first = true;
  for (bool last = false; !last; first = false) {
    std::size_t n = one_in(3) ? below(static_cast<std::uint32_t>(block.size()) + 1) : block.size();
    last = n == block.size() && !one_in(8);
    unsigned flags = last ? 4 : 0;
    Bytes payload;
    std::size_t padding = 0;
    if (first) {
      flags |= below(2);  // END_STREAM
      if (one_in(3)) {
        flags |= 8;
        padding = below(256);
        payload.push_back(static_cast<std::uint8_t>(padding));
      }
      if (one_in(3)) {
        flags |= 32;
        for (int i = 0; i < 5; i++) payload.push_back(static_cast<std::uint8_t>(next_()));
      }
    }
    payload.insert(payload.end(), block.begin(), block.begin() + static_cast<std::ptrdiff_t>(n));
    payload.insert(payload.end(), padding, 0);
    block = block.subspan(n);
    frame(first ? 1 : 9, flags, stream | (one_in(16) ? 0x80000000u : 0), payload);
  }
}

void H2Encoder::other_frame() {
  constexpr unsigned kTypes[] = {0, 2, 3, 4, 6, 7, 8, 10, 0x42, 255};
  Bytes payload(one_in(20) ? below(70000) : below(40), static_cast<std::uint8_t>(next_()));
  frame(kTypes[below(std::size(kTypes))], below(256), below(1000), payload);
}

void H2Encoder::integer(unsigned first, unsigned bits, std::uint64_t value) {
  unsigned mask = (1u << bits) - 1;
  if (value < mask) {
    block_.push_back(static_cast<std::uint8_t>(first | value));
    return;
  }
  block_.push_back(static_cast<std::uint8_t>(first | mask));
  value -= mask;
  int bytes = 1;
  for (; value >= 128; value >>= 7, bytes++) block_.push_back(static_cast<std::uint8_t>(value | 0x80));
  bool long_form = bytes < 4 && one_in(32);  // a zero on top changes nothing
  block_.push_back(static_cast<std::uint8_t>(value | (long_form ? 0x80 : 0)));
  if (long_form) block_.push_back(0);
}

void H2Encoder::string(std::string_view text) {
  if (one_in(3)) {
    integer(0, 7, text.size());
    block_.insert(block_.end(), text.begin(), text.end());
    return;
  }
  Bytes coded;
  huffman_encode(coded, text);
  integer(0x80, 7, coded.size());
  block_.insert(block_.end(), coded.begin(), coded.end());
}

void H2Encoder::evict(std::size_t room) {
  while (!table_.empty() && table_bytes_ + room > table_size_) {
    table_bytes_ -= table_.back().name.size() + table_.back().value.size() + 32;
    table_.pop_back();
  }
}

void H2Encoder::resize() {
  constexpr std::size_t kSizes[] = {0, 30, 70, 130, 200, 600, 4096, 4096, 16384};
  table_size_ = kSizes[below(std::size(kSizes))];
  integer(0x20, 5, table_size_);
  evict(0);
}

void H2Encoder::literal(std::size_t name_index, const std::string& name, const std::string& value) {
  unsigned how = below(4);
  if (how < 2) integer(0x40, 6, name_index);
  else integer(how == 2 ? 0x10 : 0, 4, name_index);
  if (!name_index) string(name);
  string(value);
  if (how >= 2) return;
  std::size_t size = name.size() + value.size() + 32;
  evict(size);
  if (size > table_size_) return;
  table_.push_front({name, value});
  table_bytes_ += size;
}

void H2Encoder::field(const std::string& name, const std::string& value) {
  std::vector<std::size_t> wholes, names;
  for (std::size_t i = 0; i < std::size(kStatic); i++) {
    if (kStatic[i].first != name) continue;
    names.push_back(i + 1);
    if (kStatic[i].second == value) wholes.push_back(i + 1);
  }
  for (const auto& [index, of] : kStaticNames) {
    if (of != name) continue;
    names.push_back(index);
    if (value.empty()) wholes.push_back(index);
  }
  std::size_t newer = 0;
  for (std::size_t i = 0; i < table_.size(); i++) {
    if (table_[i].name != name) continue;
    if (tame_ && (name.size() >= 63 || (name == "authorization" && newer++ >= CASA_H2_TOKENS) || i >= CASA_H2_NAMES))
      break;
    names.push_back(i + 62);
    if (table_[i].value == value) wholes.push_back(i + 62);
  }
  if (!wholes.empty() && !one_in(4)) return integer(0x80, 7, wholes[below(static_cast<std::uint32_t>(wholes.size()))]);
  bool by_index = !names.empty() && !one_in(4);
  literal(by_index ? names[below(static_cast<std::uint32_t>(names.size()))] : 0, name, value);
}

std::string H2Encoder::random_text(std::size_t length) {
  std::string text;
  bool any = one_in(8);
  while (text.size() < length) text += static_cast<char>(any ? next_() : 'a' + below(26));
  return text;
}

std::string H2Encoder::value_of(const std::string& name) {
  constexpr std::size_t kEdges[] = {0, 1, 20, 62, 63, 64, 85, 200, 4096 - 32 - 13, 4096 - 32 - 13 + 1};
  std::uint32_t number = below(one_in(2) ? 3 : 14);
  std::string value = std::to_string(number);
  if (one_in(6)) return random_text(one_in(2) ? kEdges[below(std::size(kEdges))] : below(300));
  if (name == "authorization")
    return "Bearer eyJ" + std::string(number * 7, static_cast<char>('a' + number)) + "." + value;
  if (name == ":path") return number ? "/v1/things/" + value : "/";
  constexpr std::string_view kMethods[] = {"GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS"};
  return name == ":method" ? std::string(kMethods[number % std::size(kMethods)]) : value;
}

void H2Encoder::request() {
  static const std::string kNames[] = {":authority",
                                       "cookie",
                                       "user-agent",
                                       "content-type",
                                       "x-trace",
                                       "auth",
                                       "authorizations",
                                       ":paths",
                                       std::string(62, 'n'),
                                       std::string(63, 'n'),
                                       std::string(64, 'n'),
                                       std::string(100, 'm'),
                                       "",
                                       "Authorizations"};
  block_.clear();
  while (one_in(12)) resize();
  bool trailers = one_in(10);
  if (!trailers) {
    field(":method", value_of(":method"));
    field(":path", value_of(":path"));
    if (one_in(2)) field(":scheme", "http");
  }
  for (std::uint32_t i = below(5); i; i--) {
    const std::string& name = kNames[below(std::size(kNames))];
    field(name, value_of(name));
  }
  while (!trailers && !one_in(3)) field("authorization", value_of("authorization"));
  if (!tame_ && one_in(1000)) field("Authorization", "x");
  if (!tame_ && one_in(1000)) field(":path", "/second");
  frames(next_stream(), block_);
}

}  // namespace casa::inspect

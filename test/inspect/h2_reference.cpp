// A second reader of what an HTTP/2 client sends: whole blocks, decoded by libnghttp2, which also says of each field how many bytes it was;
// the first of them tells what kind of representation it is.
#include <nghttp2/nghttp2.h>

#include <algorithm>
#include <optional>

#include "h2_check.h"

namespace casa::inspect {
namespace {

constexpr std::string_view kPreface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
constexpr std::size_t kEntry = 32, kDynamic = 62;

struct Integer {
  std::uint64_t value;
  std::size_t length;
};
std::optional<Integer> read_integer(View bytes, unsigned bits) {
  std::uint64_t mask = (1u << bits) - 1;
  if (bytes.empty()) return {};
  std::uint64_t value = bytes[0] & mask;
  if (value < mask) return Integer{value, 1};
  for (std::size_t i = 1; i < bytes.size() && i < 8; i++) {
    value += static_cast<std::uint64_t>(bytes[i] & 0x7f) << (7 * (i - 1));
    if (!(bytes[i] & 0x80)) return Integer{value, i + 1};
  }
  return {};
}

class Blocks {
 public:
  explicit Blocks(H2Reading& reading) : reading_(reading) {
    nghttp2_hd_inflate_new(&inflater_);
    nghttp2_hd_inflate_change_table_size(inflater_, 1u << 30);
  }
  Blocks(const Blocks&) = delete;
  Blocks& operator=(const Blocks&) = delete;
  ~Blocks() { nghttp2_hd_inflate_del(inflater_); }

  void read(std::uint32_t stream, View bytes) {
    block_ = {stream};
    for (bool over = false; !over && !stopped();) {
      nghttp2_nv nv{};
      int flags = 0;
      auto n = nghttp2_hd_inflate_hd2(inflater_, &nv, &flags, bytes.data(), bytes.size(), 1);
      if (n < 0) {
        reading_.peer_refuses = true;
        return;
      }
      View whole = bytes.first(static_cast<std::size_t>(n));
      bytes = bytes.subspan(static_cast<std::size_t>(n));
      if (flags & NGHTTP2_HD_INFLATE_EMIT) {
        field(whole, {reinterpret_cast<const char*>(nv.name), nv.namelen},
              {reinterpret_cast<const char*>(nv.value), nv.valuelen});
      } else {
        table_sizes(whole);
      }
      over = flags & NGHTTP2_HD_INFLATE_FINAL;
    }
    nghttp2_hd_inflate_end_headers(inflater_);
    if (!stopped()) reading_.blocks.push_back(block_);
  }

 private:
  struct Insertion {
    H2Field field;
    std::size_t name_length;
    bool exact;
  };

  bool stopped() const { return reading_.unread || reading_.peer_refuses; }

  View table_sizes(View bytes) {
    while (!bytes.empty() && (bytes[0] & 0xe0) == 0x20) {
      auto size = read_integer(bytes, 5);
      if (!size) break;
      table_size_ = size->value;
      bytes = bytes.subspan(size->length);
    }
    return bytes;
  }

  void field(View bytes, std::string_view name, std::string_view value) {
    bytes = table_sizes(bytes);
    std::uint8_t first = bytes.empty() ? 0 : bytes[0];
    auto index = read_integer(bytes, first & 0x80 ? 7 : first & 0x40 ? 6 : 4).value_or(Integer{0, 0}).value;
    H2Field is = which(name);
    const Insertion* of = nullptr;
    if (index >= kDynamic + CASA_H2_NAMES) return unread(CASA_UNREAD_TRUNCATED);
    if (index >= kDynamic) of = &insertions_.at(insertions_.size() - 1 - (index - kDynamic));
    if (first & 0x80) return indexed(is, value, of);
    if (is != H2Field::kOther) tell(is, std::string(value), false);
    if (!stopped() && (first & 0xc0) == 0x40) insert(is, name.size(), value.size(), of);
  }

  void indexed(H2Field is, std::string_view value, const Insertion* of) {
    if (is == H2Field::kOther) return;
    const Insertion* end = insertions_.data() + insertions_.size();
    bool gone = of && std::count_if(of, end, [&](const Insertion& i) { return i.field == is; }) > kept(is);
    reading_.references += of != nullptr;
    if (gone && is == H2Field::kAuthorization) return unread(CASA_UNREAD_TRUNCATED);
    tell(is, gone ? "" : std::string(value), gone);
  }

  void insert(H2Field is, std::size_t name, std::size_t value, const Insertion* of) {
    bool exact = !of || (of->exact && of->name_length < 63);
    bool fits = name + value + kEntry <= table_size_;
    if (!exact && 63 + value + kEntry <= table_size_ && longest_ + value + kEntry > table_size_)
      return unread(CASA_UNREAD_TRUNCATED);
    if (!fits) return;
    insertions_.push_back({is, name, exact});
    longest_ = std::max(longest_, name);
  }

  void tell(H2Field is, std::string value, bool gone) {
    bool twice =
        std::any_of(block_.fields.begin(), block_.fields.end(), [&](const H2Told& told) { return told.field == is; });
    if (twice && is != H2Field::kAuthorization) return unread(CASA_UNREAD_AMBIGUOUS);
    block_.fields.push_back({is, std::move(value), gone});
  }

  // A name in the wrong case is as good as two readings; but only of a field that counts.
  H2Field which(std::string_view name) {
    std::string folded(name);
    for (char& c : folded)
      if (c >= 'A' && c <= 'Z') c = static_cast<char>(c | 0x20);
    H2Field is = folded == "authorization" ? H2Field::kAuthorization
                 : folded == ":path"       ? H2Field::kPath
                 : folded == ":method"     ? H2Field::kMethod
                                           : H2Field::kOther;
    if (is != H2Field::kOther && folded != name) unread(CASA_UNREAD_AMBIGUOUS);
    return is;
  }
  static int kept(H2Field is) {
    return is == H2Field::kAuthorization ? CASA_H2_TOKENS : is == H2Field::kPath ? CASA_H2_PATHS : CASA_H2_METHODS;
  }
  void unread(unsigned why) {
    if (!stopped()) reading_.unread = why;
  }

  H2Reading& reading_;
  nghttp2_hd_inflater* inflater_ = nullptr;
  H2Block block_;
  std::vector<Insertion> insertions_;
  std::uint64_t table_size_ = 4096;
  std::size_t longest_ = 0;
};

}  // namespace

H2Reading read_h2_reference(View bytes) {
  H2Reading reading;
  Blocks blocks(reading);
  std::size_t same = 0;
  while (same < std::min(kPreface.size(), bytes.size()) && bytes[same] == static_cast<std::uint8_t>(kPreface[same]))
    same++;
  if (same < kPreface.size()) {
    if (same < bytes.size()) reading.unread = CASA_UNREAD_OPAQUE;
    return reading;
  }
  bytes = bytes.subspan(same);
  std::uint32_t open = 0;  // the stream whose header block goes on
  Bytes block;
  while (bytes.size() >= 9 && !reading.unread && !reading.peer_refuses) {
    std::size_t length = static_cast<std::size_t>(bytes[0]) << 16 | static_cast<std::size_t>(bytes[1]) << 8 | bytes[2];
    unsigned type = bytes[3], flags = bytes[4];
    std::uint32_t stream = (bytes[5] & 0x7fu) << 24 | static_cast<std::uint32_t>(bytes[6]) << 16 |
                           static_cast<std::uint32_t>(bytes[7]) << 8 | bytes[8];
    bytes = bytes.subspan(9);
    if (open ? type != 9 || stream != open : type == 9 || type == 5 || (type == 1 && !stream)) {
      reading.unread = CASA_UNREAD_AMBIGUOUS;
      break;
    }
    bool whole = bytes.size() >= length;
    View payload = bytes.first(std::min(length, bytes.size()));
    bytes = bytes.subspan(payload.size());
    if (type != 1 && type != 9) continue;
    std::size_t before = 0, behind = 0;
    if (type == 1 && flags & 8) {
      if (length && payload.empty()) break;
      behind = length ? payload[0] : 0;
      before = 1;
    }
    if (type == 1 && flags & 32) before += 5;
    if (length < before + behind) {
      reading.unread = CASA_UNREAD_AMBIGUOUS;
      break;
    }
    // Padding that is still to come changes nothing: the block is whole before it.
    std::size_t fragment = length - before - behind;
    if (payload.size() < before + fragment && !whole) {
      reading.peer_refuses = true;  // what a part of a block leads to is not compared
      break;
    }
    View part = payload.subspan(before, fragment);
    block.insert(block.end(), part.begin(), part.end());
    open = stream;
    if (!(flags & 4)) continue;
    open = 0;
    blocks.read(stream, block);
    block.clear();
  }
  // A block that is open may already have been found wrong by one who reads byte by byte.
  if (open && !reading.unread) reading.peer_refuses = true;
  return reading;
}

}  // namespace casa::inspect

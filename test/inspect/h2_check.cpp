#include "h2_check.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <memory>

#include "h2.h"
#include "http1_reference.h"

namespace casa::inspect {
namespace {

// As bpf/lib/hpack.h has them.
constexpr casa_u32 kBegin = 0x10000, kOne = 0x20000, kTwo = 0x40000, kKeep = 0x100000, kAgain = 0x200000,
                   kBlock = 0x400000, kUnread = 0x800000;
constexpr unsigned kStatic = 0x80, kGone = 0x40;

std::string static_value(unsigned index) {
  switch (index) {
    case 2: return "GET";
    case 3: return "POST";
    case 4: return "/";
    case 5: return "/index.html";
    default: return "";
  }
}

class Reader {
 public:
  Reader() { h2_begin(state_.get()); }

  void segment(View bytes) {
    for (std::size_t at = 0; at < bytes.size() && !reading_.unread;) {
      std::size_t n = std::min<std::size_t>(state_->skip, bytes.size() - at);
      if (n) {
        state_->skip -= static_cast<casa_u32>(n);
        at += n;
        continue;
      }
      reading_.calls++;
      take(casa_h2_byte(state_.get(), bytes[at++]));
    }
  }
  H2Reading end() { return std::move(reading_); }

 private:
  void take(casa_u32 out) {
    if (out & kUnread) {
      reading_.unread = out & 0xff;
      return;
    }
    if (out & kBegin) block_.fields.push_back({field(), ""});
    if (out & (kOne | kTwo)) block_.fields.back().value += static_cast<char>(out & 0xff);
    if (out & kTwo) block_.fields.back().value += static_cast<char>(out >> 8 & 0xff);
    if (out & kKeep) kept_.at(state_->slot) = block_.fields.back().value;
    if (out & kAgain) again();
    if (out & kBlock) {
      block_.stream = state_->stream;
      reading_.blocks.push_back(std::move(block_));
      block_ = {};
    }
  }
  void again() {
    unsigned slot = state_->slot;
    if (slot == kGone) block_.fields.push_back({field(), "", true});
    else block_.fields.push_back({field(), slot & kStatic ? static_value(slot & 63) : kept_.at(slot)});
  }
  H2Field field() const { return static_cast<H2Field>(state_->field); }

  std::unique_ptr<casa_h2> state_ = std::make_unique<casa_h2>();  // a block of its own: a byte too many is seen
  std::array<std::string, CASA_H2_KEPT> kept_;
  H2Block block_;
  H2Reading reading_;
};

std::string describe(const H2Reading& reading) {
  std::string text =
      "unread " + std::to_string(reading.unread) + ", " + std::to_string(reading.blocks.size()) + " blocks";
  if (reading.blocks.empty()) return text;
  text += "; the last: stream " + std::to_string(reading.blocks.back().stream);
  for (const H2Told& told : reading.blocks.back().fields)
    text += " [" + std::to_string(static_cast<int>(told.field)) + (told.gone ? " gone" : "") + " '" + told.value + "']";
  return text;
}

constexpr unsigned kWantToken = 1, kWantKnown = 2, kWantHead = 4, kWantUnread = 8, kWantValue = 16;

std::string token_of(const casa_request& r) {
  return std::string(reinterpret_cast<const char*>(r.known_sha256), sizeof r.known_sha256) + ' ' +
         std::to_string(r.known_length) + ' ' + std::to_string(r.known_flags);
}
// Is what was gathered for the check of its signature what was hashed?
bool is_gathered(const casa_raw_token& raw, const casa_request& r) {
  if (raw.length != r.known_length) return false;
  auto digest = sha256_of({raw.token, raw.length});
  return std::equal(digest.begin(), digest.end(), r.known_sha256);
}
void finish(H2Request& request, const casa_request& r) {
  request.method.assign(r.method, strnlen(r.method, sizeof r.method));
  request.path.assign(r.path, strnlen(r.path, sizeof r.path));
}

}  // namespace

std::vector<H2Request> read_h2_requests(View bytes, std::span<const std::size_t> lengths, std::size_t& recognised) {
  std::vector<H2Request> requests;
  H2Request request;
  auto h = std::make_unique<casa_h2>();
  auto r = std::make_unique<casa_request>();
  auto raw = std::make_unique<casa_raw_token>();
  raw->length = CASA_TOKEN_MAX;  // left by a token that was given up
  h2_begin(h.get());
  for (std::size_t i = 0; !bytes.empty(); i++) {
    std::size_t n =
        std::min({i < lengths.size() ? lengths[i] : bytes.size(), bytes.size(), std::size_t{CASA_CHUNK - 1}});
    while (n) {
      std::memset(r->chunk, 0xaa, sizeof r->chunk);
      std::memcpy(r->chunk, bytes.data(), n);
      auto taken = static_cast<std::size_t>(casa_h2_read_into(h.get(), r.get(), raw.get(), static_cast<casa_u32>(n)));
      bytes = bytes.subspan(taken);
      n -= taken;
      unsigned want = h->want;
      h->want = 0;
      if (want & kWantValue) {
        want = 0;
        if (h->string_left <= h->frame_left && h->string_left <= n) {
          std::string_view value(reinterpret_cast<const char*>(bytes.data()), h->string_left);
          h->print = std::hash<std::string_view>{}(value) | 1;
          h->print_length = h->string_left << 1 | h->huffman;
          if (h->print == h->known_print && h->print_length == h->known_length) {
            want = static_cast<unsigned>(h2_known(h.get(), r.get()));
            recognised++;
          }
        }
      }
      if (want & kWantUnread) return requests;
      if (want & kWantToken) request.tokens.push_back(token_of(*r));
      if (want & kWantToken && !(want & kWantKnown) && !is_gathered(*raw, *r))
        request.tokens.back() += ", and something else was gathered";
      if (!(want & kWantHead)) continue;
      request.stream = r->number;
      finish(request, *r);
      requests.push_back(std::move(request));
      request = {};
    }
  }
  return requests;
}

std::vector<H2Request> tell_h2_requests(const H2Reading& reading) {
  std::vector<H2Request> requests;
  for (const H2Block& block : reading.blocks) {
    if (block.fields.empty()) continue;
    auto r = std::make_unique<casa_request>();
    H2Request request{block.stream};
    casa_request_begin(r.get(), block.stream);
    for (const H2Told& told : block.fields) {
      std::string value = told.value;
      if (told.field == H2Field::kPath) value.resize(std::min(value.find_first_of("?#;"), value.size()));
      if (told.field == H2Field::kMethod && told.gone) value = "?";
      if (told.field == H2Field::kAuthorization) casa_auth_begin(r.get());
      for (char c : value) {
        auto byte = static_cast<std::uint8_t>(c);
        if (told.field == H2Field::kPath) casa_path_byte(r.get(), byte);
        else if (told.field == H2Field::kMethod) casa_method_byte(r.get(), byte);
        else casa_auth_byte(r.get(), byte);
      }
      if (told.field == H2Field::kAuthorization && casa_auth_end(r.get())) request.tokens.push_back(token_of(*r));
    }
    finish(request, *r);
    if (std::any_of(block.fields.begin(), block.fields.end(),
                    [](const H2Told& t) { return t.field == H2Field::kPath && t.gone; }))
      request.path = "?";
    requests.push_back(std::move(request));
  }
  return requests;
}

H2Reading read_h2(View bytes, std::span<const std::size_t> lengths) {
  Reader reader;
  for (std::size_t length : lengths) {
    length = std::min(length, bytes.size());
    Bytes segment(bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(length));
    reader.segment(segment);
    bytes = bytes.subspan(length);
  }
  reader.segment(bytes);
  return reader.end();
}

std::string check_h2(View bytes, std::span<const std::size_t> lengths, H2Reading* out) {
  H2Reading reading = read_h2(bytes, lengths), wanted = read_h2_reference(bytes);
  if (out) {
    *out = reading;
    out->references = wanted.references;
    out->peer_refuses = wanted.peer_refuses;
  }
  // Behind what the peer refuses there is nothing to be right about, but up to there it counts.
  std::size_t n = wanted.blocks.size();
  bool same =
      wanted.peer_refuses ? reading.blocks.size() >= n : reading.blocks.size() == n && reading.unread == wanted.unread;
  if (same && std::equal(wanted.blocks.begin(), wanted.blocks.end(), reading.blocks.begin())) return "";
  auto differs =
      std::mismatch(wanted.blocks.begin(), wanted.blocks.end(), reading.blocks.begin(), reading.blocks.end());
  auto at = differs.first - wanted.blocks.begin();
  wanted.blocks.resize(std::min<std::size_t>(wanted.blocks.size(), static_cast<std::size_t>(at) + 1));
  reading.blocks.resize(std::min<std::size_t>(reading.blocks.size(), static_cast<std::size_t>(at) + 1));
  return "from block " + std::to_string(at) + " on: read " + describe(reading) + "; wanted " + describe(wanted) +
         (wanted.peer_refuses ? " at least" : "");
}

}  // namespace casa::inspect

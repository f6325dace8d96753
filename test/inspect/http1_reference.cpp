#include "http1_reference.h"

#include <algorithm>

namespace casa::inspect {
namespace {

constexpr std::uint64_t kNumberLimit = 1ull << 52;  // a length that goes on behind this is no length
const std::array<std::string, 4> kHeaders = {"authorization", "content-length", "transfer-encoding", "upgrade"};

bool is_tchar(int c) {
  return c > 32 && c < 127 &&
         std::string_view("\"(),/:;<=>?@[\\]{}").find(static_cast<char>(c)) == std::string_view::npos;
}
bool is_space(int c) { return c == ' ' || c == '\t'; }
bool is_digit(int c) { return c >= '0' && c <= '9'; }
int lower(int c) { return c >= 'A' && c <= 'Z' ? c + 32 : c; }
bool is_hex(int c) { return is_digit(c) || (lower(c) >= 'a' && lower(c) <= 'f'); }
bool is_token(int c) { return c > 32 && c < 127 && c != ',' && c != ';' && c != '"'; }
// What no field may hold, and programs strip, cut at or stumble over, each in its way.
bool is_odd(int c) { return (c < 32 && !is_space(c)) || c >= 127; }

// The path that is told of a target: no scheme and host, no query; what is too long to be a name is a '*'.
std::string told_path(std::string_view target) {
  target = target.substr(0, target.find_first_of("?#;"));
  if (!target.starts_with('/')) {
    std::size_t at = 0;
    for (int slashes = 0; slashes < 3 && at != std::string_view::npos; ++slashes)
      at = target.find('/', at == 0 && slashes == 0 ? 0 : at + 1);
    target = at == std::string_view::npos ? std::string_view() : target.substr(at);
  }
  std::string out;
  while (target.starts_with('/') && out.size() < CASA_PATH_LEN) {
    target.remove_prefix(1);
    std::string_view segment = target.substr(0, target.find('/'));
    target.remove_prefix(segment.size());
    out += '/';
    bool is_whole = segment.size() <= CASA_PATH_SEGMENT_MAX && out.size() + segment.size() <= CASA_PATH_LEN;
    if (is_whole && !segment.starts_with('*')) out += segment;
    else if (out.size() < CASA_PATH_LEN) out += '*';
  }
  return out;
}

class Reader {
 public:
  Reader(View stream, bool fin, const std::set<std::string>& endpoints)
      : stream_(stream), fin_(fin), endpoints_(endpoints) {}

  Requests run() {
    try {
      for (;;) request();
    } catch (const Over&) {
    } catch (const Lost& lost) {
      out_.unread = lost.why;
      out_.app = out_.http                             ? CASA_APP_HTTP1
                 : lost.why != CASA_UNREAD_OPAQUE      ? (number_ != 0 ? CASA_APP_HTTP1 : CASA_APP_UNKNOWN)
                 : stream_[0] >= 20 && stream_[0] < 24 ? CASA_APP_TLS
                                                       : CASA_APP_OTHER;
    }
    return std::move(out_);
  }

 private:
  struct Over {};  // there is no more of the stream
  struct Lost {
    casa_unread why;
  };
  [[noreturn]] static void ambiguous() { throw Lost{CASA_UNREAD_AMBIGUOUS}; }
  // No request. What is not HTTP from the beginning, or became something else because somebody asked for that, is opaque; else we are out of step.
  [[noreturn]] void foreign() const {
    throw Lost{out_.http && !upgraded_ ? CASA_UNREAD_TRUNCATED : CASA_UNREAD_OPAQUE};
  }

  int next() {
    if (at_ == stream_.size()) throw Over{};
    if (++head_ > CASA_HEAD_MAX) throw Lost{CASA_UNREAD_TRUNCATED};
    return stream_[at_++];
  }
  void back() { --at_, --head_; }
  void line_feed() {  // behind a carriage return
    if (next() != '\n') ambiguous();
  }

  void request() {
    head_ = 0;
    length_ = chunked_ = http10_ = authorized_ = has_token_ = second_ = false;
    left_ = 0;
    method_.clear();
    int c = next();
    while (c == '\r' || c == '\n') c = next();
    if (!is_tchar(c)) foreign();
    ++number_;
    for (; is_tchar(c); c = next()) method_ += static_cast<char>(c);
    if (!is_space(c)) foreign();
    while (is_space(c)) c = next();
    std::string target;
    for (; c > 32; c = next()) target += static_cast<char>(c);
    if (!is_space(c)) foreign();
    path_ = told_path(target);
    bool http2 = version(c);
    for (bool first = true; line(first); first = false) {
    }
    head_ends(http2);
    body();
  }

  bool version(int c) {
    while (is_space(c)) c = next();
    for (char expected : std::string_view("HTTP/")) {
      if (c != expected) foreign();
      c = next();
    }
    int major = c;
    if (major != '1' && major != '2') foreign();
    if (next() != '.') foreign();
    int minor = next();
    if (major == '1' ? !is_digit(minor) : minor != '0') foreign();
    http10_ = major == '1' && minor == '0';
    c = next();
    while (is_space(c)) c = next();
    if (c == '\r') line_feed();
    else if (c != '\n') foreign();
    return major == '2';
  }

  void skip_line() {
    for (int c = next(); c != '\n'; c = next())
      if (c == '\r') {
        line_feed();
        return;
      }
  }

  // One line of the head; false for the empty one that ends it.
  bool line(bool first) {
    int c = next();
    if (c == '\r') line_feed();
    if (c == '\r' || c == '\n') return false;
    if (is_space(c)) {
      if (first) ambiguous();
      skip_line();
      return true;
    }
    std::string name;
    for (;; c = next()) {
      bool is_name = std::ranges::find(kHeaders, name) != kHeaders.end();
      if (is_name && c == ':') break;
      if (c == '\n') return true;
      if (c == '\r') {
        line_feed();
        return true;
      }
      if (is_name && (is_space(c) || is_odd(c))) ambiguous();
      name += static_cast<char>(lower(c));
      if (std::ranges::none_of(kHeaders, [&](const std::string& h) { return h.starts_with(name); })) {
        skip_line();
        return true;
      }
    }
    if (name == "authorization") authorization();
    else if (name == "content-length") content_length();
    else if (name == "transfer-encoding") transfer_encoding();
    else {
      upgraded_ = true;
      skip_line();
    }
    return true;
  }

  // The next character of a value: -1 when it is over; where its line is folded, a space.
  int value() {
    int c = next();
    if (c == '\r') {
      line_feed();
      c = '\n';
    }
    if (c != '\n') return c;
    c = next();
    if (is_space(c)) return ' ';
    back();
    return -1;
  }
  int value_behind_space() {
    int c = value();
    while (is_space(c)) c = value();
    return c;
  }

  void authorization() {
    second_ |= authorized_;
    authorized_ = true;
    int c = value_behind_space();
    for (char expected : std::string_view("bearer")) {
      if (c == -1) return;
      if (is_odd(c)) ambiguous();
      if (lower(c) != expected) {
        skip_line();
        return;
      }
      c = value();
    }
    if (c == -1) return;
    if (is_odd(c)) ambiguous();
    if (!is_space(c)) {
      skip_line();
      return;
    }
    c = value_behind_space();
    if (c == -1) return;
    if (!is_token(c)) ambiguous();
    back();
    token();
  }

  void token() {
    std::size_t begin = at_;
    has_token_ = out_.http = true;
    while (at_ < stream_.size() && is_token(stream_[at_])) {
      ++at_, ++head_;
      if (at_ - begin > CASA_TOKEN_MAX) throw Lost{CASA_UNREAD_TRUNCATED};
    }
    if (at_ == stream_.size() && !fin_) throw Over{};
    std::string bytes(stream_.begin() + static_cast<std::ptrdiff_t>(begin),
                      stream_.begin() + static_cast<std::ptrdiff_t>(at_));
    tell(bytes, begin);
    last_ = bytes;
    int c = next();
    if (is_space(c) || c == ',' || c == ';' || c == '"') skip_line();
    else if (c == '\r') line_feed();
    else if (c != '\n') ambiguous();
  }

  void tell(const std::string& token, std::size_t at) {
    out_.sightings.push_back({number_, method_.substr(0, CASA_METHOD_LEN), path_, token, at, !token.empty() && second_,
                              !token.empty() && token == last_});
  }

  void content_length() {
    if (length_) ambiguous();
    length_ = true;
    int c = value_behind_space();
    if (!is_digit(c)) ambiguous();
    for (; is_digit(c); c = value()) add_digit(10, static_cast<unsigned>(c - '0'));
    while (is_space(c)) c = value();
    if (c != -1) ambiguous();
  }
  void add_digit(unsigned base, unsigned digit) {
    if (left_ > kNumberLimit) ambiguous();
    left_ = left_ * base + digit;
  }

  void transfer_encoding() {
    if (chunked_) ambiguous();
    int c = value_behind_space();
    for (char expected : std::string_view("chunked")) {
      if (c == -1 || lower(c) != expected) ambiguous();
      c = expected == 'd' ? value() : next();  // a word that is folded is none
    }
    chunked_ = true;
    while (is_space(c)) c = value();
    if (c != -1) ambiguous();
  }

  void head_ends(bool http2) {
    if (http2) {
      if (method_ != "PRI" || length_ || chunked_ || authorized_) foreign();
      out_.http2 = true;
      throw Over{};
    }
    if (chunked_ && (length_ || http10_)) ambiguous();
    if (method_ == "CONNECT") {
      if (chunked_ || length_) ambiguous();
      upgraded_ = true;
    }
    out_.http = true;
    ++out_.heads;
    std::string segment = path_.substr(path_.rfind('/') + 1);
    if (!has_token_ && method_ == "POST" && endpoints_.contains(segment)) tell("", 0);
  }

  void skip(std::uint64_t n) {
    if (n > stream_.size() - at_) throw Over{};
    at_ += n;
    head_ = 0;
  }

  void body() {
    if (!chunked_) {
      skip(left_);
      return;
    }
    head_ = 0;
    while (chunk()) {
      if (next() != '\r') ambiguous();
      line_feed();
    }
    for (;;) {  // trailer
      int c = next();
      if (c == '\r') line_feed();
      if (c == '\r' || c == '\n') return;
      while (c != '\n') c = next();
    }
  }

  // A chunk's first line, strictly, and its bytes; false for the last one.
  bool chunk() {
    left_ = 0;
    int c = next();
    if (!is_hex(c)) ambiguous();
    for (; is_hex(c); c = next()) add_digit(16, static_cast<unsigned>(is_digit(c) ? c - '0' : lower(c) - 'a' + 10));
    while (is_space(c)) c = next();
    if (c == ';')
      while (c != '\r') {
        c = next();
        if (c == '\n') ambiguous();
      }
    if (c != '\r') ambiguous();
    line_feed();
    if (left_ == 0) return false;
    skip(left_);
    return true;
  }

  View stream_;
  bool fin_;
  const std::set<std::string>& endpoints_;
  Requests out_;
  std::size_t at_ = 0, head_ = 0;
  std::uint32_t number_ = 0;
  std::uint64_t left_ = 0;
  std::string method_, path_, last_;
  bool upgraded_ = false, length_ = false, chunked_ = false, http10_ = false, authorized_ = false, has_token_ = false,
       second_ = false;
};

}  // namespace

Requests read_requests(View stream, bool fin, const std::set<std::string>& endpoints) {
  return Reader(stream, fin, endpoints).run();
}

}  // namespace casa::inspect

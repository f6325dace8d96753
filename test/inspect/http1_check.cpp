#include "http1_check.h"

#include <algorithm>
#include <random>
#include <unordered_set>

namespace casa::inspect {
namespace {

constexpr std::uint32_t kSubject = 256, kPeer = 300, kGeneration = 2;
constexpr std::uint64_t kCgroup = 4711;
constexpr unsigned kRuns = 33;  // of one packet: tail calls that the kernel allows
constexpr std::size_t kLongest = 128 * 1024;
constexpr std::uint64_t kSentAgainAfter = 500'000'000;  // nanoseconds
constexpr std::uint8_t kFin = 1, kSyn = 2, kAck = 16, kUrgent = 32;
const std::set<std::string> kEndpoints = {"token", "introspect"};

void make_world(const Http1Way& way) {
  Machine& m = Machine::the();
  bool known = m.begin("http1", way.rule);
  m.clear(casa_user_maps.token);
  m.now_ns = 5'000'000'000'000ull;
  m.cookie = 79;
  m.runs = kRuns;
  m.cgroup = kCgroup;
  if (!known) {
    casa_config config{};
    config.gen = kGeneration;
    config.level_min = config.level_max = 1;
    config.token_flags = CASA_TOKENS_READ;
    m.put(casa_user_maps.config, casa_u32{0}, config);
    m.put(casa_user_maps.subject, casa_u32{kSubject}, casa_versioned{1, CASA_SUBJECT_MANAGED | way.rule, 0});
    m.put(casa_user_maps.cgroup, kCgroup, casa_versioned{1, kSubject, 0});
    for (const std::string& segment : kEndpoints) {
      casa_token_path_key key{};
      segment.copy(key.segment, sizeof key.segment);
      m.put(casa_user_maps.token_path, key, casa_u32{1});
    }
  }
}

// Parts of eight bytes of all tokens.
using Parts = std::unordered_set<std::uint64_t>;
std::uint64_t part_at(const std::uint8_t* p) {
  std::uint64_t part = 0;
  std::memcpy(&part, p, sizeof part);
  return part;
}

void put_signatures(View stream, casa_signature signature) {
  for (const Sighting& s : read_requests(stream, true, kEndpoints).sightings) {
    casa_token_key key{};
    auto digest = sha256_of(s.token);
    std::copy(digest.begin(), digest.end(), key.sha256);
    Machine::the().put(casa_user_maps.token, key, casa_token{static_cast<casa_u32>(signature), 0});
  }
}

class Connection {
 public:
  Connection(const Http1Way& way, View stream, const Parts& parts)
      : way_(way), stream_(stream), parts_(parts), random_(way.seed), ends_{way.ipv6, 8080} {
    make_world(way);
    begin_flow(way.sequence);
    Machine::the().no_storage = way.no_storage;
  }

  std::size_t delivered() const { return delivered_; }

  std::string run() {
    if (way_.used_before && !way_.ingress) leave_something();
    if (!way_.ingress) {
      if (way_.fast_open) delivered_ += send(kSyn, 0, std::min<std::size_t>(stream_.size(), 1 + below(1400)));
      if (!way_.fast_open || chance(2)) send(kSyn, 0, 0);
    }
    delivered_ = way_.unseen;
    for (steps_ = 0; delivered_ < stream_.size() && is_read() && problem_.empty(); ++steps_) {
      if (steps_ > 40 * stream_.size() + 1000) return "the stream does not get through";
      step();
    }
    // What ends a stream may stand in its last segment, or alone.
    if (way_.fin && is_read() && problem_.empty()) {
      send(kAck | kFin, stream_.size(), 0);
      if (way_.repeats)
        send(kAck | kFin, stream_.size() - std::min<std::size_t>(stream_.size(), 5),
             std::min<std::size_t>(stream_.size(), 5));
    }
    if (problem_.empty() && !is_read() && Machine::the().has_storage(casa_user_maps.request))
      problem_ = "the storage stays when nothing is read any more";
    return problem_;
  }

 private:
  std::size_t below(std::size_t n) { return n < 2 ? 0 : random_() % n; }
  bool chance(std::size_t n) { return below(n) == 0; }
  static casa_sk& state() { return Machine::the().storage<casa_sk>(casa_user_maps.sk); }
  static bool is_read() { return (state().flags & CASA_SK_REQUESTS) != 0; }

  void begin_flow(std::uint32_t sequence) {
    first_ = sequence;
    casa_sk& sk = state();
    sk = {};
    sk.cookie = 79;
    sk.start_ns = ++flows_;
    sk.subject = kSubject;
    sk.subject_gen = sk.gen = kGeneration;
    sk.peer = kPeer;
    sk.verdict = CASA_ALLOWED;
    sk.reason = way_.rule == CASA_SUBJECT_TOKEN_DROP ? CASA_REASON_LLM_ALLOWED : CASA_REASON_ENDPOINT_ALLOWED;
    sk.direction = way_.ingress ? CASA_INGRESS : CASA_EGRESS;
    sk.flags = CASA_SK_STARTED | CASA_SK_REQUESTS;
    sk.read_to = way_.ingress ? first_ : first_ - 1;
  }

  // connect(AF_UNSPEC), and connect() again: what was read of the old connection is not this one's.
  void leave_something() {
    static const std::string old =
        "POST /old HTTP/1.1\r\nContent-Length: 999999\r\nAuthorization: Bearer abcdefghijklmnop";
    View whole = stream_;
    stream_ = View(reinterpret_cast<const std::uint8_t*>(old.data()), old.size());
    first_ = way_.sequence - static_cast<std::uint32_t>(chance(2) ? below(200) : random_());
    state().read_to = first_ - 1;
    send(kSyn, 0, 0);
    send(kAck, 0, 20 + below(old.size() - 20));
    stream_ = whole;
    Machine::the().sightings.clear();
    begin_flow(way_.sequence);
  }

  // Bytes that were read and held back may come in other packets.
  static std::uint32_t read_so_far() {
    Machine& m = Machine::the();
    return m.has_storage(casa_user_maps.request) ? m.storage<casa_request>(casa_user_maps.request).next
                                                 : state().read_to;
  }

  std::size_t length() {
    std::size_t longest = way_.longest != 0 ? way_.longest : chance(4) ? kLongest : chance(2) ? 1448 : 40;
    return std::min(1 + below(longest), kLongest);
  }

  void step() {
    std::size_t left = stream_.size() - delivered_, n = std::min(length(), left), from = delivered_;
    if (way_.repeats && chance(3)) from -= std::min(from, below(300));
    if (way_.repeats && chance(5)) n = std::min(n, below(delivered_ - from + 1));
    bool gap = way_.reorders && chance(4) && left > 1 && (way_.ingress || delivered_ > 0);
    if (gap) from = delivered_ + 1 + below(std::min<std::size_t>(left - 1, 3000));
    // What was sent behind the one that is held back begins where that ends.
    if (gap && way_.rule != 0)
      from = std::min<std::size_t>(std::max<std::size_t>(from, read_so_far() - first_ + 1), stream_.size() - 1);
    n = std::min(std::max<std::size_t>(n, 1) + (gap ? 0 : delivered_ - from), stream_.size() - from);
    for (std::size_t limit : {way_.urgent, way_.shared_from})
      if (from < limit) n = std::min(n, limit - from);
    bool last = way_.fin && from + n == stream_.size() && chance(2);
    bool read_before = is_read();
    std::uint32_t read_to = read_so_far();
    std::size_t passed = send(last ? kAck | kFin : kAck, from, n);
    if (gap) {
      if (passed != 0 && read_before &&
          static_cast<std::int32_t>(first_ + static_cast<std::uint32_t>(from) - read_to) > 0)
        problem_ = "bytes behind a gap passed";
      return;
    }
    if (passed == 0) Machine::the().now_ns += kSentAgainAfter;
    if (passed != 0) delivered_ = std::max(delivered_, from + n);
    else if (++drops_ == way_.verified_after) put_signatures(stream_, CASA_SIGNATURE_VALID);
    else if (drops_ > 200) problem_ = "packets are lost again and again";
  }

  // As casa_egress and casa_ingress: what needs no reading goes past the programs. Returns the bytes that passed.
  std::size_t send(std::uint8_t flags, std::size_t from, std::size_t n) {
    if (from >= way_.urgent && n != 0) flags |= kUrgent;
    std::uint32_t sequence = first_ + static_cast<std::uint32_t>(from) - (flags & kSyn ? 1 : 0);
    auto behind = static_cast<std::int32_t>(sequence + static_cast<std::uint32_t>(n) - state().read_to);
    if (!is_read() || (!(flags & (kFin | kSyn | kUrgent)) && (n == 0 || behind <= 0))) return n;
    Machine& m = Machine::the();
    casa_user_page_flags = from >= way_.shared_from ? 2 : 0;
    m.tcp.rcv_nxt = first_ + static_cast<std::uint32_t>(delivered_);
    m.tcp.bytes_received = delivered_;
    int passed = m.run(way_.ingress ? casa_req_in : casa_req_out,
                       tcp_packet(ends_, !way_.ingress, sequence, flags, stream_.subspan(from, n)), way_.ipv6);
    if (way_.watch) look_for_tokens();
    if (passed == 0 && n == 0) problem_ = "a packet without data was lost";
    return passed != 0 ? n : 0;
  }

  void look_for_tokens() {
    Machine& m = Machine::the();
    if (!m.has_storage(casa_user_maps.request)) return;
    const auto& r = m.storage<casa_request>(casa_user_maps.request);
    const auto* bytes = reinterpret_cast<const std::uint8_t*>(&r);
    std::size_t block = offsetof(casa_request, sha.w);
    std::size_t open = r.scheme != 0 ? block + r.hashed % 64 : block;  // the present block of a token that goes on
    std::size_t word = offsetof(casa_request, tail);  // at most seven bytes of it; what is before it is random
    for (std::size_t i = 0; i + 8 <= sizeof r; ++i) {
      if (i < word && i + 8 > word) continue;
      if (i + 8 > block && i < open) continue;
      if (parts_.contains(part_at(bytes + i))) problem_ = "a part of a token stays in storage, at " + std::to_string(i);
    }
  }

  const Http1Way& way_;
  View stream_;
  const Parts& parts_;
  std::minstd_rand random_;
  Ends ends_;
  std::uint32_t first_ = 0;
  std::uint64_t flows_ = 0;
  std::size_t delivered_ = 0, steps_ = 0, drops_ = 0;
  std::string problem_;
};

std::string hex(const std::uint8_t* p) {
  std::string out;
  for (int i = 0; i < 8; ++i) out += "0123456789abcdef"[p[i] >> 4], out += "0123456789abcdef"[p[i] & 15];
  return out;
}

std::string text(const char* p, std::size_t n) { return {p, strnlen(p, n)}; }

std::string compare_sighting(const casa_token_event& e, const Sighting& s) {
  if (e.request != s.number)
    return "number " + std::to_string(e.request) + ", the reference says " + std::to_string(s.number);
  std::string method = text(e.method, sizeof e.method), path = text(e.path, sizeof e.path);
  if (method != s.method) return "method '" + method + "', the reference says '" + s.method + "'";
  if (path != s.path) return "path '" + path + "', the reference says '" + s.path + "'";
  if (e.length != s.token.size())
    return "a token of " + std::to_string(e.length) + ", the reference says " + std::to_string(s.token.size());
  if (e.app != CASA_APP_HTTP1 || e.via != CASA_VIA_WIRE || e.unread != 0) return "not told as HTTP/1 from the wire";
  if (s.token.empty()) return e.shape == CASA_TOKEN_NONE && e.flags == 0 ? "" : "no token, but told as one";
  auto digest = sha256_of(s.token);
  if (!std::equal(digest.begin(), digest.end(), e.sha256))
    return "sha256 " + hex(e.sha256) + ", the reference says " + hex(digest.data());
  Shape shape = shape_of(s.token);
  bool none = (e.flags & CASA_TOKEN_ALG_NONE) != 0;
  if (e.shape == CASA_TOKEN_JWT ? !shape.may_be_jwt : e.shape != CASA_TOKEN_OPAQUE || !shape.may_be_opaque)
    return "shape " + std::to_string(e.shape) + " of " + s.token;
  if ((shape.is_none && !none && !shape.may_be_opaque) || (none && !shape.is_none && !shape.may_look_none))
    return (none ? "alg none is told of " : "alg none is not told of ") + s.token;
  unsigned flags = (s.duplicate ? CASA_TOKEN_DUPLICATE : 0) | (s.known ? CASA_TOKEN_KNOWN : 0);
  if ((e.flags & ~CASA_TOKEN_ALG_NONE) != flags)
    return "flags " + std::to_string(e.flags) + ", the reference says " + std::to_string(flags);
  return e.instance == kCgroup && e.event.subject == kSubject && e.event.peer == kPeer ? "" : "told of somebody else";
}

std::string compare(const Http1Way& way, const Requests& expected) {
  std::vector<casa_token_event> tokens, apps;
  for (const auto& e : Machine::the().sightings) (e.event.kind == CASA_EVENT_APP ? apps : tokens).push_back(e);
  for (std::size_t i = 0; i < std::min(tokens.size(), expected.sightings.size()); ++i) {
    std::string problem = compare_sighting(tokens[i], expected.sightings[i]);
    if (!problem.empty()) return "sighting " + std::to_string(i) + ": " + problem;
  }
  if (expected.http2) return "";  // what follows is another reader's
  if (tokens.size() != expected.sightings.size())
    return std::to_string(tokens.size()) + " sightings, the reference says " +
           std::to_string(expected.sightings.size());
  std::size_t told = (expected.http ? 1u : 0u) + (expected.unread != CASA_UNREAD_NOTHING ? 1u : 0u);
  if (apps.size() != told)
    return std::to_string(apps.size()) + " records about the connection, not " + std::to_string(told);
  if (expected.http && (apps[0].app != CASA_APP_HTTP1 || apps[0].unread != 0)) return "not told as HTTP/1";
  if (expected.unread == CASA_UNREAD_NOTHING) return "";
  const casa_token_event& end = apps.back();
  if (end.unread != expected.unread)
    return "unread " + std::to_string(end.unread) + ", the reference says " + std::to_string(expected.unread);
  // A first segment that comes too early leaves only a byte to tell by.
  bool vague = way.reorders && expected.app == CASA_APP_TLS && end.app == CASA_APP_OTHER;
  if (end.app != expected.app && !vague)
    return "app " + std::to_string(end.app) + ", the reference says " + std::to_string(expected.app);
  return "";
}

}  // namespace

Http1Way Http1Way::of(std::uint8_t options) {
  Http1Way way;
  way.ipv6 = (options & 1) != 0;
  way.ingress = (options & 2) != 0;
  way.fin = (options & 4) != 0;
  way.fast_open = (options & 8) != 0;
  way.repeats = (options & 16) != 0;
  way.reorders = (options & 32) != 0;
  way.longest = options & 64 ? (options & 128 ? 1 : 7) : (options & 128 ? 300 : 0);
  return way;
}

Http1Passed pass_http1(const Http1Way& way, View stream) {
  Connection connection(way, stream, {});
  if (way.signature != CASA_SIGNATURE_UNVERIFIED) put_signatures(stream, way.signature);
  connection.run();
  Http1Passed passed{.bytes = connection.delivered()};
  for (const auto& e : Machine::the().sightings) passed.sightings += e.event.kind == CASA_EVENT_TOKEN ? 1 : 0;
  for (const auto& e : Machine::the().news)
    if (e.event.kind == CASA_EVENT_DENIED) passed.reason = static_cast<casa_reason>(e.event.reason);
  return passed;
}

Http1Result check_http1(const Http1Way& way, View stream) {
  Http1Result result{.problem = {}, .expected = read_requests(stream, way.fin, kEndpoints)};
  if (way.unseen != 0) {
    result.expected = {};
    result.expected.unread = CASA_UNREAD_START;
  } else if (way.urgent < stream.size()) {
    result.expected = read_requests(stream.first(way.urgent), false, kEndpoints);
    result.expected.unread = CASA_UNREAD_AMBIGUOUS;
    result.expected.app = result.expected.heads != 0 ? CASA_APP_HTTP1 : CASA_APP_UNKNOWN;
  }
  Parts parts;
  if (way.watch)
    for (const Sighting& s : result.expected.sightings)
      for (std::size_t i = 0; i + 8 <= s.token.size(); ++i) parts.insert(part_at(stream.data() + s.at + i));
  result.problem = Connection(way, stream, parts).run();
  if (result.problem.empty()) result.problem = compare(way, result.expected);
  return result;
}

}  // namespace casa::inspect

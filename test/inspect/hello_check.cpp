#include "hello_check.h"

#include <algorithm>

#include "hello_reference.h"

namespace casa::inspect {
namespace {

constexpr std::uint32_t kSubject = 256, kGeneration = 2, kApi = 300, kLlm = 301, kOld = 302, kRule = 9;
constexpr std::uint16_t kPort = 443;
// Close below a wrap, so that the sequence numbers of a longer hello pass it.
constexpr std::uint32_t kSequence = 0xffffff00;
constexpr unsigned kFields = 128;  // in one segment
constexpr std::size_t kAfter = 4;  // segments that are sent behind the verdict
constexpr std::uint64_t kNow = 5'000'000'000'000ull;
constexpr std::uint32_t kLater = 6000;

void put_name(const char* name, std::uint32_t payload) {
  casa_name_key key{};
  key.subject = kSubject;
  key.name[0] = '.';
  std::memcpy(key.name + 1, name, std::strlen(name));
  Machine::the().put(casa_user_maps.name, key, casa_versioned{1, payload, 0});
}

void put_rows(const HelloWay& way) {
  Machine& m = Machine::the();
  casa_config config{};
  config.gen = kGeneration;
  m.put(casa_user_maps.config, casa_u32{0}, config);
  casa_u32 flags = CASA_SUBJECT_MANAGED | (way.audit ? CASA_SUBJECT_AUDIT : 0);
  m.put(casa_user_maps.subject, casa_u32{kSubject}, casa_versioned{1, flags, 0});
  put_name("api.example.com", CASA_NAME_LEARN | kApi);
  put_name("llm.example.com", CASA_NAME_LEARN | kLlm);
  put_name("old.example.com", CASA_NAME_LEARN | kOld);
  put_name("mcp.tools.svc.cluster.local", CASA_NAME_ASK);
  for (casa_u32 peer : {kApi, kLlm, kOld})
    m.put(casa_user_maps.policy, casa_policy_key{kSubject, peer, kPort, 6, CASA_EGRESS},
          casa_versioned{1, CASA_POLICY_PAYLOAD(CASA_REASON_LLM_ALLOWED, kRule), 0});
}

void make_world(const HelloWay& way, const Ends& ends) {
  Machine& m = Machine::the();
  bool known = m.begin("hello", way.audit);
  m.now_ns = kNow;
  m.cookie = 78;
  if (!known) put_rows(way);
  // The address was learnt for `old` too, but that has run out, though its rule would allow it.
  casa_learnt_key at{kSubject, {}};
  ends.put_remote(at.address);
  casa_learnt learnt{};
  learnt.slots[0] = {kApi, kLater, CASA_LEARNT_ANSWER};
  learnt.slots[1] = {kOld, 1, CASA_LEARNT_ANSWER};
  if (way.shared) learnt.slots[2] = {kLlm, kLater, CASA_LEARNT_RESOLVER};
  m.put(casa_user_maps.learnt, at, learnt);
  auto& state = m.storage<casa_sk>(casa_user_maps.sk);
  state.subject = kSubject;
  state.subject_gen = state.gen = kGeneration;
  state.peer = kApi;
  state.verdict = CASA_ALLOWED;
  state.reason = CASA_REASON_LLM_ALLOWED;
  state.flags = CASA_SK_LOOK | CASA_SK_NAMED | CASA_SK_STARTED;
}

struct Outcome {
  bool proven = false;
  casa_reason reason = CASA_REASON_NONE;
  std::uint32_t peer = 0;
  std::string problem;
};

class Connection {
 public:
  Connection(const HelloWay& way, View bytes) : way_(way), ends_{way.ipv6, kPort}, bytes_(bytes) {
    make_world(way, ends_);
  }

  Outcome run(std::span<const std::size_t> lengths) {
    std::size_t at = 0, segment = 0, after = 0;
    if (!way_.fast_open) send(2, 0, 0);
    do {
      std::size_t n = segment < lengths.size() ? lengths[segment] : bytes_.size() - at;
      n = std::min(n, bytes_.size() - at);
      bool syn = way_.fast_open && segment == 0;
      std::size_t from = way_.repeats && !syn ? at - std::min<std::size_t>(at, 3) : at;
      // A segment whose predecessor never left: nothing may be read of it, and it comes again.
      if (way_.repeats && n > 0 && segment % 3 == 2 && at + n < bytes_.size()) lose(at + n);
      send(syn ? 2 : 16, from, at + n - from);
      if (way_.repeats && n > 0) send(16, at, n);
      at += n;
      ++segment;
      if (!is_looked_at() || out_.reason != CASA_REASON_NONE) ++after;
    } while (at < bytes_.size() && after < kAfter && out_.problem.empty());
    const auto& state = Machine::the().storage<casa_sk>(casa_user_maps.sk);
    out_.proven = (state.flags & CASA_SK_PROVEN) != 0;
    out_.peer = state.peer;
    return out_;
  }

 private:
  // As casa_egress: what has proven itself is not looked at any more.
  bool is_looked_at() const { return (Machine::the().storage<casa_sk>(casa_user_maps.sk).flags & CASA_SK_LOOK) != 0; }

  int run_packet(std::uint8_t flags, std::size_t from, std::size_t n) {
    // The SYN has a number of its own.
    std::uint32_t sequence = kSequence + (flags & 2 ? 0 : 1) + static_cast<std::uint32_t>(from);
    return Machine::the().run(casa_tls_out, tcp_packet(ends_, true, sequence, flags, bytes_.subspan(from, n)),
                              way_.ipv6);
  }

  void lose(std::size_t from) {
    if (!is_looked_at()) return;
    bool refused = out_.reason != CASA_REASON_NONE;
    std::size_t news = Machine::the().news.size();
    if (run_packet(16, from, bytes_.size() - from) != 0) out_.problem = "bytes behind a gap left";
    if (!refused && Machine::the().news.size() != news) out_.problem = "a gap was told as a denial";
  }

  void send(std::uint8_t flags, std::size_t from, std::size_t n) {
    if (!is_looked_at()) return;
    bool refused = out_.reason != CASA_REASON_NONE;
    int passed = run_packet(flags, from, n);
    const auto& news = Machine::the().news;
    for (const auto& e : news)
      if (!refused && e.event.kind == CASA_EVENT_DENIED) out_.reason = static_cast<casa_reason>(e.event.reason);
    bool may_pass = way_.audit || out_.reason == CASA_REASON_NONE;
    if ((passed == 1) != may_pass)
      out_.problem = may_pass ? "a packet was lost without a reason" : "a refused packet left";
    if (refused && !way_.audit && is_looked_at() == false)
      out_.problem = "a refused connection is not looked at any more";
  }

  const HelloWay& way_;
  const Ends ends_;
  View bytes_;
  Outcome out_;
};

std::string lower(std::string name) {
  for (char& c : name)
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  return name;
}

// What the policy says of the name.
HelloVerdict expected_of(const HelloWay& way, View bytes, std::uint32_t& peer) {
  HelloVerdict v = read_client_hello(bytes);
  peer = kApi;
  if (!v.whole) return v;
  std::string name = lower(v.name);
  bool allowed = name == "api.example.com" || (way.shared && name == "llm.example.com");
  if (allowed && name == "llm.example.com") peer = kLlm;
  if (!allowed) {
    v.whole = false;
    v.reason = CASA_REASON_SNI_MISMATCH;
  }
  return v;
}

}  // namespace

HelloWay HelloWay::of(std::uint8_t options) {
  return {.ipv6 = (options & 1) != 0,
          .shared = (options & 2) != 0,
          .one_byte = (options & 4) != 0,
          .repeats = (options & 8) != 0,
          .fast_open = (options & 16) != 0,
          .audit = (options & 32) != 0};
}

HelloResult check_segments(const HelloWay& way, View bytes, std::span<const std::size_t> lengths) {
  std::uint32_t peer = 0;
  HelloVerdict expected = expected_of(way, bytes, peer);
  Outcome got = Connection(way, bytes).run(lengths);
  HelloResult result{got.problem, got.proven, got.reason};
  // More fields than any client's in one segment are not looked at.
  bool too_many = expected.fields >= kFields && got.reason == CASA_REASON_NOT_TLS;
  if (!result.problem.empty() || too_many) return result;
  bool proven = expected.whole;
  // Audit mode lets a refused one pass, and looks no more; that proves nothing for the day when it is enforced.
  bool over = proven || (way.audit && expected.reason != CASA_REASON_NONE);
  if (got.reason != expected.reason)
    result.problem = "reason " + std::to_string(got.reason) + ", the reference says " + std::to_string(expected.reason);
  else if (got.proven != proven) result.problem = proven ? "the name is not proven" : "what proves nothing is proven";
  else if (got.peer != peer) result.problem = "the wrong peer";
  else if (over == Machine::the().has_storage(casa_user_maps.stream))
    result.problem = "the stream's storage stays, or went too early";
  return result;
}

HelloResult check_hello(const HelloWay& way, View bytes, std::span<const std::size_t> lengths) {
  HelloResult result = check_segments(way, bytes, {});
  if (result.problem.empty()) result.problem = check_segments(way, bytes, lengths).problem;
  if (!result.problem.empty() || !way.one_byte) return result;
  std::vector<std::size_t> ones(bytes.size(), 1);
  result.problem = check_segments(way, bytes, ones).problem;
  return result;
}

}  // namespace casa::inspect

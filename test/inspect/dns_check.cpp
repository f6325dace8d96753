#include "dns_check.h"

#include <algorithm>
#include <map>

#include "dns_reference.h"

namespace casa::inspect {

const char* const kLearnt[3] = {"api.example.com", "llm",
                                // 189 characters: the longest that casad holds.
                                "a23456789-b23456789-c23456789-d23456789-e23456789-f23456789-123."
                                "a23456789-b23456789-c23456789-d23456789-e23456789-f23456789-123."
                                "a23456789-b23456789-c23456789-d23456789-e23456789-f23456789-1"};
const char* const kAsked = "mcp.tools.svc.cluster.local";
const char* const kReverse = "4.3.2.10.in-addr.arpa";
const char* const kForeign = "foreign.example.com";

namespace {

constexpr std::uint32_t kSubject = 256, kOther = 257, kGeneration = 2, kFirstIdentity = 300;
constexpr std::uint64_t kCookie = 77, kNow = 5'000'000'000'000ull;
constexpr std::uint32_t kSequence = 1000;
constexpr unsigned kSteps = 160, kMessages = 4;  // what the programs look at

struct Learnt {
  std::map<std::string, std::uint32_t> expires;  // address, 16 bytes
  bool operator==(const Learnt&) const = default;
};

std::map<std::string, std::uint32_t> needed_names() {
  std::map<std::string, std::uint32_t> names{{kAsked, CASA_NAME_ASK}, {kReverse, CASA_NAME_REVERSE}};
  std::uint32_t identity = kFirstIdentity;
  for (const char* name : kLearnt) names[name] = CASA_NAME_LEARN | identity++;
  return names;
}

const std::map<std::string, std::uint32_t>& needed() {
  static const auto names = needed_names();
  return names;
}

void put_name(std::uint32_t subject, const std::string& name, const casa_versioned& value) {
  casa_name_key key{};
  key.subject = subject;
  std::memcpy(key.name, ("." + name).data(), name.size() + 1);
  Machine::the().put(casa_user_maps.name, key, value);
}

void put_rows(const DnsWay& way) {
  Machine& m = Machine::the();
  casa_config config{};
  config.gen = kGeneration;
  m.put(casa_user_maps.config, casa_u32{0}, config);
  casa_u32 flags = CASA_SUBJECT_MANAGED | (way.audit ? CASA_SUBJECT_AUDIT : 0);
  m.put(casa_user_maps.subject, casa_u32{kSubject}, casa_versioned{1, flags, 0});
  for (const auto& [name, payload] : needed()) put_name(kSubject, name, {1, payload, 0});
  // Not this workload's, and not in force yet.
  put_name(kOther, kForeign, {1, CASA_NAME_LEARN | 400, 0});
  put_name(kSubject, "next.example.com", {kGeneration + 1, CASA_NAME_LEARN | 401, 0});
}

void make_world(const DnsWay& way) {
  Machine& m = Machine::the();
  bool known = m.begin("dns", way.audit);
  m.now_ns = kNow;
  m.cookie = kCookie;
  if (!known) put_rows(way);
  auto& state = m.storage<casa_sk>(casa_user_maps.sk);
  state.subject = kSubject;
  state.subject_gen = kGeneration;
  state.peer = CASA_ID_DNS;
  if (way.host_netns) state.flags = CASA_SK_HOST_NETNS;
}

std::uint32_t payload_of(const std::string& name) {
  auto it = needed().find(name);
  return it == needed().end() ? 0 : it->second;
}

// Exactly one question, of a name and a type that the policy needs, and nothing that could say more.
bool is_allowed_query(View message) {
  auto header = read_header(message);
  auto question = read_question(message);
  if (!header || !question) return false;
  if (header->is_response() || (header->flags & ~0x0130) != 0) return false;
  if (header->counts[0] != 1 || header->counts[1] != 0 || header->counts[2] != 0 || header->counts[3] > 1) return false;
  std::uint32_t payload = payload_of(question->name);
  if (payload == 0 || question->class_ != 1) return false;
  bool type_fits = payload == CASA_NAME_REVERSE ? question->type == 12 : question->type == 1 || question->type == 28;
  View rest = message.subspan(question->end);
  return type_fits && (header->counts[3] == 1 ? is_plain_edns(rest) : rest.empty());
}

// The messages of a segment, as far as they lie whole in it; `left` is what stands behind them.
std::vector<View> messages_of(const DnsWay& way, View bytes, View* left) {
  *left = {};
  if (!way.tcp) return {bytes};
  std::vector<View> found;
  while (bytes.size() >= 2 && found.size() < kMessages) {
    std::size_t length = static_cast<std::size_t>(bytes[0] << 8 | bytes[1]);
    if (length > bytes.size() - 2) break;
    found.push_back(bytes.subspan(2, length));
    bytes = bytes.subspan(2 + length);
  }
  *left = bytes;
  return found;
}

Ends ends_of(const DnsWay& way) { return {way.ipv6, 53}; }

int send(const DnsWay& way, View payload) {
  Ends ends = ends_of(way);
  Machine& m = Machine::the();
  if (!way.tcp) return m.run(casa_dns_out, udp_packet(ends, true, payload), way.ipv6);
  if (m.run(casa_dns_out, tcp_packet(ends, true, kSequence, 2, {}), way.ipv6) != 1) return -1;
  return m.run(casa_dns_out, tcp_packet(ends, true, kSequence + 1, 16, payload), way.ipv6);
}

int receive(const DnsWay& way, View payload) {
  Ends ends = ends_of(way);
  return Machine::the().run(
      casa_dns_in, way.tcp ? tcp_packet(ends, false, 1, 16, payload) : udp_packet(ends, false, payload), way.ipv6);
}

casa_query_key note_of(const DnsWay& way, View message) {
  auto question = read_question(message);
  casa_query_key key{};
  key.cookie = kCookie;
  if (!way.host_netns)
    ends_of(way).put_remote(key.remote);  // there the resolver's address changes on the way (kube-proxy)
  key.remote_port = 53;
  key.name = payload_of(question->name);
  key.id = read_header(message)->id;
  key.type = question->type;
  return key;
}

std::string bytes_of(const casa_query_key& key) { return {reinterpret_cast<const char*>(&key), sizeof key}; }

std::string check_news(const DnsWay& way, bool refused, View name) {
  const auto& news = Machine::the().news;
  if (!refused) return news.empty() ? "" : "a denial of what passed";
  if (news.size() != 1) return "refused without a word, or with two";
  const casa_named_event& e = news.front();
  if (e.event.kind != CASA_EVENT_DENIED || e.event.verdict != (way.audit ? CASA_AUDIT : CASA_DENIED))
    return "the news is no denial";
  if (e.event.reason < CASA_REASON_DNS_NAME_NOT_ALLOWED && e.event.reason != CASA_REASON_FAULT)
    return "a reason that is not DNS's";
  std::size_t n = std::min<std::size_t>(name.size(), CASA_NAME_LEN - 1);
  if (!way.tcp && n > 0 && (e.name_form != CASA_NAME_WIRE || std::memcmp(e.name, name.data(), n) != 0))
    return "the denial does not tell the name";
  return "";
}

DnsResult check_query(const DnsWay& way, View bytes) {
  Machine& m = Machine::the();
  if (way.full) m.full_map = casa_user_maps.query;
  View left;
  auto messages = messages_of(way, bytes, &left);
  bool allowed = left.empty() && !way.full;
  std::map<std::string, bool> notes;  // true: must be there
  for (View message : messages) {
    if (!is_allowed_query(message)) {
      allowed = false;
      break;
    }
    if (!way.full) notes[bytes_of(note_of(way, message))] = true;
  }
  if (way.tcp && bytes.empty()) allowed = true;
  int passed = send(way, bytes);
  if (passed != (allowed || way.audit)) return {allowed ? "a plain query was refused" : "what is no plain query left"};
  auto rows = m.rows<casa_query_key, casa_u64>(casa_user_maps.query);
  if (rows.size() != notes.size()) return {"not one note for each query that is allowed"};
  for (const auto& [key, asked] : rows)
    if (!notes.contains(bytes_of(key)) || asked != kNow) return {"a note of something else"};
  return {check_news(way, !allowed, bytes.size() > 12 ? bytes.subspan(12) : View{}), passed == 1, 0};
}

bool may_be_learnt(const DnsRecord& r) {
  const Bytes& d = r.data;
  if (r.type == 1) return d[0] != 0 && d[0] != 127 && d[0] < 224 && !(d[0] == 169 && d[1] == 254);
  static const std::uint8_t mapped[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
  if (std::equal(mapped, mapped + 12, d.begin())) {
    DnsRecord v4{1, 1, 0, {d.begin() + 12, d.end()}, 0};
    return may_be_learnt(v4);
  }
  if (d[0] == 0xff || (d[0] == 0xfe && (d[1] & 0xc0) == 0x80)) return false;
  return !std::all_of(d.begin(), d.begin() + 15, [](std::uint8_t b) { return b == 0; }) || d[15] > 1;
}

struct Expected {
  bool pass = false;
  std::map<std::uint32_t, Learnt> learnt;  // by identity
};

// What an answer to a question that is waited for does.
void expect_answer(const DnsWay& way, View message, bool waited, Expected& expected) {
  expected.pass = false;
  auto header = read_header(message);
  auto question = read_question(message);
  if (!header || !question || !waited || !header->is_response() || header->opcode() != 0 || header->counts[0] != 1 ||
      question->class_ != 1)
    return;
  expected.pass = true;
  if (header->truncated()) return;
  DnsAnswers answers = read_answers(message, question->end, header->counts[1]);
  if (!answers.whole && answers.broken_at <= kSteps) {
    expected.pass = false;
    return;
  }
  std::uint32_t payload = payload_of(question->name);
  if (!(payload & CASA_NAME_LEARN) || header->rcode() != 0 || !way.host_netns || way.full) return;
  for (const DnsRecord& r : answers.records) {
    if (r.steps > kSteps) break;
    if (r.class_ != 1 || (r.type != 1 && r.type != 28) || !may_be_learnt(r)) continue;
    std::string address(10, '\0');
    if (r.type == 1) address += "\xff\xff";
    else address.clear();
    address.append(r.data.begin(), r.data.end());
    std::uint32_t until = static_cast<std::uint32_t>(kNow / 1'000'000'000) +
                          std::clamp<std::uint32_t>(r.ttl, CASA_LEARNT_SECONDS_MIN, CASA_LEARNT_SECONDS_MAX);
    std::uint32_t& expires = expected.learnt[payload & ~CASA_NAME_LEARN].expires[address];
    expires = std::max(expires, until);
  }
}

std::map<std::uint32_t, Learnt> learnt_now(std::string& problem) {
  std::map<std::uint32_t, Learnt> found;
  for (const auto& [key, value] : Machine::the().rows<casa_learnt_key, casa_learnt>(casa_user_maps.learnt)) {
    if (key.subject != kSubject) problem = "learnt for somebody else";
    for (const auto& slot : value.slots) {
      if (slot.identity == 0) continue;
      if (slot.sources != CASA_LEARNT_ANSWER) problem = "learnt from where?";
      found[slot.identity].expires[{reinterpret_cast<const char*>(key.address), 16}] = slot.expires;
    }
  }
  return found;
}

// The question that an answer carries, asked by the workload itself: through casa_dns_out.
bool ask(const DnsWay& way, View answer) {
  auto header = read_header(answer);
  auto question = read_question(answer);
  if (!header || !question) return false;
  Bytes query{answer[0], answer[1], 1, 0, 0, 1, 0, 0, 0, 0, 0, 0};
  query.insert(query.end(), question->wire.begin(), question->wire.end());
  query.insert(query.end(), answer.begin() + static_cast<std::ptrdiff_t>(question->end) - 4,
               answer.begin() + static_cast<std::ptrdiff_t>(question->end));
  DnsWay datagram = way;
  datagram.tcp = datagram.audit = false;
  return is_allowed_query(query) && send(datagram, query) == 1;
}

DnsResult check_answer(const DnsWay& way, View bytes) {
  Machine& m = Machine::the();
  View left;
  auto messages = messages_of(way, bytes, &left);
  std::map<std::string, bool> waited;
  if (way.asked) {
    for (View message : messages)
      if (ask(way, message)) waited[bytes_of(note_of(way, message))] = true;
    if (!m.news.empty()) return {"a question that may be asked was refused"};
  }
  if (way.full) m.full_map = casa_user_maps.learnt;
  Expected expected;
  for (View message : messages) {
    auto header = read_header(message);
    auto question = read_question(message);
    // An answer uses the note up if it is an answer at all.
    bool taken = header && question && header->is_response() && header->opcode() == 0 && header->counts[0] == 1 &&
                 question->class_ == 1 && waited.erase(bytes_of(note_of(way, message))) != 0;
    expect_answer(way, message, taken, expected);
  }
  int passed = receive(way, bytes);
  if (passed != (way.tcp || way.audit || expected.pass))
    return {expected.pass ? "an answer was refused" : "what is no answer came in"};
  std::string problem;
  auto learnt = learnt_now(problem);
  if (!problem.empty()) return {problem};
  if (learnt != expected.learnt) return {"learnt what the reference did not find, or not what it found"};
  if (m.count(casa_user_maps.query) != waited.size()) return {"a note was taken twice, or not at all"};
  problem = check_news(way, !way.tcp && !expected.pass, bytes.size() > 12 ? bytes.subspan(12) : View{});
  DnsResult result{problem, passed == 1, m.count(casa_user_maps.learnt)};
  if (!problem.empty() || way.tcp || !expected.pass) return result;
  // The same once more: nobody waits for it now.
  m.clear(casa_user_maps.learnt);
  m.full_map = nullptr;
  if (receive(way, bytes) != way.audit || m.count(casa_user_maps.learnt) != 0)
    result.problem = "one question, two answers";
  return result;
}

}  // namespace

DnsWay DnsWay::of(std::uint8_t options) {
  return {.answer = (options & 1) != 0,
          .tcp = (options & 2) != 0,
          .ipv6 = (options & 4) != 0,
          .host_netns = (options & 8) == 0,
          .asked = (options & 16) == 0,
          .full = (options & 32) != 0,
          .audit = (options & 64) != 0};
}

DnsResult check_dns(const DnsWay& way, View bytes) {
  make_world(way);
  return way.answer ? check_answer(way, bytes) : check_query(way, bytes);
}

}  // namespace casa::inspect

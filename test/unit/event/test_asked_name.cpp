// The name of a denial, as the kernel copied it out of a packet that an attacker made: whatever it is, people get a short line
// without control characters, and no label that could carry a secret.
#include <algorithm>
#include <catch2/catch_test_macros.hpp>
#include <cstring>
#include <string>
#include <string_view>

#include "event/decoder.h"

namespace {

using casa::event::asked_name;
using namespace std::string_literals;

casa_named_event named(unsigned form, std::string_view bytes) {
  casa_named_event e{};
  e.event.kind = CASA_EVENT_DENIED;
  e.event.count = 1;
  e.event.verdict = CASA_DENIED;
  e.event.reason = CASA_REASON_DNS_NAME_NOT_ALLOWED;
  e.name_form = static_cast<casa_u8>(form);
  std::copy_n(bytes.begin(), std::min(bytes.size(), sizeof e.name), e.name);
  return e;
}
std::string wire(std::string_view bytes) { return asked_name(named(CASA_NAME_WIRE, bytes)); }
std::string text(std::string_view bytes) { return asked_name(named(CASA_NAME_TEXT, bytes)); }
std::string label(std::size_t length, char c = 'a') { return static_cast<char>(length) + std::string(length, c); }

}  // namespace

TEST_CASE("a name on the wire: labels become dots, what stands behind is not told") {
  CHECK(wire("\3api\3llm\7example\0\0\1\0\1"s) == "api.llm.example");
  CHECK(wire("\3ApI\7EXAMPLE\0"s) == "ApI.EXAMPLE");
  CHECK(wire("\0\0\1\0\1"s).empty());  // the root
}

TEST_CASE("a name as text, behind a byte that means nothing") {
  CHECK(text(".files.llm.example\0rest"s) == "files.llm.example");
  CHECK(text("\3files.llm.example"s) == "files.llm.example");
  CHECK(text("\0files.llm.example"s) == "files.llm.example");
  CHECK(text("."s).empty());
  CHECK(text(".a..b"s) == "a..b");
}

TEST_CASE("no name") {
  CHECK(asked_name(named(CASA_NAME_NONE, "\3api\0"s)).empty());
  CHECK(asked_name(named(99, "\3api\0"s)).empty());
}

TEST_CASE("labels that are longer than people's are told by their length only") {
  CHECK(wire(label(24) + label(3, 'b')) == std::string(24, 'a') + ".bbb");
  CHECK(wire(label(25) + label(3, 'b')) == "(25).bbb");
  CHECK(wire(label(63) + label(63) + "\4evil\7example\0"s) == "(63).(63).evil.example");
  CHECK(text("." + std::string(52, 'k') + ".evil.example") == "(52).evil.example");
}

TEST_CASE("a label that the record cuts off is told by the length that it claims") {
  std::string full = label(63) + label(63) + label(60, 'x');  // 189 bytes, three are left
  CHECK(wire(full + label(40, 's')) == "(63).(63).(60).(40)");
  CHECK(wire(full + label(20, 's')) == "(63).(63).(60).ss");
  CHECK(wire(std::string(CASA_NAME_LEN, '\x3f')) == "(63).(63).(63)");
}

TEST_CASE("broken and hostile bytes") {
  CHECK(wire("\3api\xc0\x0c"s) == "api");  // a pointer
  CHECK(wire("\3api\x40xyz"s) == "api");
  CHECK(wire("\4a.b\x1b\3\xff\n \0"s) == "a?b?.???");
  CHECK(wire("\5ev\0il\0"s) == "ev?il");
  CHECK(text(".\x1b[2J.\xe2\x80\xae.example"s) == "??2J.???.example");
  std::string all(CASA_NAME_LEN, '\1');
  CHECK(wire(all).size() == CASA_NAME_LEN - 1);  // every second byte is a label of one '?'
  CHECK(text(std::string(CASA_NAME_LEN, '.')).size() < CASA_NAME_LEN);
}

TEST_CASE("the decoder keeps the name with the denial, and with what is added up to it") {
  casa::event::Decoder decoder;
  auto e = named(CASA_NAME_WIRE, "\4evil\7example\0"s);
  e.event.subject = 1000;
  e.event.peer = CASA_ID_DNS;
  e.event.remote_port = 53;
  e.event.protocol = 17;
  auto flow = decoder.decode(e.event, &e);
  REQUIRE(flow);
  REQUIRE(flow->asked_name);
  CHECK(*flow->asked_name == "evil.example");
  CHECK(flow->destination.who->kind == casa::event::PeerName::Kind::kDns);
  casa_denial_key key{1000, CASA_ID_DNS, 53, 17, CASA_EGRESS, CASA_REASON_DNS_NAME_NOT_ALLOWED, {}};
  auto more = decoder.pending(key, {0, 4});
  REQUIRE(more);
  CHECK(more->count == 3);
  CHECK(*more->asked_name == "evil.example");
  auto nameless = named(CASA_NAME_NONE, "");
  CHECK(decoder.decode(nameless.event, &nameless)->asked_name == nullptr);
  CHECK(casa::event::Decoder().decode(e.event)->asked_name == nullptr);
}

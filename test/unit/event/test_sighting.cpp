// Kernel records of tokens to sightings, those that make no sense included.
#include <catch2/catch_test_macros.hpp>
#include <cstring>

#include "event/decoder.h"

using namespace casa;
using namespace casa::event;

namespace {

casa_token_event token_record(const char* method = "POST", const char* path = "/mcp?x=secret") {
  casa_token_event r{};
  r.event.kind = CASA_EVENT_TOKEN;
  r.event.time_ns = r.event.start_ns = monotonic_ns();
  r.event.cookie = 7;
  r.event.subject = 1000;
  r.event.peer = CASA_ID_WORLD;
  r.event.verdict = CASA_ALLOWED;
  r.event.reason = CASA_REASON_ENDPOINT_ALLOWED;
  r.event.protocol = 6;
  r.event.remote_port = 80;
  r.event.count = 1;
  r.instance = 4711;
  std::memset(r.sha256, 0xab, sizeof r.sha256);
  r.length = 800;
  r.request = 3;
  r.shape = CASA_TOKEN_JWT;
  r.app = CASA_APP_HTTP1;
  std::strncpy(r.method, method, sizeof r.method);
  std::strncpy(r.path, path, sizeof r.path);
  return r;
}

}  // namespace

TEST_CASE("a sighting has what the record has") {
  Decoder decoder;
  EventClasses classes;
  auto r = token_record();
  r.flags = CASA_TOKEN_ALG_NONE | CASA_TOKEN_DUPLICATE | CASA_TOKEN_KNOWN;
  r.signature = CASA_SIGNATURE_EXPIRED;
  r.via = CASA_VIA_TLS;
  auto s = decoder.decode_sighting(r, classes);
  REQUIRE(s);
  CHECK(s->flow.socket == 7);
  CHECK(s->flow.destination.who->kind == PeerName::Kind::kWorld);
  CHECK(s->flow.destination.port == 80);
  Sha256 expected;
  expected.fill(0xab);
  CHECK(s->sha256 == expected);
  CHECK(s->length == 800);
  CHECK(s->request == 3);
  CHECK(s->is_token());
  CHECK((s->alg_none && s->duplicate && s->known));
  CHECK(s->signature == CASA_SIGNATURE_EXPIRED);
  CHECK(s->via == CASA_VIA_TLS);
  CHECK(s->event == EventClass::kUse);
  CHECK(s->method == "POST");
  CHECK(s->path == "/mcp");
  CHECK(s->instance.cgroup_id == 4711);
  CHECK(s->instance.path == nullptr);
  CHECK_FALSE(decoder.decode_app(r));
}

TEST_CASE("the instance is told by its cgroup's path") {
  Decoder decoder;
  identity::Snapshot snapshot;
  identity::Allocator allocator;
  auto& workload = snapshot.workloads[{"team-a", "agent"}];
  workload.identity = 1000;
  workload.instances.push_back({"team-a.slice/agent.service", 4711, {}});
  decoder.learn(snapshot, {}, allocator);
  auto s = decoder.decode_sighting(token_record(), EventClasses());
  REQUIRE(s);
  REQUIRE(s->instance.path);
  CHECK(*s->instance.path == "team-a.slice/agent.service");
  CHECK(subject_of(s->flow).who->name == "agent");
}

TEST_CASE("a request without a token counts at a token endpoint only") {
  Decoder decoder;
  EventClasses classes;
  auto r = token_record("POST", "/oauth/token");
  r.shape = CASA_TOKEN_NONE;
  auto s = decoder.decode_sighting(r, classes);
  REQUIRE(s);
  CHECK(s->event == EventClass::kIssuance);
  CHECK_FALSE(s->is_token());
  CHECK(s->sha256 == Sha256{});
  r = token_record("POST", "/some/token");
  r.shape = CASA_TOKEN_NONE;
  CHECK_FALSE(decoder.decode_sighting(r, classes));
}

TEST_CASE("records that make no sense are survived") {
  Decoder decoder;
  EventClasses classes;
  casa_token_event r;
  std::memset(&r, 0xff, sizeof r);
  CHECK_FALSE(decoder.decode_sighting(r, classes));
  r.event.kind = CASA_EVENT_TOKEN;
  auto s = decoder.decode_sighting(r, classes);
  REQUIRE(s);
  CHECK(s->shape == CASA_TOKEN_UNHASHED);
  CHECK(s->method == "?");
  CHECK(s->path == "{id}");
  CHECK(std::string(to_string(s->app)) == "other");
  CHECK(s->signature == CASA_SIGNATURE_UNVERIFIED);
  r.event.kind = CASA_EVENT_APP;
  auto app = decoder.decode_app(r);
  REQUIRE(app);
  CHECK(app->app == CASA_APP_OTHER);
  CHECK(app->unread == CASA_UNREAD_OPAQUE);
}

TEST_CASE("a hash in hexadecimal") {
  Sha256 hash{};
  hash[0] = 0x0f;
  CHECK(parse_sha256(to_hex(hash)) == hash);
  CHECK(parse_sha256("0F" + std::string(62, '0')) == hash);
  CHECK_FALSE(parse_sha256(""));
  CHECK_FALSE(parse_sha256(std::string(63, '0')));
  CHECK_FALSE(parse_sha256(std::string(65, '0')));
  CHECK_FALSE(parse_sha256(std::string(63, '0') + "g"));
}

// Kernel records to flows: directions, totals of denials, records that make no sense.
#include <catch2/catch_test_macros.hpp>
#include <cstring>
#include <ctime>

#include "event/decoder.h"

namespace {

casa_event record(casa_u8 kind) {
  timespec now{};
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  casa_event e{};
  e.kind = kind;
  e.time_ns = e.start_ns = static_cast<casa_u64>(now.tv_sec) * 1'000'000'000ull;
  e.subject = 1000;
  e.peer = CASA_ID_WORLD;
  e.pid = 42;
  e.count = 1;
  e.verdict = CASA_DENIED;
  e.reason = CASA_REASON_EXTERNAL_NOT_ALLOWED;
  e.protocol = 6;
  e.remote_port = 443;
  e.local_port = 40000;
  e.tx_bytes = 10;
  e.rx_bytes = 20;
  std::memcpy(e.comm, "curl", 5);
  return e;
}

}  // namespace

TEST_CASE("a denial's total becomes what is new") {
  casa::event::Decoder decoder;
  casa_event e = record(CASA_EVENT_DENIED);
  CHECK(decoder.decode(e)->count == 1);
  CHECK_FALSE(decoder.decode(e));
  e.count = 5;
  CHECK(decoder.decode(e)->count == 4);
  e.count = 2;  // the kernel forgot the key and began anew
  CHECK(decoder.decode(e)->count == 2);
  casa_denial_key key{1000, CASA_ID_WORLD, 443, 6, CASA_EGRESS, CASA_REASON_EXTERNAL_NOT_ALLOWED, {}};
  auto more = decoder.pending(key, {0, 9});
  REQUIRE(more);
  CHECK(more->count == 7);
  CHECK(more->source.pid == 42);
  CHECK_FALSE(decoder.pending(key, {0, 9}));
}

TEST_CASE("totals from before this daemon are no news") {
  casa::event::Decoder decoder;
  casa_denial_key key{1000, CASA_ID_WORLD, 443, 6, CASA_EGRESS, CASA_REASON_EXTERNAL_NOT_ALLOWED, {}};
  decoder.start_from(key, {0, 100});
  CHECK_FALSE(decoder.pending(key, {0, 100}));
  casa_event e = record(CASA_EVENT_DENIED);
  e.count = 103;
  CHECK(decoder.decode(e)->count == 3);
}

TEST_CASE("source and destination follow the direction") {
  casa::event::Decoder decoder;
  casa_event e = record(CASA_EVENT_FLOW_START);
  auto egress = *decoder.decode(e);
  CHECK(egress.source.pid == 42);
  CHECK(egress.destination.port == 443);
  CHECK(egress.destination.who->kind == casa::event::PeerName::Kind::kWorld);
  CHECK(egress.bytes_sent == 10);
  e.direction = CASA_INGRESS;
  auto ingress = *decoder.decode(e);
  CHECK(ingress.destination.pid == 42);
  CHECK(ingress.destination.port == 40000);
  CHECK(ingress.source.port == 443);
  CHECK(ingress.bytes_sent == 20);
  CHECK(comm_of(ingress.destination) == "curl");
}

TEST_CASE("unknown kinds and identities are survived") {
  casa::event::Decoder decoder;
  CHECK_FALSE(decoder.decode(record(0)));
  CHECK_FALSE(decoder.decode(record(99)));
  CHECK_FALSE(decoder.decode(record(CASA_EVENT_CGROUP)));
  auto flow = decoder.decode(record(CASA_EVENT_FLOW_END));
  REQUIRE(flow);
  CHECK(flow->source.who->kind == casa::event::PeerName::Kind::kUnknown);
  CHECK(flow->policy == nullptr);
}

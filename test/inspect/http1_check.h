// A stream through casa_req_out or casa_req_in, in whatever segments, sent again, overlapping, out of order, and what was told of it held to
// http1_reference.h. Shared by the fuzz target and the unit test.
#pragma once

#include <string>

#include "http1_reference.h"
#include "machine.h"

namespace casa::inspect {

struct Http1Way {
  bool ipv6 = false;
  bool ingress = false;
  bool fin = false;                    // the stream is over: the caller says so
  bool fast_open = false;              // egress: the first segment is the SYN
  bool repeats = false;                // segments are sent again, and overlap
  bool reorders = false;               // some come before those in front of them
  bool watch = false;                  // after each packet, is anything of a token left in storage?
  bool used_before = false;            // egress: the socket had another connection, which ended anywhere
  std::size_t unseen = 0;              // so many bytes went before anybody looked
  bool no_storage = false;             // of a connection, since there is no memory
  std::size_t urgent = SIZE_MAX;       // from this byte on segments are marked urgent
  std::size_t shared_from = SIZE_MAX;  // segments from this byte on lie in pages that their sender can still write to
  std::uint32_t rule = 0;              // CASA_SUBJECT_TOKEN_DROP, CASA_SUBJECT_TOKEN_VALID
  casa_signature signature = CASA_SIGNATURE_UNVERIFIED;  // of all tokens
  std::size_t verified_after = SIZE_MAX;                 // so many packets were held back all tokens are valid
  std::uint32_t sequence = 0xffffff00;                   // of the first byte; close below a wrap
  std::size_t longest = 0;                               // of a segment; 0: anything
  std::uint32_t seed = 1;                                // of all that is by chance

  static Http1Way of(std::uint8_t options);
};

struct Http1Result {
  std::string problem;
  Requests expected;
};

// Words of a token endpoint: paths that end in `token` or `introspect`.
// What a rule about tokens let through.
struct Http1Passed {
  std::size_t bytes = 0;  // of the stream, from its beginning
  std::size_t sightings = 0;
  casa_reason reason = CASA_REASON_NONE;  // of the denials that were told
};
Http1Passed pass_http1(const Http1Way& way, View stream);

Http1Result check_http1(const Http1Way& way, View stream);

}  // namespace casa::inspect

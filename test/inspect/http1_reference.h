// A second reader of HTTP/1 requests, written from RFC 9112, 9110, 6750, 7515 and the rules that bpf/gen/http1.py and include/casa/abi/token.h
// state, and not from bpf/lib, to hold that to. It has the whole stream in front of it, and knows nothing of segments.
#pragma once

#include <array>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "casa/abi/token.h"
#include "machine.h"

namespace casa::inspect {

// What a token is. Where parsers of JSON differ (escapes, what is no JSON at all) more than one answer is right.
struct Shape {
  bool may_be_jwt = false, may_be_opaque = false;
  bool is_none = false;        // `alg` is none: has to be said
  bool may_look_none = false;  // it is not, but an escape hides something: may be said
};
Shape shape_of(std::string_view token);

struct Sighting {
  std::uint32_t number = 0;
  std::string method, path;
  std::string token;   // "": a token endpoint, without one
  std::size_t at = 0;  // where the token stands in the stream
  bool duplicate = false, known = false;
};

struct Requests {
  std::vector<Sighting> sightings;
  casa_unread unread = CASA_UNREAD_NOTHING;  // why the reading ended, if it did before the stream
  casa_app app = CASA_APP_UNKNOWN;           // what was told then
  bool http = false;                         // a whole head was read, or a token
  bool http2 = false;                        // the rest is HTTP/2, which this does not read
  unsigned heads = 0;
};

// `fin`: the stream is over behind these bytes. `endpoints`: last segments of paths that are told also without a token.
Requests read_requests(View stream, bool fin, const std::set<std::string>& endpoints);

std::array<std::uint8_t, CASA_SHA256_LEN> sha256_of(std::string_view bytes);

}  // namespace casa::inspect

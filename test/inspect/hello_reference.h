// A second reader of the first bytes of a TLS connection, written from RFC 8446, 5246 and 6066 and not from bpf/lib/hello.h, to hold that
// one to. It has all bytes in front of it, and knows nothing of segments.
#pragma once

#include <string>

#include "machine.h"

namespace casa::inspect {

struct HelloVerdict {
  bool whole = false;                     // a ClientHello with one server name and no encrypted hello; else:
  casa_reason reason = CASA_REASON_NONE;  // why it may not pass; none: bytes are missing that would tell
  std::string name;                       // as it stands there
  unsigned fields = 0;  // read, one that is cut included: the programs look at a limited number in one segment
};

HelloVerdict read_client_hello(View bytes);

}  // namespace casa::inspect

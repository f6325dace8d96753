// The first bytes of a connection through casa_tls_out, in whatever segments, and what came of it held to hello_reference.h. Shared by the
// fuzz target and the unit test.
#pragma once

#include <string>

#include "machine.h"

namespace casa::inspect {

struct HelloWay {
  bool ipv6 = false;
  bool shared = false;     // the workload may also call llm.example.com, and that was learnt for the same address
  bool one_byte = false;   // also in segments of one byte each
  bool repeats = false;    // what was sent is sent again with the next segment
  bool fast_open = false;  // the first segment is the SYN
  bool audit = false;

  static HelloWay of(std::uint8_t options);
};

struct HelloResult {
  std::string problem = {};  // what is wrong with what the program did, or ""
  bool proven = false;
  casa_reason reason = CASA_REASON_NONE;
};

// `bytes` in segments of these lengths; what is left behind is one more.
HelloResult check_segments(const HelloWay& way, View bytes, std::span<const std::size_t> lengths);

// The same for one segment, for these, and for segments of one byte.
HelloResult check_hello(const HelloWay& way, View bytes, std::span<const std::size_t> lengths);

}  // namespace casa::inspect

// libFuzzer target of bpf/lib/h2.h, compiled from that very file and held to libnghttp2: of the first byte bit 0 says whether the rest is what
// an encoder's choices hang on (bit 1: a tame one's, test/inspect/h2_encode.h), or the stream behind the preface; the second byte says
// how many lengths of segments follow, one byte each.
//   build-fuzz/test/fuzz/h2/h2_fuzz -max_total_time=60 test/fuzz/h2/corpus
#include <cstdio>
#include <cstdlib>

#include "h2_check.h"
#include "h2_encode.h"

namespace {

using casa::inspect::Bytes;
using casa::inspect::View;

Bytes encoded(View choices, bool tame) {
  std::size_t at = 0;
  std::uint32_t other = 1;  // when there are no more choices
  casa::inspect::H2Encoder encoder(
      [&]() -> std::uint32_t {
        if (at + 2 > choices.size()) return other = other * 1664525 + 1013904223, other >> 8;
        at += 2;
        return static_cast<std::uint32_t>(choices[at - 2]) << 8 | choices[at - 1];
      },
      tame);
  for (int i = 0; i < 64 && at + 2 <= choices.size(); i++) {
    encoder.request();
    if (i % 4 == 3) encoder.other_frame();
  }
  return encoder.take();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size < 2 || data[1] > size - 2) return 0;
  View lengths{data + 2, data[1]}, rest{data + 2 + data[1], size - 2 - data[1]};
  std::vector<std::size_t> segments(lengths.begin(), lengths.end());
  Bytes bytes = data[0] & 1 ? encoded(rest, data[0] & 2) : Bytes{};
  if (!(data[0] & 1)) {
    constexpr std::string_view kPreface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    bytes.assign(kPreface.begin(), kPreface.end());
    bytes.insert(bytes.end(), rest.begin(), rest.end());
  }
  std::string problem = casa::inspect::check_h2(bytes, segments);
  if (problem.empty()) return 0;
  std::fprintf(stderr, "h2_fuzz: %s\n", problem.c_str());
  std::abort();
}

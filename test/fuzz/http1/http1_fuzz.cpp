// libFuzzer target of bpf/lib/http1.h, token.h and request.h, compiled from those very files: the first byte chooses the way
// (test/inspect/http1_check.h: bit 0 IPv6, 1 ingress, 2 a FIN at the end, 3 data in the SYN, 4 repeats, 5 gaps, 6 and 7 the length of
// segments), the second one all that is by chance; the rest is the stream.
//   build-fuzz/test/fuzz/http1/http1_fuzz -max_total_time=60 test/fuzz/http1/corpus
#include <cstdio>
#include <cstdlib>

#include "http1_check.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size < 2) return 0;
  casa::inspect::Http1Way way = casa::inspect::Http1Way::of(data[0]);
  way.seed = data[1] + 1u;
  way.used_before = data[1] % 8 == 7;
  std::string problem = casa::inspect::check_http1(way, {data + 2, size - 2}).problem;
  if (problem.empty()) return 0;
  std::fprintf(stderr, "http1_fuzz: %s\n", problem.c_str());
  std::abort();
}

// libFuzzer target of bpf/lib/hello.h, compiled from that very file: the first byte chooses the way (test/inspect/hello_check.h: bit 0 IPv6,
// 1 a shared address, 2 also byte by byte, 3 repeats, 4 data in the SYN, 5 audit), the second says how many lengths of segments follow,
// one byte each; the rest is the stream.
//   build-fuzz/test/fuzz/hello/hello_fuzz -max_total_time=60 test/fuzz/hello/corpus
#include <cstdio>
#include <cstdlib>

#include "hello_check.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size < 2 || data[1] > size - 2) return 0;
  casa::inspect::View lengths{data + 2, data[1]}, stream{data + 2 + data[1], size - 2 - data[1]};
  std::vector<std::size_t> segments(lengths.begin(), lengths.end());
  std::string problem = casa::inspect::check_hello(casa::inspect::HelloWay::of(data[0]), stream, segments).problem;
  if (problem.empty()) return 0;
  std::fprintf(stderr, "hello_fuzz: %s\n", problem.c_str());
  std::abort();
}

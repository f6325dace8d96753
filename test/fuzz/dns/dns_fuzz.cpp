// libFuzzer target of bpf/lib/dns.h, compiled from that very file: the first byte chooses the way (test/inspect/dns_check.h: bit 0 an
// answer, 1 TCP, 2 IPv6, 3 another network namespace, 4 not asked, 5 maps full, 6 audit), the rest is the message.
//   build-fuzz/test/fuzz/dns/dns_fuzz -max_total_time=60 test/fuzz/dns/corpus
#include <cstdio>
#include <cstdlib>

#include "dns_check.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  std::string problem = casa::inspect::check_dns(casa::inspect::DnsWay::of(data[0]), {data + 1, size - 1}).problem;
  if (problem.empty()) return 0;
  std::fprintf(stderr, "dns_fuzz: %s\n", problem.c_str());
  std::abort();
}

// libFuzzer target of the resolv.conf parser: any text gives a result within its bounds, and what is kept reads back.
//   build/test/fuzz/resolv_conf/resolv_conf_fuzz -max_total_time=60 test/fuzz/resolv_conf/corpus
#include <cstdint>
#include <cstdlib>
#include <set>
#include <string>
#include <string_view>

#include "dns/resolv_conf.h"

namespace {

void require(bool condition) {
  if (!condition) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace casa::dns;
  std::string_view text(reinterpret_cast<const char*>(data), size);
  ResolvConf conf = parse_resolv_conf(text);
  require(conf.nameservers.size() <= kMaxNameservers && conf.search.size() <= kMaxSearchDomains);
  require(conf.ndots <= kMaxNdots);
  require(std::set(conf.nameservers.begin(), conf.nameservers.end()).size() == conf.nameservers.size());
  std::string again = "options ndots:" + std::to_string(conf.ndots) + "\nsearch";
  for (const auto& domain : conf.search) {
    require(!domain.empty() && domain.size() <= 253 && domain.back() != '.');
    for (char c : domain) require(c > ' ' && static_cast<unsigned char>(c) < 0x7f && !(c >= 'A' && c <= 'Z'));
    again += " " + domain;
  }
  for (const auto& server : conf.nameservers) {
    require(server.port == 53);
    again += "\nnameserver " + to_string(server);
  }
  require(parse_resolv_conf(again) == conf);
  auto server = parse_nameserver(text);
  if (server) {
    require(server->port != 0);
    auto same = parse_nameserver(to_string(*server));
    require(same && *same == *server);
  } else {
    require(!server.error().context.empty());
  }
  return 0;
}

// Which connections that no program has judged are refused, seen from outside. One whose address stands for a name of its workload
// is left to its next packet, which knows more.
#include "app/unjudged.h"

#include <catch2/catch_test_macros.hpp>

namespace {

using casa::IpAddress;
using casa::app::find_refused;
using casa::datapath::TcpSocket;

constexpr std::uint32_t kAgent = 1000, kOther = 1001;
constexpr std::uint64_t kAgentCgroup = 7, kOtherCgroup = 8;
using Named = std::set<std::pair<std::uint32_t, IpAddress>>;

TcpSocket socket(std::uint64_t cgroup, const char* remote, std::uint16_t remote_port,
                 std::uint16_t local_port = 40000) {
  TcpSocket s;
  s.ends = {*casa::parse_ip("10.0.0.1"), *casa::parse_ip(remote), local_port, remote_port};
  s.cgroup_id = cgroup;
  return s;
}
TcpSocket listener(std::uint64_t cgroup, std::uint16_t port) {
  TcpSocket s;
  s.ends.local_port = port;
  s.cgroup_id = cgroup;
  s.listening = true;
  return s;
}

struct Fixture {
  Fixture() {
    image.subjects = {{kAgent, CASA_SUBJECT_MANAGED}, {kOther, CASA_SUBJECT_MANAGED}};
    image.addresses = {{*casa::parse_ip("10.0.0.1"), CASA_ID_HOST}};
  }
  std::size_t refused(const std::vector<TcpSocket>& sockets, const Named& named = {}) const {
    return find_refused(sockets, {{kAgentCgroup, kAgent}, {kOtherCgroup, kOther}}, image, named).size();
  }
  casa::compile::MapImage image;
};

}  // namespace

TEST_CASE("an address that a name was learnt for is left alone, for the workload that learnt it") {
  Fixture f;
  const Named named{{kAgent, *casa::parse_ip("203.0.113.7")}};
  CHECK(f.refused({socket(kAgentCgroup, "203.0.113.7", 443)}) == 1);
  CHECK(f.refused({socket(kAgentCgroup, "203.0.113.7", 443)}, named) == 0);
  CHECK(f.refused({socket(kAgentCgroup, "203.0.113.8", 443)}, named) == 1);
  CHECK(f.refused({socket(kOtherCgroup, "203.0.113.7", 443)}, named) == 1);
  CHECK(f.refused({socket(99, "203.0.113.7", 443)}, named) == 0);  // nobody's
}

TEST_CASE("a name's address gives nothing to who comes from it") {
  Fixture f;
  const Named named{{kAgent, *casa::parse_ip("203.0.113.7")}};
  auto accepted = socket(kAgentCgroup, "203.0.113.7", 50000, 8080);
  CHECK(f.refused({listener(kAgentCgroup, 8080), accepted}, named) == 1);
}

TEST_CASE("a peer on this host is known by its socket, whatever its address was learnt for") {
  Fixture f;
  TcpSocket one = socket(kAgentCgroup, "10.0.0.1", 9000), two = one;
  std::swap(two.ends.local_port, two.ends.remote_port);
  two.cgroup_id = kOtherCgroup;
  const Named named{{kAgent, *casa::parse_ip("10.0.0.1")}};
  CHECK(f.refused({listener(kOtherCgroup, 9000), one, two}, named) == 2);
  // The other end is not in the list: its next packet tells.
  CHECK(f.refused({one}, named) == 0);
}

TEST_CASE("an exempt or audited workload is not ended") {
  Fixture f;
  f.image.subjects[kAgent] |= CASA_SUBJECT_AUDIT;
  f.image.subjects[kOther] |= CASA_SUBJECT_EXEMPT;
  CHECK(f.refused({socket(kAgentCgroup, "203.0.113.7", 443), socket(kOtherCgroup, "203.0.113.7", 443)}) == 0);
}

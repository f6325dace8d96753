#include "datapath/tcp_sockets.h"

#include <arpa/inet.h>
#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <linux/sock_diag.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <cstring>

#include "base/fd.h"

namespace casa::datapath {
namespace {

constexpr std::size_t kBufferBytes = 256 * 1024;
constexpr std::uint32_t kStates = 1u << TCP_ESTABLISHED | 1u << TCP_SYN_SENT | 1u << TCP_LISTEN | 1u << TCP_CLOSE_WAIT |
                                  1u << TCP_FIN_WAIT1 | 1u << TCP_FIN_WAIT2 | 1u << TCP_LAST_ACK | 1u << TCP_CLOSING;

IpAddress address_of(int family, const void* bytes) {
  if (family == AF_INET6) return make_ip(bytes);
  IpAddress ip;
  ip.bytes[10] = ip.bytes[11] = 0xff;
  std::memcpy(ip.bytes.data() + 12, bytes, 4);
  return ip;
}

TcpSocket parse_socket(const nlmsghdr* header) {
  const auto* diag = static_cast<const inet_diag_msg*>(NLMSG_DATA(header));
  TcpSocket socket;
  socket.ends = {address_of(diag->idiag_family, diag->id.idiag_src), address_of(diag->idiag_family, diag->id.idiag_dst),
                 ntohs(diag->id.idiag_sport), ntohs(diag->id.idiag_dport)};
  socket.cookie = static_cast<std::uint64_t>(diag->id.idiag_cookie[1]) << 32 | diag->id.idiag_cookie[0];
  socket.listening = diag->idiag_state == TCP_LISTEN;
  auto left = static_cast<int>(header->nlmsg_len - NLMSG_LENGTH(sizeof *diag));
  auto* attribute = reinterpret_cast<const rtattr*>(diag + 1);
  for (; RTA_OK(attribute, left); attribute = RTA_NEXT(attribute, left))
    if (attribute->rta_type == INET_DIAG_CGROUP_ID)
      std::memcpy(&socket.cgroup_id, RTA_DATA(attribute), sizeof socket.cgroup_id);
  return socket;
}

Status list_family(int fd, std::uint8_t family, std::vector<TcpSocket>& found) {
  struct {
    nlmsghdr header;
    inet_diag_req_v2 body;
  } request{};
  request.header.nlmsg_len = sizeof request;
  request.header.nlmsg_type = SOCK_DIAG_BY_FAMILY;
  request.header.nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP;
  request.body.sdiag_family = family;
  request.body.sdiag_protocol = IPPROTO_TCP;
  request.body.idiag_states = kStates;
  if (::send(fd, &request, sizeof request, 0) < 0) return fail_errno(errno, "cannot list TCP sockets");
  std::vector<nlmsghdr> buffer(kBufferBytes / sizeof(nlmsghdr));
  for (;;) {
    ssize_t n = ::recv(fd, buffer.data(), kBufferBytes, 0);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return fail_errno(n == 0 ? EPIPE : errno, "cannot list TCP sockets");
    auto left = static_cast<unsigned>(n);
    for (const nlmsghdr* header = buffer.data(); NLMSG_OK(header, left); header = NLMSG_NEXT(header, left)) {
      if (header->nlmsg_type == NLMSG_DONE) return {};
      if (header->nlmsg_type == NLMSG_ERROR)
        return fail_errno(static_cast<const nlmsgerr*>(NLMSG_DATA(header))->error, "cannot list TCP sockets");
      found.push_back(parse_socket(header));
    }
  }
}

}  // namespace

Result<std::vector<TcpSocket>> list_tcp_sockets() {
  Fd fd(::socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_SOCK_DIAG));
  if (!fd) return fail_errno(errno, "cannot open sock_diag");
  timeval timeout{2, 0};
  ::setsockopt(fd.get(), SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof timeout);
  std::vector<TcpSocket> found;
  TRY(list_family(fd.get(), AF_INET, found));
  TRY(list_family(fd.get(), AF_INET6, found));
  return found;
}

}  // namespace casa::datapath

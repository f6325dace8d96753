#include "datapath/sock_destroy.h"

#include <arpa/inet.h>
#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <array>
#include <cstring>

#include "base/fd.h"

namespace casa::datapath {
namespace {

struct Request {
  nlmsghdr header;
  inet_diag_req_v2 body;
};

Request make_request(const TcpEnds& ends, std::uint64_t cookie) {
  Request request{};
  request.header.nlmsg_len = sizeof request;
  request.header.nlmsg_type = SOCK_DESTROY;
  request.header.nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK;
  bool v4 = ends.remote.is_v4();
  request.body.sdiag_family = v4 ? AF_INET : AF_INET6;
  request.body.sdiag_protocol = IPPROTO_TCP;
  request.body.idiag_states = ~0u;
  std::size_t skip = v4 ? 12 : 0;
  std::memcpy(request.body.id.idiag_src, ends.local.bytes.data() + skip, 16 - skip);
  std::memcpy(request.body.id.idiag_dst, ends.remote.bytes.data() + skip, 16 - skip);
  request.body.id.idiag_sport = htons(ends.local_port);
  request.body.id.idiag_dport = htons(ends.remote_port);
  request.body.id.idiag_cookie[0] = static_cast<std::uint32_t>(cookie);
  request.body.id.idiag_cookie[1] = static_cast<std::uint32_t>(cookie >> 32);
  return request;
}

}  // namespace

Status destroy_tcp_socket(const TcpEnds& ends, std::uint64_t cookie) {
  Fd fd(::socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_SOCK_DIAG));
  if (!fd) return fail_errno(errno, "cannot open sock_diag");
  timeval timeout{1, 0};
  ::setsockopt(fd.get(), SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof timeout);
  Request request = make_request(ends, cookie);
  if (::send(fd.get(), &request, sizeof request, 0) < 0) return fail_errno(errno, "cannot ask to end a connection");
  alignas(nlmsghdr) std::array<char, 4096> answer{};
  ssize_t n = ::recv(fd.get(), answer.data(), answer.size(), 0);
  if (n < 0) return fail_errno(errno, "no answer when ending a connection");
  const auto* header = reinterpret_cast<const nlmsghdr*>(answer.data());
  if (static_cast<std::size_t>(n) < NLMSG_LENGTH(sizeof(nlmsgerr)) || header->nlmsg_type != NLMSG_ERROR)
    return fail(ErrorCode::kInternal, "an unknown answer when ending a connection");
  const auto* error = reinterpret_cast<const nlmsgerr*>(NLMSG_DATA(header));
  if (error->error == -ENOENT || error->error == -ESTALE)
    return fail(ErrorCode::kNotFound, "the connection is gone already");
  if (error->error != 0) return fail_errno(error->error, "cannot end a connection");
  return {};
}

}  // namespace casa::datapath

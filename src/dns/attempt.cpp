// c-ares 1.18 may not be destroyed from one of its own callbacks, so those only note what happened; settle() acts on it
// once c-ares has returned.
#include "dns/attempt.h"

#include <ares.h>
#include <arpa/inet.h>
#include <arpa/nameser.h>
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/post.hpp>
#include <cstring>
#include <utility>

namespace casa::dns {
namespace {

// Longer than anybody waits: the attempt's own timer is the one that ends it.
constexpr int kChannelTimeoutMs = 600'000;
constexpr std::size_t kHeaderBytes = 12;

Reply failed(std::string failure) { return {Reply::Kind::kFailed, {}, std::move(failure)}; }

Record record_of(const ares_addrttl& entry) {
  std::array<std::uint8_t, 16> bytes{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
  std::memcpy(bytes.data() + 12, &entry.ipaddr, 4);
  // A TTL with the top bit set counts as 0 (RFC 2181); c-ares hands it out as a negative number.
  return {make_ip(bytes.data()), std::chrono::seconds(std::max(entry.ttl, 0))};
}

Record record_of(const ares_addr6ttl& entry) {
  return {make_ip(&entry.ip6addr), std::chrono::seconds(std::max(entry.ttl, 0))};
}

template <typename Entry, typename Parse>
Reply parse_with(Parse parse, const unsigned char* bytes, int size) {
  std::array<Entry, kMaxRecords> entries{};
  int count = kMaxRecords;
  int status = parse(bytes, size, nullptr, entries.data(), &count);
  if (status == ARES_ENODATA) return {Reply::Kind::kNoData, {}, {}};
  if (status != ARES_SUCCESS) return failed("sends an answer that cannot be read");
  if (count == 0) return {Reply::Kind::kNoData, {}, {}};  // aliases that lead to no address of this family
  Reply reply{Reply::Kind::kAddresses, {}, {}};
  for (int i = 0; i < count; ++i) reply.records.push_back(record_of(entries[static_cast<std::size_t>(i)]));
  std::ranges::sort(reply.records);
  // Of an address that stands there twice, the shorter life.
  auto twice = std::ranges::unique(reply.records, {}, &Record::address);
  reply.records.erase(twice.begin(), twice.end());
  return reply;
}

Reply parse_answer(Family family, const unsigned char* bytes, int size) {
  if (family == Family::kA) return parse_with<ares_addrttl>(ares_parse_a_reply, bytes, size);
  return parse_with<ares_addr6ttl>(ares_parse_aaaa_reply, bytes, size);
}

std::string failure_of(int status) {
  switch (status) {
    case ARES_ESERVFAIL: return "answers SERVFAIL";
    case ARES_EREFUSED: return "answers REFUSED";
    case ARES_ENOTIMP: return "answers NOTIMP";
    case ARES_EFORMERR: return "answers FORMERR";
    case ARES_ECONNREFUSED: return "cannot be reached";
    case ARES_EBADRESP: return "sends an answer that cannot be read";
    case ARES_EBADNAME: return "cannot be asked: this is no name that DNS can carry";
    default: return fmt::format("cannot be asked ({})", ares_strerror(status));
  }
}

std::string describe(std::chrono::milliseconds time) {
  return time.count() % 1000 == 0 ? fmt::format("{} s", time.count() / 1000) : fmt::format("{} ms", time.count());
}

}  // namespace

struct Attempt::Socket {
  explicit Socket(boost::asio::io_context& io) : descriptor(io) {}
  [[nodiscard]] bool wanted(Direction direction) const { return direction == Direction::kRead ? read : write; }
  [[nodiscard]] bool& waiting(Direction direction) { return direction == Direction::kRead ? reading : writing; }

  boost::asio::posix::stream_descriptor descriptor;
  bool read = false, write = false;       // c-ares wants to hear of it; both false: it is closing it
  bool reading = false, writing = false;  // a wait is under way
};

Attempt::Attempt(boost::asio::io_context& io, Family family, std::chrono::milliseconds timeout, OnReply on_reply)
    : io_(io), family_(family), timeout_(timeout), on_reply_(std::move(on_reply)), timer_(io) {}

Attempt::~Attempt() { close(); }

std::shared_ptr<Attempt> Attempt::start(boost::asio::io_context& io, const Nameserver& server, const std::string& fqdn,
                                        Family family, std::chrono::milliseconds timeout, OnReply on_reply) {
  auto self = std::make_shared<Attempt>(io, family, timeout, std::move(on_reply));
  if (self->open(server)) {
    self->wait_for_timeout();
    auto on_result = [](void* attempt, int status, int, unsigned char* bytes, int size) {
      static_cast<Attempt*>(attempt)->on_result(status, bytes, size);
    };
    ares_query(self->channel_, fqdn.c_str(), ns_c_in, family == Family::kA ? ns_t_a : ns_t_aaaa, on_result, self.get());
  }
  if (self->reply_) boost::asio::post(io, [self] { self->settle(); });
  return self;
}

bool Attempt::open(const Nameserver& server) {
  static const int library = ares_library_init(ARES_LIB_INIT_ALL);
  // Every value that c-ares would otherwise look for in files and in the environment.
  char lookups[] = "b";
  ares_options options{};
  options.flags = ARES_FLAG_NOSEARCH | ARES_FLAG_NOALIASES | ARES_FLAG_NOCHECKRESP;
  options.timeout = kChannelTimeoutMs;
  options.tries = 1;
  options.ndots = 0;
  options.lookups = lookups;
  options.sock_state_cb_data = this;
  options.sock_state_cb = [](void* attempt, ares_socket_t fd, int read, int write) {
    static_cast<Attempt*>(attempt)->on_socket(fd, read != 0, write != 0);
  };
  constexpr int kGiven = ARES_OPT_FLAGS | ARES_OPT_TIMEOUTMS | ARES_OPT_TRIES | ARES_OPT_NDOTS | ARES_OPT_SERVERS |
                         ARES_OPT_DOMAINS | ARES_OPT_LOOKUPS | ARES_OPT_SORTLIST | ARES_OPT_NOROTATE |
                         ARES_OPT_SOCK_STATE_CB;
  int status = library != ARES_SUCCESS ? library : ares_init_options(&channel_, &options, kGiven);
  if (status == ARES_SUCCESS) {
    ares_addr_port_node node{};
    node.family = server.address.is_v4() ? AF_INET : AF_INET6;
    node.udp_port = node.tcp_port = server.port;
    if (server.address.is_v4()) std::memcpy(&node.addr.addr4, server.address.bytes.data() + 12, 4);
    else std::memcpy(&node.addr.addr6, server.address.bytes.data(), 16);
    status = ares_set_servers_ports(channel_, &node);
  }
  if (status != ARES_SUCCESS) reply_ = failed(failure_of(status));
  return status == ARES_SUCCESS;
}

// c-ares opens at most two sockets here, UDP and then TCP: each has the whole time.
void Attempt::on_socket(int fd, bool read, bool write) {
  auto it = sockets_.find(fd);
  if (it == sockets_.end()) {
    if (!read && !write) return;
    auto added = std::make_shared<Socket>(io_);
    boost::system::error_code ec;
    added->descriptor.assign(fd, ec);
    if (ec) {
      reply_ = failed(fmt::format("cannot be asked ({})", ec.message()));
      return;
    }
    it = sockets_.emplace(fd, std::move(added)).first;
    wait_for_timeout();
  }
  auto socket = it->second;
  socket->read = read;
  socket->write = write;
  if (!read && !write) {
    socket->descriptor.release();  // c-ares closes it
    sockets_.erase(it);
    return;
  }
  wait(socket, Direction::kRead);
  wait(socket, Direction::kWrite);
}

void Attempt::wait(const std::shared_ptr<Socket>& socket, Direction direction) {
  if (!socket->wanted(direction) || socket->waiting(direction)) return;
  socket->waiting(direction) = true;
  using Descriptor = boost::asio::posix::stream_descriptor;
  socket->descriptor.async_wait(direction == Direction::kRead ? Descriptor::wait_read : Descriptor::wait_write,
                                [self = shared_from_this(), socket, direction](boost::system::error_code ec) {
                                  socket->waiting(direction) = false;
                                  // A wait that was over when its socket was closed comes without an error.
                                  if (ec || self->channel_ == nullptr || !socket->wanted(direction)) return;
                                  int fd = socket->descriptor.native_handle();
                                  bool reads = direction == Direction::kRead;
                                  ares_process_fd(self->channel_, reads ? fd : ARES_SOCKET_BAD,
                                                  reads ? ARES_SOCKET_BAD : fd);
                                  self->settle();
                                  if (self->channel_ != nullptr) self->wait(socket, direction);
                                });
}

void Attempt::wait_for_timeout() {
  timer_.expires_after(timeout_);
  timer_.async_wait([self = shared_from_this()](boost::system::error_code ec) {
    // A wait that was over when it was set anew comes without an error.
    if (ec || self->timer_.expiry() > boost::asio::steady_timer::clock_type::now()) return;
    if (!self->reply_) self->reply_ = failed(fmt::format("does not answer within {}", describe(self->timeout_)));
    self->settle();
  });
}

void Attempt::on_result(int status, const unsigned char* bytes, int size) {
  if (reply_ || status == ARES_EDESTRUCTION) return;
  // A question that comes back as it was sent is no answer.
  bool is_answer = bytes != nullptr && size >= static_cast<int>(kHeaderBytes) && (bytes[2] & 0x80) != 0;
  // c-ares takes the codes that it has no name for as success.
  int rcode = is_answer ? bytes[3] & 0x0f : 0;
  if (bytes != nullptr && !is_answer) reply_ = failed(failure_of(ARES_EBADRESP));
  else if (rcode > ns_r_refused) reply_ = failed(fmt::format("answers with code {}", rcode));
  else if (status == ARES_SUCCESS) reply_ = parse_answer(family_, bytes, size);
  else if (status == ARES_ENODATA) reply_ = Reply{Reply::Kind::kNoData, {}, {}};
  else if (status == ARES_ENOTFOUND) reply_ = Reply{Reply::Kind::kNoName, {}, {}};
  else reply_ = failed(failure_of(status));
}

void Attempt::settle() {
  if (!reply_ || !on_reply_) return;
  close();
  auto on_reply = std::exchange(on_reply_, {});
  on_reply(*std::move(reply_));
}

void Attempt::cancel() {
  on_reply_ = {};
  close();
}

void Attempt::close() {
  timer_.cancel();
  // It closes the sockets and says so to on_socket().
  if (channel_ != nullptr) ares_destroy(std::exchange(channel_, nullptr));
}

}  // namespace casa::dns

// One question put to one name server, over UDP, and over TCP when the answer says that it was cut. The only file that knows
// c-ares: each attempt has a channel of its own, so that it has a source port and an id of its own (both must be
// guessed to forge an answer), ends alone, and never meets a change of the servers. c-ares is told everything: it reads no
// resolv.conf, no nsswitch.conf and no hosts file, and nothing here calls getaddrinfo, which a static binary must not.
#pragma once

#include <boost/asio/io_context.hpp>
#include <boost/asio/steady_timer.hpp>
#include <chrono>
#include <cstddef>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/ip.h"
#include "dns/resolv_conf.h"

struct ares_channeldata;

namespace casa::dns {

enum class Family { kA, kAaaa };

struct Record {
  IpAddress address;
  std::chrono::seconds ttl{};  // as answered: the least along the chain of aliases
  auto operator<=>(const Record&) const = default;
};

// Of one answer; more are passed over.
inline constexpr std::size_t kMaxRecords = 256;

struct Reply {
  enum class Kind {
    kAddresses,
    kNoData,  // the name is there, without an address of this family
    kNoName,  // NXDOMAIN
    kFailed,  // another server, or the same later, may know more
  };
  Kind kind = Kind::kFailed;
  std::vector<Record> records;
  std::string failure;  // kFailed: what the server did, to be read after its address: "answers SERVFAIL"
};

class Attempt : public std::enable_shared_from_this<Attempt> {
 public:
  using OnReply = std::function<void(Reply)>;

  // `on_reply` is called once, on the executor and never from within start(); `timeout` is for each of UDP and TCP.
  static std::shared_ptr<Attempt> start(boost::asio::io_context& io, const Nameserver& server, const std::string& fqdn,
                                        Family family, std::chrono::milliseconds timeout, OnReply on_reply);
  // No call after it. Also the way to let go of an attempt that is under way: pending waits keep it alive until then.
  void cancel();

  Attempt(boost::asio::io_context& io, Family family, std::chrono::milliseconds timeout, OnReply on_reply);
  ~Attempt();
  Attempt(const Attempt&) = delete;
  Attempt& operator=(const Attempt&) = delete;

 private:
  struct Socket;
  enum class Direction { kRead, kWrite };

  [[nodiscard]] bool open(const Nameserver& server);
  void on_socket(int fd, bool read, bool write);
  void on_result(int status, const unsigned char* bytes, int size);
  void wait(const std::shared_ptr<Socket>& socket, Direction direction);
  void wait_for_timeout();
  void settle();
  void close();

  boost::asio::io_context& io_;
  const Family family_;
  const std::chrono::milliseconds timeout_;
  OnReply on_reply_;
  boost::asio::steady_timer timer_;
  ares_channeldata* channel_ = nullptr;
  std::map<int, std::shared_ptr<Socket>> sockets_;
  std::optional<Reply> reply_;
};

}  // namespace casa::dns

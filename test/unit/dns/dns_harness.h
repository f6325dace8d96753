// What the dns room's tests share: a DNS server on a loopback port that answers as a test tells it to, over UDP and TCP; a
// resolver with waits short enough for tests; bounded waits that run the executor instead of sleeping.
#pragma once

#include <arpa/inet.h>
#include <fmt/format.h>

#include <array>
#include <boost/asio/buffer.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/ip/udp.hpp>
#include <boost/asio/read.hpp>
#include <boost/asio/write.hpp>
#include <catch2/catch_test_macros.hpp>
#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "../run_until.h"
#include "dns/resolver.h"

namespace casa::dns::test {

using namespace std::chrono_literals;
using boost::asio::ip::tcp;
using boost::asio::ip::udp;

inline constexpr std::uint16_t kA = 1, kCname = 5, kAaaa = 28;
inline constexpr int kServfail = 2, kNxdomain = 3, kRefused = 5;

struct Query {
  std::string packet;
  std::string name;
  std::uint16_t type = 0;
  std::uint16_t from_port = 0;
  bool tcp = false;
};

struct Rr {
  std::string name;
  std::uint16_t type;
  std::uint32_t ttl;
  std::string data;  // an address as text, or a name
};

inline void put16(std::string& out, std::uint16_t n) {
  out += {static_cast<char>(n >> 8), static_cast<char>(n & 0xff)};
}

inline void put_name(std::string& out, const std::string& name) {
  for (std::size_t at = 0; at < name.size();) {
    auto end = std::min(name.find('.', at), name.size());
    out += static_cast<char>(end - at);
    out.append(name, at, end - at);
    at = end + 1;
  }
  out += '\0';
}

inline Query parse_query(std::string packet) {
  Query query;
  std::size_t at = 12;
  while (at < packet.size() && packet[at] != 0) {
    auto length = static_cast<std::uint8_t>(packet[at]);
    if (!query.name.empty()) query.name += '.';
    query.name.append(packet, at + 1, length);
    at += 1u + length;
  }
  query.type = static_cast<std::uint16_t>(static_cast<std::uint8_t>(packet.at(at + 1)) << 8 |
                                          static_cast<std::uint8_t>(packet.at(at + 2)));
  query.packet = std::move(packet);
  return query;
}

inline std::string make_reply(const Query& query, int rcode, const std::vector<Rr>& records, bool truncated = false) {
  std::string out = query.packet;
  out[2] = static_cast<char>(0x81 | (truncated ? 2 : 0));  // an answer; recursion desired
  out[3] = static_cast<char>(0x80 | rcode);                // recursion available
  out[6] = static_cast<char>(records.size() >> 8);
  out[7] = static_cast<char>(records.size() & 0xff);
  for (const auto& rr : records) {
    std::string data;
    if (rr.type == kCname) {
      put_name(data, rr.data);
    } else {
      std::array<char, 16> bytes{};
      inet_pton(rr.type == kA ? AF_INET : AF_INET6, rr.data.c_str(), bytes.data());
      data.assign(bytes.data(), rr.type == kA ? 4 : 16);
    }
    put_name(out, rr.name);
    put16(out, rr.type);
    put16(out, 1);
    put16(out, static_cast<std::uint16_t>(rr.ttl >> 16));
    put16(out, static_cast<std::uint16_t>(rr.ttl & 0xffff));
    put16(out, static_cast<std::uint16_t>(data.size()));
    out += data;
  }
  return out;
}

// Answers with each packet that `answer` returns; none is silence. Keeps every query.
class Server {
 public:
  using Answer = std::function<std::vector<std::string>(const Query&)>;

  Server(boost::asio::io_context& io, Answer with) : answer(std::move(with)), udp_(io), tcp_(io) {
    bind_both();
    receive();
    accept();
  }
  [[nodiscard]] Nameserver nameserver() const { return {*parse_ip("127.0.0.1"), udp_.local_endpoint().port()}; }
  [[nodiscard]] std::size_t asked(const std::string& name, std::uint16_t type) const {
    std::size_t n = 0;
    for (const auto& query : queries) n += query.name == name && query.type == type ? 1 : 0;
    return n;
  }

  Answer answer;
  std::vector<Query> queries;
  bool hangs_up = false;  // over TCP, after the question

 private:
  // One port for both: what is free for UDP may be a TCP connection's of another test.
  void bind_both() {
    constexpr int kTries = 100;
    boost::system::error_code taken = boost::asio::error::address_in_use;
    for (int i = 0; i < kTries && taken == boost::asio::error::address_in_use; ++i) {
      udp_ = udp::socket(udp_.get_executor(), udp::endpoint(boost::asio::ip::address_v4::loopback(), 0));
      tcp_ = tcp::acceptor(tcp_.get_executor(), tcp::v4());
      tcp_.bind({boost::asio::ip::address_v4::loopback(), udp_.local_endpoint().port()}, taken);
    }
    REQUIRE(!taken);
    tcp_.listen();
  }
  void receive() {
    udp_.async_receive_from(boost::asio::buffer(buffer_), from_, [this](boost::system::error_code ec, std::size_t n) {
      if (ec == boost::asio::error::operation_aborted) return;
      if (!ec) {
        for (const auto& packet : hear(std::string(buffer_.data(), n), from_.port(), false)) {
          boost::system::error_code ignored;
          udp_.send_to(boost::asio::buffer(packet), from_, 0, ignored);
        }
      }
      receive();
    });
  }
  void accept() {
    tcp_.async_accept([this](boost::system::error_code ec, tcp::socket socket) {
      if (ec) return;
      auto peer = std::make_shared<tcp::socket>(std::move(socket));
      auto text = std::make_shared<std::string>(2, '\0');
      boost::asio::async_read(*peer, boost::asio::buffer(*text), [=, this](boost::system::error_code ec1, std::size_t) {
        if (ec1) return;
        text->resize(static_cast<std::uint8_t>((*text)[0]) << 8 | static_cast<std::uint8_t>((*text)[1]));
        boost::asio::async_read(*peer, boost::asio::buffer(*text),
                                [=, this](boost::system::error_code ec2, std::size_t) {
                                  if (ec2) return;
                                  if (!hangs_up) peers_.push_back(peer);
                                  for (const auto& packet : hear(*text, 0, true)) {
                                    std::string out;
                                    put16(out, static_cast<std::uint16_t>(packet.size()));
                                    boost::system::error_code ignored;
                                    boost::asio::write(*peer, boost::asio::buffer(out + packet), ignored);
                                  }
                                });
      });
      accept();
    });
  }
  std::vector<std::string> hear(std::string packet, std::uint16_t from_port, bool over_tcp) {
    queries.push_back(parse_query(std::move(packet)));
    queries.back().from_port = from_port;
    queries.back().tcp = over_tcp;
    Query query = queries.back();
    return answer(query);
  }

  udp::socket udp_;
  tcp::acceptor tcp_;
  std::vector<std::shared_ptr<tcp::socket>> peers_;
  udp::endpoint from_;
  std::array<char, 2048> buffer_{};
};

// A zone: the records of each name, by type; NODATA for other types, NXDOMAIN for other names.
using Zone = std::map<std::string, std::vector<Rr>>;
inline Server::Answer serve(Zone zone) {
  return [zone = std::move(zone)](const Query& query) -> std::vector<std::string> {
    auto it = zone.find(query.name);
    if (it == zone.end()) return {make_reply(query, kNxdomain, {})};
    std::vector<Rr> records;
    for (const auto& rr : it->second)
      if (rr.type == query.type || rr.type == kCname) records.push_back(rr);
    return {make_reply(query, 0, records)};
  };
}
inline Server::Answer refuse_with(int rcode) {
  return [rcode](const Query& query) -> std::vector<std::string> { return {make_reply(query, rcode, {})}; };
}
inline Server::Answer be_silent() {
  return [](const Query&) -> std::vector<std::string> { return {}; };
}

inline std::vector<std::string> addresses(const std::vector<Record>& records) {
  std::vector<std::string> out;
  for (const auto& record : records) out.push_back(fmt::format("{}/{}", to_string(record.address), record.ttl.count()));
  return out;
}
using Addresses = std::vector<std::string>;

struct Fixture {
  Fixture() {
    options.timeout = 100ms;
    options.shortest_renewal = 200ms;
    options.longest_renewal = 400ms;
    options.first_retry = 50ms;
    options.longest_retry = 200ms;
    options.spacing = 0ms;
  }
  void start(std::vector<Nameserver> servers, const std::set<std::string>& names) {
    resolver = std::make_unique<Resolver>(
        io,
        [this](const std::string& fqdn, const std::vector<Record>& records) {
          ++answers[fqdn];
          if (at_answer) at_answer(fqdn, records);
        },
        [this](const std::string& fqdn) { changes.push_back(fqdn); }, options);
    resolver->set_servers(std::move(servers));
    resolver->set_names(names);
  }
  [[nodiscard]] NameState state(const std::string& fqdn) const { return resolver->states().at(fqdn); }
  bool until(const std::function<bool()>& condition, std::chrono::milliseconds most = 5s) {
    return casa::test::run_until(io, condition, most);
  }
  void run_for(std::chrono::milliseconds time) {
    io.restart();
    io.run_for(time);
  }

  boost::asio::io_context io;
  ResolverOptions options;
  std::map<std::string, int> answers;
  std::vector<std::string> changes;
  std::function<void(const std::string&, const std::vector<Record>&)> at_answer;
  std::unique_ptr<Resolver> resolver;
};

}  // namespace casa::dns::test

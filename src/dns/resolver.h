// Keeps the addresses of a set of names known: asks for A and AAAA of each, and asks again before the answer is out of
// date. Tells every answer as it comes; how long an address counts is the business of whoever listens. Everything happens
// on the io_context's one thread; all calls belong to it too. Reads no file: the servers come from the caller.
//
// An answer of one family stands alone: A may be good while AAAA fails. A failure, and "no such name" as well, keeps the
// last good addresses in states() and is told in a sentence. "No address of this family" counts as an answer, not as a
// failure, while the other family has addresses.
#pragma once

#include <boost/asio/io_context.hpp>
#include <chrono>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "dns/attempt.h"
#include "dns/resolv_conf.h"

namespace casa::dns {

// The defaults are what casad runs with; tests shorten the waits. Renewals and retries vary by a tenth.
struct ResolverOptions {
  std::chrono::milliseconds timeout{2000};  // of one try
  unsigned tries = 2;                       // of each server, in turns
  // After an answer: the next question at four fifths of the shortest life in it, within these.
  std::chrono::milliseconds shortest_renewal{5000};
  std::chrono::milliseconds longest_renewal{3'600'000};
  std::chrono::milliseconds first_retry{1000};  // after a failure; doubled with each
  std::chrono::milliseconds longest_retry{30'000};
  std::chrono::milliseconds spacing{5};  // between the first questions of names that come together
  unsigned max_under_way = 32;           // questions; the others wait for their turn
};

struct NameState {
  std::vector<Record> good;                         // of the last good answers, both families
  std::chrono::steady_clock::time_point good_at{};  // when an answer brought addresses last
  bool ever_resolved = false;
  std::string last_error;                              // a sentence; empty: it is well, or was not answered yet
  std::chrono::steady_clock::time_point next_query{};  // in the past: under way or waiting; max(): never (no server)
};

class Resolver {
 public:
  // Each time an answer brings addresses, also the same as before: their life is renewed. `records` are those of this answer,
  // which is of one family.
  using OnAnswer = std::function<void(const std::string& fqdn, const std::vector<Record>& records)>;
  // The name resolved for the first time, or its last_error became another text.
  using OnChange = std::function<void(const std::string& fqdn)>;

  // The callbacks come from the executor only, never from within a call; they may call everything here, and destroy it.
  Resolver(boost::asio::io_context& io, OnAnswer on_answer, OnChange on_change, ResolverOptions options = {});
  ~Resolver();
  Resolver(const Resolver&) = delete;
  Resolver& operator=(const Resolver&) = delete;

  // Other servers than before: every name is asked for again. None: every name's last_error says so.
  void set_servers(std::vector<Nameserver> servers);
  // Lower case, without the last dot. Starts what is new and stops, forgets, what is not there any more.
  void set_names(const std::set<std::string>& fqdns);
  [[nodiscard]] std::map<std::string, NameState> states() const;
  // No callback after it, and no query; states() stay as they are.
  void stop();

 private:
  class Impl;
  std::shared_ptr<Impl> impl_;  // shared with pending operations, which may outlive this object
};

}  // namespace casa::dns

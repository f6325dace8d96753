// One DNS message (or a TCP segment of them) through casa_dns_out or casa_dns_in, in a small world of names, and what came of it held to
// dns_reference.h. Shared by the fuzz target and the unit test.
#pragma once

#include <string>

#include "machine.h"

namespace casa::inspect {

struct DnsWay {
  bool answer = false;     // else a query
  bool tcp = false;        // the bytes are a segment's: messages with their lengths in front
  bool ipv6 = false;       // how the resolver is reached
  bool host_netns = true;  // the socket is in the host's own network namespace
  bool asked = true;       // an answer: its question was asked before, if it may be
  bool full = false;       // casa_query takes nothing (a query), casa_learnt takes nothing (an answer)
  bool audit = false;

  static DnsWay of(std::uint8_t options);
};

// Names that the world's policy needs, and one that is no row's: for who makes messages.
extern const char* const kLearnt[3];
extern const char* const kAsked;
extern const char* const kReverse;
extern const char* const kForeign;

struct DnsResult {
  std::string problem = {};  // what is wrong with what the programs did, or ""
  bool passed = false;
  std::size_t learnt = 0;  // addresses
};
DnsResult check_dns(const DnsWay& way, View bytes);

}  // namespace casa::inspect

// A second reader of DNS messages, written from RFC 1035, 6891 and 7873 and not from bpf/lib/dns.h, to hold that one to. Plain: whole
// messages, no bounds but those of the format.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "machine.h"

namespace casa::inspect {

struct DnsHeader {
  std::uint16_t id = 0, flags = 0;
  std::array<std::uint16_t, 4> counts{};

  bool is_response() const { return flags & 0x8000; }
  unsigned opcode() const { return flags >> 11 & 15; }
  bool truncated() const { return flags & 0x0200; }
  unsigned rcode() const { return flags & 15; }
};

struct DnsQuestion {
  std::string name;  // lower case, dots between labels; a byte that no host name has is a '?'
  Bytes wire;        // the name as it stands there
  std::uint16_t type = 0, class_ = 0;
  std::size_t end = 0;  // offset behind it
};

struct DnsRecord {
  std::uint16_t type = 0, class_ = 0;
  std::uint32_t ttl = 0;
  Bytes data;
  unsigned steps =
      0;  // of the answer section up to and with this record: one a record, one a label that is written out
};

struct DnsAnswers {
  std::vector<DnsRecord> records;  // those before the first one that is broken
  bool whole = false;
  unsigned broken_at = 0;  // the step at which it broke
};

std::optional<DnsHeader> read_header(View message);
std::optional<DnsQuestion> read_question(View message);  // uncompressed, the message's first
DnsAnswers read_answers(View message, std::size_t at, unsigned count);

// Is what stands from `at` to the end one EDNS record (RFC 6891, version 0) with no option, or with a cookie (RFC 7873)?
bool is_plain_edns(View bytes);

}  // namespace casa::inspect

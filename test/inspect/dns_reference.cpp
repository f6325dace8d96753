#include "dns_reference.h"

namespace casa::inspect {
namespace {

std::uint16_t u16(View b, std::size_t at) { return static_cast<std::uint16_t>(b[at] << 8 | b[at + 1]); }

// As a host name's letters in lower case; what is none cannot be mistaken for one, nor a dot in a label for one between labels.
char host_letter(std::uint8_t c) {
  if (c >= 'A' && c <= 'Z') return static_cast<char>(c - 'A' + 'a');
  bool plain = (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '_';
  return plain ? static_cast<char>(c) : '?';
}

}  // namespace

std::optional<DnsHeader> read_header(View message) {
  if (message.size() < 12) return std::nullopt;
  DnsHeader h{u16(message, 0), u16(message, 2), {}};
  for (std::size_t i = 0; i < 4; ++i) h.counts[i] = u16(message, 4 + 2 * i);
  return h;
}

std::optional<DnsQuestion> read_question(View message) {
  DnsQuestion q;
  std::size_t at = 12;
  for (;;) {
    if (at >= message.size()) return std::nullopt;
    std::size_t length = message[at++];
    if (length == 0) break;
    if (length > 63 || at + length > message.size()) return std::nullopt;
    if (!q.name.empty()) q.name += '.';
    for (std::size_t i = 0; i < length; ++i) q.name += host_letter(message[at + i]);
    at += length;
  }
  if (at - 12 > 255 || at + 4 > message.size()) return std::nullopt;
  q.wire.assign(message.begin() + 12, message.begin() + static_cast<std::ptrdiff_t>(at));
  q.type = u16(message, at);
  q.class_ = u16(message, at + 2);
  q.end = at + 4;
  return q;
}

DnsAnswers read_answers(View message, std::size_t at, unsigned count) {
  DnsAnswers found;
  unsigned steps = 0;
  auto room = [&](std::size_t n) { return at <= message.size() && n <= message.size() - at; };
  for (unsigned i = 0; i < count; ++i) {
    found.broken_at = ++steps;
    for (;;) {
      if (!room(1)) return found;
      unsigned c = message[at];
      if (c >= 0xc0) {
        if (!room(2)) return found;
        at += 2;
        break;
      }
      if (c > 63) return found;
      at += 1 + c;
      if (c == 0) break;
      found.broken_at = ++steps;
    }
    if (!room(10)) return found;
    DnsRecord r{u16(message, at),
                u16(message, at + 2),
                static_cast<std::uint32_t>(u16(message, at + 4)) << 16 | u16(message, at + 6),
                {},
                steps};
    std::size_t length = u16(message, at + 8);
    at += 10;
    if (!room(length)) return found;
    if (r.class_ == 1 && ((r.type == 1 && length != 4) || (r.type == 28 && length != 16))) return found;
    r.data.assign(message.begin() + static_cast<std::ptrdiff_t>(at),
                  message.begin() + static_cast<std::ptrdiff_t>(at + length));
    at += length;
    found.records.push_back(std::move(r));
  }
  found.whole = true;
  return found;
}

bool is_plain_edns(View b) {
  if (b.size() < 11 || b[0] != 0 || u16(b, 1) != 41) return false;
  // Extended RCODE, version and flags: all zero, DNSSEC OK may be set.
  if (b[5] != 0 || b[6] != 0 || (u16(b, 7) & 0x7fff) != 0) return false;
  std::size_t length = u16(b, 9);
  if (b.size() != 11 + length) return false;
  if (length == 0) return true;
  if (length < 4 || u16(b, 11) != 10) return false;
  std::size_t cookie = u16(b, 13);
  return cookie + 4 == length && cookie >= 8 && cookie <= 40;
}

}  // namespace casa::inspect

#include "hello_reference.h"

#include <algorithm>

namespace casa::inspect {
namespace {

class Reader {
 public:
  explicit Reader(View bytes) : bytes_(bytes) {}

  HelloVerdict run() {
    if (hello()) verdict_.whole = true;
    return std::move(verdict_);
  }

 private:
  static unsigned number(View b) {
    unsigned n = 0;
    for (std::uint8_t byte : b) n = n << 8 | byte;
    return n;
  }

  bool refuse(casa_reason reason) {
    verdict_.reason = reason;
    return false;
  }

  // The next field of what the record may still hold. False when it cannot lie in there, or is not all there yet.
  bool take(std::size_t n, View& field) {
    if (n > room_) return refuse(CASA_REASON_NOT_TLS);
    room_ -= n;
    ++verdict_.fields;
    if (n > bytes_.size()) return false;
    field = bytes_.first(n);
    bytes_ = bytes_.subspan(n);
    return true;
  }

  // A vector with its length in front.
  bool skip_vector(std::size_t length_size) {
    View length, body;
    return take(length_size, length) && take(number(length), body);
  }

  bool hello() {
    View record, handshake, random;
    room_ = 5;
    if (!take(5, record)) return false;
    unsigned length = number(record.subspan(3));
    // Handshake, SSL 3.0 or newer, at most 2^14 bytes.
    if (record[0] != 22 || record[1] != 3 || length < 4 || length > 16384) return refuse(CASA_REASON_NOT_TLS);
    room_ = length;
    if (!take(4, handshake)) return false;
    // client_hello, and all of the record.
    if (handshake[0] != 1 || number(handshake.subspan(1)) != length - 4) return refuse(CASA_REASON_NOT_TLS);
    if (!take(34, random) || !skip_vector(1) || !skip_vector(2) || !skip_vector(1)) return false;
    if (room_ != 0 && !extensions()) return false;
    if (encrypted_) return refuse(CASA_REASON_ECH_NOT_ALLOWED);
    return named_ || refuse(CASA_REASON_SNI_MISSING);
  }

  bool extensions() {
    View length;
    if (!take(2, length)) return false;
    if (number(length) != room_) return refuse(CASA_REASON_NOT_TLS);
    while (room_ != 0)
      if (!extension()) return false;
    return true;
  }

  bool extension() {
    View header, body;
    if (!take(4, header)) return false;
    unsigned type = number(header.first(2)), length = number(header.subspan(2));
    if (type == 0) return length > room_ ? refuse(CASA_REASON_NOT_TLS) : server_name(length);
    if (type == 0xfe0d || type == 0xffce) encrypted_ = true;
    return take(length, body);
  }

  // ServerNameList with exactly one host_name (RFC 6066: not more than one of a type; there is but one type).
  bool server_name(unsigned length) {
    View header, name;
    if (named_) return refuse(CASA_REASON_SNI_MISMATCH);
    if (length < 6) return refuse(CASA_REASON_SNI_MISSING);
    if (!take(5, header)) return false;
    unsigned list = number(header.first(2)), size = number(header.subspan(3));
    if (list != length - 2 || header[2] != 0 || size != length - 5 || size == 0 || size > 189)
      return refuse(CASA_REASON_SNI_MISMATCH);
    named_ = true;
    if (!take(size, name)) return false;
    verdict_.name.assign(name.begin(), name.end());
    return true;
  }

  View bytes_;
  std::size_t room_ = 0;
  bool named_ = false, encrypted_ = false;
  HelloVerdict verdict_;
};

}  // namespace

HelloVerdict read_client_hello(View bytes) { return Reader(bytes).run(); }

}  // namespace casa::inspect

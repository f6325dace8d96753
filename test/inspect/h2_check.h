// What a client sends on an HTTP/2 connection through bpf/lib/h2.h, in whatever segments, held to what libnghttp2's inflater makes of the same
// header blocks. Shared by the fuzz target and the unit test.
#pragma once

#include <string>
#include <vector>

#include "casa/abi/token.h"
#include "machine.h"

namespace casa::inspect {

enum class H2Field : std::uint8_t { kOther, kAuthorization, kPath, kMethod };

struct H2Told {
  H2Field field;
  std::string value;
  bool gone = false;  // a value that is known no more
  bool operator==(const H2Told&) const = default;
};
// A header block, with the fields that are read of it.
struct H2Block {
  std::uint32_t stream = 0;
  std::vector<H2Told> fields = {};
  bool operator==(const H2Block&) const = default;
};
struct H2Reading {
  std::vector<H2Block> blocks = {};
  unsigned unread = 0;         // enum casa_unread
  bool peer_refuses = false;   // (reference) nobody goes on reading here; what the reader does is all the same
  std::size_t references = 0;  // (reference) values told again from the dynamic table
  std::size_t calls = 0;       // (reader) bytes that were read, not passed over
};

// As the programs do it: segments of these lengths; what is left behind is one more.
H2Reading read_h2(View bytes, std::span<const std::size_t> lengths);

H2Reading read_h2_reference(View bytes);

// What is told of a connection: each request, and the tokens in it.
struct H2Request {
  std::uint32_t stream = 0;
  std::string method = {}, path = {};
  std::vector<std::string> tokens = {};  // the SHA-256, the length and what it is, of each
  bool operator==(const H2Request&) const = default;
};
// `recognised` counts tokens that were known as they were sent.
std::vector<H2Request> read_h2_requests(View bytes, std::span<const std::size_t> lengths, std::size_t& recognised);
// The same from values that were read otherwise.
std::vector<H2Request> tell_h2_requests(const H2Reading& reading);

// What is wrong with how these segments are read, or "".
std::string check_h2(View bytes, std::span<const std::size_t> lengths, H2Reading* reading = nullptr);

}  // namespace casa::inspect

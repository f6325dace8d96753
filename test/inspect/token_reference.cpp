// What a token is, and its hash, as OpenSSL and simdjson see it: the other half of http1_reference.h.
#include <openssl/evp.h>
#include <simdjson.h>

#include <algorithm>

#include "http1_reference.h"

namespace casa::inspect {
namespace {

int lower(int c) { return c >= 'A' && c <= 'Z' ? c + 32 : c; }

constexpr std::string_view kAlphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

std::string decode(std::string text) {
  for (char& c : text) c = c == '-' ? '+' : c == '_' ? '/' : c;
  std::size_t padding = (4 - text.size() % 4) % 4;
  text.append(padding, '=');
  std::string out(text.size() / 4 * 3, '\0');
  int n = EVP_DecodeBlock(reinterpret_cast<unsigned char*>(out.data()),
                          reinterpret_cast<const unsigned char*>(text.data()), static_cast<int>(text.size()));
  if (n < 0) return {};
  out.resize(static_cast<std::size_t>(n) - padding);
  return out;
}

bool is_none(std::string_view alg) {
  return std::ranges::equal(alg, std::string_view("none"), [](char a, char b) { return lower(a) == b; });
}

Shape shape_of_header(const std::string& json) {
  Shape shape;
  bool has_escape = json.find('\\') != std::string::npos, other = false, names = false;
  std::size_t begin = json.find_first_not_of(" \t\r\n");
  if (begin == std::string::npos || json[begin] != '{') {
    shape.may_be_opaque = true;
    return shape;
  }
  thread_local simdjson::dom::parser parser;
  simdjson::dom::object object;
  if (parser.parse(simdjson::padded_string(json)).get(object) != simdjson::SUCCESS)
    return {.may_be_jwt = true, .may_be_opaque = true, .may_look_none = true};
  for (auto [key, value] : object) {
    if (key != "alg") continue;
    std::string_view alg;
    if (value.get(alg) != simdjson::SUCCESS) {
      other = true;
      continue;
    }
    names = true;
    shape.is_none |= is_none(alg);
  }
  shape.may_be_jwt = names || has_escape;
  shape.may_be_opaque = !names;
  shape.may_look_none = has_escape || (other && names);
  return shape;
}

}  // namespace

Shape shape_of(std::string_view token) {
  Shape opaque;
  opaque.may_be_opaque = true;
  std::vector<std::string> parts(1);
  for (char c : token) {
    if (c == '.') parts.emplace_back();
    else if (kAlphabet.find(c) == std::string_view::npos) return opaque;
    else parts.back() += c;
  }
  if (parts.size() != 3 || parts[0].empty() || parts[1].empty()) return opaque;
  bool is_cut = parts[0].size() % 4 == 1;  // no base64 at all; the last character says nothing
  if (is_cut) parts[0].pop_back();
  Shape shape = shape_of_header(decode(parts[0]));
  if (is_cut) shape.may_be_opaque = true;
  return shape;
}

std::array<std::uint8_t, CASA_SHA256_LEN> sha256_of(std::string_view bytes) {
  std::array<std::uint8_t, CASA_SHA256_LEN> digest{};
  EVP_Digest(bytes.data(), bytes.size(), digest.data(), nullptr, EVP_sha256(), nullptr);
  return digest;
}

}  // namespace casa::inspect

// Streams as clients send them, and as nobody should: by chance, the same for the same seed.
#pragma once

#include <cstdint>
#include <random>
#include <string>

#include "http1_check.h"

namespace casa::inspect {

class Http1Maker {
 public:
  explicit Http1Maker(std::uint32_t seed) : random_(seed) {}

  std::string stream();
  Http1Way way(std::size_t length);
  std::string token();
  std::string jwt();

 private:
  std::size_t below(std::size_t n) { return n < 2 ? 0 : random_() % n; }
  bool chance(std::size_t n) { return below(n) == 0; }
  template <std::size_t N>
  const char* one_of(const char* const (&list)[N]) {
    return list[below(N)];
  }
  std::string letters(std::size_t n, std::string_view alphabet);
  std::string eol() { return chance(6) ? "\n" : "\r\n"; }
  std::string space();
  std::string fold() { return chance(12) ? eol() + space() : ""; }
  std::string cased(std::string text);
  std::string json();
  std::string target();
  std::string authorization();
  std::string field();
  std::string request();
  std::string chunks();
  std::string fake();
  std::string other_protocol();
  void spoil(std::string& text);

  std::mt19937 random_;
  std::string pool_[3];
};

}  // namespace casa::inspect

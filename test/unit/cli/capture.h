// What a command prints, and a command that asks a ServerFixture.
#pragma once

#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <sstream>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "server_fixture.h"

namespace casa::test {

class Capture {
 public:
  ~Capture() { std::fclose(file_); }
  std::FILE* file() { return file_; }
  std::string text() {
    std::fflush(file_);
    std::string out;
    char buffer[65536];
    std::size_t at = 0;
    for (ssize_t n = 0; (n = ::pread(::fileno(file_), buffer, sizeof(buffer), static_cast<off_t>(at))) > 0;
         at += static_cast<std::size_t>(n))
      out.append(buffer, static_cast<std::size_t>(n));
    return out;
  }
  std::vector<std::string> lines() {
    std::istringstream in(text());
    std::vector<std::string> out;
    for (std::string line; std::getline(in, line);) out.push_back(line);
    return out;
  }

 private:
  std::FILE* file_ = std::tmpfile();
};

template <typename Options>
struct Asked {
  explicit Asked(const ServerFixture& server) {
    options.api_socket = server.path();
    options.out = out.file();
    options.err = err.file();
  }
  Capture out, err;
  Options options;
};

inline bool wait_for(Capture& out, std::string_view text) {
  for (int i = 0; i < 200; ++i) {
    if (out.text().find(text) != std::string::npos) return true;
    std::this_thread::sleep_for(std::chrono::milliseconds(25));
  }
  return false;
}

}  // namespace casa::test

// The fuzz targets' seeds: real messages of real software, and broken ones.
#pragma once

#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <string>

#include "machine.h"

inline std::map<std::string, casa::inspect::Bytes> read_seeds(const std::string& target) {
  std::map<std::string, casa::inspect::Bytes> seeds;
  for (const auto& file : std::filesystem::directory_iterator(CASA_SOURCE_DIR "/test/fuzz/" + target + "/corpus")) {
    std::ifstream in(file.path(), std::ios::binary);
    seeds[file.path().filename()] = {std::istreambuf_iterator<char>(in), {}};
  }
  return seeds;
}

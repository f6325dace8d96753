// A small file, read completely: a certificate, a token, a kubeconfig.
#pragma once

#include <cstddef>
#include <string>

#include "base/error.h"

namespace casa::source {

// Regular files of at most `most` bytes. Errors name the path.
Result<std::string> read_small_file(const std::string& path, std::size_t most);

}  // namespace casa::source

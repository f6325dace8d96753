// Where functions begin in an executable or a library: what a probe is put on. The file is a workload's, so it may be anything, and may
// change while it is read: it is read by pread into bounded memory, never mapped, and every number in it is doubted.
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"

namespace casa::observe {

// Offsets in the file.
struct Function {
  std::uint64_t call = 0;              // its beginning; of one of Go's, behind its check of the stack (go_code.h)
  std::vector<std::uint64_t> returns;  // of one of Go's: the instructions that return
  bool operator==(const Function&) const = default;
};

struct ElfFunctions {
  bool is_go = false;                         // made by Go's toolchain
  std::map<std::string, Function> functions;  // those that were found, by name
};

// `exported`: looked up among the dynamic symbols. `go`: looked up among all symbols, if Go made the file; where it was stripped they are
// found in the table that Go's runtime has for itself. kInvalidArgument for what is no 64-bit ELF file of this machine, or a broken one.
// Of Go's, only those whose code is understood (go_code.h).
Result<ElfFunctions> find_functions(int fd, std::span<const std::string_view> exported,
                                    std::span<const std::string_view> go);

}  // namespace casa::observe

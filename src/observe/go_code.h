// The machine code of a function that Go's compiler made: where probes can stand in it. Pure. A probe replaces the first byte of an
// instruction, so a place that is none would break the program: code that is not understood to its end has no places.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

namespace casa::observe {

enum class Machine { kAmd64, kArm64 };

// In bytes from the beginning of the code.
struct GoPlaces {
  // The first instruction behind the check for room on the stack. Where there is no room, or the runtime wants the processor back, the
  // function begins again: a probe at its very beginning would see such a call twice. The arguments are in their registers still.
  std::uint64_t call = 0;
  std::vector<std::uint64_t> returns;  // the instructions that return
};

// `code`: the whole function, with or without the padding behind it. Nothing for what is no function by Go 1.17 or later (which pass
// arguments in registers), for one that needs no check of the stack, and for code that is broken.
std::optional<GoPlaces> find_go_places(std::string_view code, Machine machine);

}  // namespace casa::observe

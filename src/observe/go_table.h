// The table of functions that every Go program carries for its runtime (.gopclntab), which stripping leaves in place. Pure.
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>

namespace casa::observe {

// Where the functions `names` begin, in bytes from the beginning of the program's text; those that are there. The form of Go 1.18 and
// later only, which is that of every version whose arguments can be read (bpf/tls_observer.bpf.c) but 1.17; nothing for others.
std::map<std::string, std::uint64_t> find_in_go_table(std::string_view table, std::span<const std::string_view> names);

}  // namespace casa::observe

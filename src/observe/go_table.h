// The table of functions that every Go program carries for its runtime (.gopclntab), which stripping leaves in place. Pure.
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>

namespace casa::observe {

struct GoFunction {
  std::uint64_t begin = 0;  // in bytes from the beginning of Go's text
  std::uint64_t size = 0;   // with the padding behind it
  bool operator==(const GoFunction&) const = default;
};

// Where the functions `names` are; those that are there. The form of Go 1.18 and later only, which is that of every version whose
// arguments can be read (bpf/tls_observer.bpf.c) but 1.17; nothing for others.
std::map<std::string, GoFunction> find_in_go_table(std::string_view table, std::span<const std::string_view> names);

// The address at which Go's text begins; 0 where the table does not say (1.26 and later).
std::uint64_t go_table_text(std::string_view table);

}  // namespace casa::observe

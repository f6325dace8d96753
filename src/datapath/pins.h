// The directory of pins: <bpffs>/abi-<N> with the maps by name and links/ below. What is pinned is in force, with or
// without a daemon.
#pragma once

#include <string>
#include <vector>

#include "base/error.h"
#include "base/fd.h"

namespace casa::datapath {

std::string abi_dir(const std::string& bpffs);

// Makes <bpffs> (which must lie in a mounted bpf file system) and takes its lock; kBusy when another daemon has it. The
// lock goes with the descriptor.
Result<Fd> lock_pins(const std::string& bpffs);

// Pin directories of other ABI versions.
std::vector<std::string> other_abi_dirs(const std::string& bpffs);

// Unpins links first, then maps. A link that nobody else holds is detached by that.
Status remove_pins(const std::string& dir);

}  // namespace casa::datapath

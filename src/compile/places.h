// Rows about where workloads are: their cgroups on this node, and the addresses of all. Pure.
#pragma once

#include <string>

#include "compile/map_image.h"
#include "identity/snapshot.h"

namespace casa::compile {

void add_path(MapImage& image, const std::string& path, std::uint32_t payload);
void add_places(const identity::Workload& workload, MapImage& image);
void add_addresses(const identity::Snapshot& snapshot, MapImage& image);

}  // namespace casa::compile

// Files as a whole.
#pragma once

#include <string>
#include <string_view>

#include "base/error.h"
#include "base/fd.h"

namespace casa {

// All of it, also where the kernel takes it piece by piece. `path`: for the error.
Status write_all(const Fd& fd, std::string_view bytes, const std::string& path);
// Writes beside and renames, mode 0600: whoever reads has the old file or the new one, whole.
Status replace_file(const std::string& path, std::string_view bytes);

}  // namespace casa

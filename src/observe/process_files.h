// Which files a process runs: its executable, its dynamic linker, the TLS libraries that it has mapped. Files are opened as the process
// sees them, so that those of containers are found, and never outside the process's own root.
#pragma once

#include <string>
#include <vector>

#include "base/error.h"
#include "base/fd.h"

namespace casa::observe {

enum class FileRole { kExecutable, kLinker, kTlsLibrary };

struct ProcessFile {
  FileRole role = FileRole::kExecutable;
  std::string path;  // as the process names it
  Fd fd;             // read only; a regular file
};

// kNotFound when the process is gone; kSystem when this daemon may not look at it.
Result<std::vector<ProcessFile>> files_of_process(int pid);

// The processes in a cgroup directory and below it.
std::vector<int> processes_below(const std::string& cgroup_dir);

}  // namespace casa::observe

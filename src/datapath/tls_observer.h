// The observers of TLS libraries: probes on files, and which workloads they tell of. Loaded when the first workload is observed; nothing
// is pinned, so that all of it goes with the daemon. Never a part of enforcement.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "casa/abi/tls.h"
#include "datapath/objects.h"
#include "observe/elf_functions.h"

namespace casa::datapath {

struct LinkDetacher {
  void operator()(bpf_link* link) const { bpf_link__destroy(link); }
};

// The probes on one file; they go with it.
using TlsProbes = std::vector<std::unique_ptr<bpf_link, LinkDetacher>>;

class TlsObserver {
 public:
  // Loads the programs against the pinned maps, and has news of processes told. Errors say why this kernel cannot.
  static Result<std::unique_ptr<TlsObserver>> load(const LoadOptions& options);

  // Functions to look for in files; of Go's, and of the dynamic linker.
  static std::span<const std::string_view> openssl_functions();
  static std::span<const std::string_view> go_functions();
  static std::span<const std::string_view> linker_functions();

  // The workloads to be observed: CASA_TLS_* by identity. At most CASA_MAX_TLS_SUBJECTS.
  Status set_subjects(const std::map<std::uint32_t, std::uint32_t>& kinds);

  // Puts probes on these functions of the file, for every process that maps it. `kind`: one of CASA_TLS_*, 0 for the dynamic linker.
  // All or none.
  Result<TlsProbes> attach(int file, std::uint32_t kind, const std::map<std::string, observe::Function>& functions);

 private:
  TlsObserverObject object_;
  TlsProbes process_news_;
  std::map<std::uint32_t, std::uint32_t> subjects_;
};

}  // namespace casa::datapath

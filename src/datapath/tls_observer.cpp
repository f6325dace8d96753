#include "datapath/tls_observer.h"

#include <algorithm>
#include <array>

#include "datapath/bpf_map.h"

namespace casa::datapath {
namespace {

constexpr std::array<std::string_view, 6> kOpenssl = {"SSL_write",   "SSL_write_ex", "SSL_read",
                                                      "SSL_read_ex", "SSL_free",     "SSL_clear"};
constexpr std::string_view kGoWrite = "crypto/tls.(*Conn).Write", kGoRead = "crypto/tls.(*Conn).Read",
                           kGoClose = "crypto/tls.(*Conn).Close";
constexpr std::array<std::string_view, 3> kGo = {kGoWrite, kGoRead, kGoClose};
constexpr std::array<std::string_view, 1> kLinker = {"_dl_debug_state"};

std::uint32_t deeds_of(std::string_view function) {
  return (function.starts_with("SSL_read") ? CASA_TLS_READS : 0u) | (function.ends_with("_ex") ? CASA_TLS_COUNTS : 0u);
}

}  // namespace

std::span<const std::string_view> TlsObserver::openssl_functions() { return kOpenssl; }
std::span<const std::string_view> TlsObserver::go_functions() { return kGo; }
std::span<const std::string_view> TlsObserver::linker_functions() { return kLinker; }

Result<std::unique_ptr<TlsObserver>> TlsObserver::load(const LoadOptions& options) {
  auto observer = std::make_unique<TlsObserver>();
  TRY_ASSIGN(observer->object_, load_tls_observer(options));
  const auto& programs = observer->object_->progs;
  for (bpf_program* program : {programs.casa_proc_exec, programs.casa_proc_fork, programs.casa_proc_exit}) {
    auto& link = observer->process_news_.emplace_back(bpf_program__attach(program));
    if (!link) return fail_errno(errno, "cannot attach {}", bpf_program__name(program));
  }
  return observer;
}

Status TlsObserver::set_subjects(const std::map<std::uint32_t, std::uint32_t>& kinds) {
  BpfMap<std::uint32_t, std::uint32_t> map(bpf_map__fd(object_->maps.casa_tls_wanted), "casa_tls_wanted");
  for (const auto& [subject, known] : subjects_)
    if (!kinds.contains(subject)) TRY(map.erase(subject));
  std::erase_if(subjects_, [&](const auto& entry) { return !kinds.contains(entry.first); });
  for (const auto& [subject, wanted] : kinds) {
    if (auto known = subjects_.find(subject); known != subjects_.end() && known->second == wanted) continue;
    TRY(map.put(subject, wanted));
    subjects_[subject] = wanted;
  }
  return {};
}

Result<TlsProbes> TlsObserver::attach(int file, std::uint32_t kind,
                                      const std::map<std::string, observe::Function>& functions) {
  TlsProbes probes;
  // By descriptor, so that it is the file that was looked into, whatever its name stands for by now.
  std::string path = "/proc/self/fd/" + std::to_string(file);
  auto put = [&](const bpf_program* program, std::string_view function, std::uint64_t offset,
                 bool at_return) -> Status {
    LIBBPF_OPTS(bpf_uprobe_opts, options, .bpf_cookie = kind | deeds_of(function), .retprobe = at_return);
    auto& link = probes.emplace_back(bpf_program__attach_uprobe_opts(program, -1, path.c_str(), offset, &options));
    if (!link) return fail_errno(errno, "cannot put a probe on {}", function);
    return {};
  };
  const auto& programs = object_->progs;
  for (const auto& [function, places] : functions) {
    std::uint64_t offset = places.call;
    if (function == "SSL_free" || function == "SSL_clear") {
      TRY(put(programs.casa_ssl_free, function, offset, false));
    } else if (std::ranges::find(kOpenssl, function) != kOpenssl.end()) {
      TRY(put(programs.casa_ssl_return, function, offset, true));
      TRY(put(programs.casa_ssl_call, function, offset, false));
    } else if (function == kGoWrite) {
      TRY(put(programs.casa_go_write, function, offset, false));
    } else if (function == kGoRead) {
      for (std::uint64_t at : places.returns) TRY(put(programs.casa_go_return, function, at, false));
      TRY(put(programs.casa_go_read, function, offset, false));
    } else if (function == kGoClose) {
      TRY(put(programs.casa_go_close, function, offset, false));
    } else if (function == kLinker[0]) {
      TRY(put(programs.casa_ld_state, function, offset, false));
    }
  }
  return probes;
}

}  // namespace casa::datapath

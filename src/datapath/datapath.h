// The kernel side, from the daemon's point of view: load or adopt the programs and their pinned maps, attach them once at
// the enforcement root, bring in one generation at a time. The only room that calls libbpf; libbpf's errors become Error
// here. One thread.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/error.h"
#include "casa/abi/event.h"
#include "casa/abi/policy.h"
#include "casa/abi/stats.h"
#include "casa/abi/token.h"
#include "compile/compile.h"
#include "compile/map_image.h"
#include "datapath/raw_tokens.h"
#include "datapath/tables.h"
#include "datapath/tls_observer.h"
#include "identity/cgroups.h"

namespace casa::datapath {

struct Options {
  std::string bpffs;  // pins go to <bpffs>/abi-<N>
  identity::CgroupMount mount;
  compile::Limits limits;  // sizes of maps that do not exist yet
};

class Datapath {
 public:
  // Loads the programs, adopts pinned maps and links or makes them, and repairs what a crash left half-staged. Nothing
  // changes for running traffic. kBusy when another daemon holds the pins.
  static Result<std::unique_ptr<Datapath>> open(const Options& options);
  virtual ~Datapath() = default;

  // Brings the image in force: everything or nothing. Returns false when it was in force already.
  virtual Result<bool> commit(const compile::MapImage& image) = 0;
  // The same for an image that differs from the one in force in these rows at most: only they are looked at.
  virtual Result<bool> commit(const compile::MapImage& image, const compile::Touched& touched) = 0;
  // Attaches what is not attached yet; to be called after the first commit. Then removes pins of other ABI versions.
  virtual Status attach() = 0;

  // True while pins of another ABI version are there, which attach() will remove.
  [[nodiscard]] virtual bool stands_beside_another() const = 0;
  // False when the enforcement root is another directory than the one that was attached to.
  [[nodiscard]] virtual bool is_attached() const = 0;
  // True when an earlier run's links were found, and the enforcement root is another cgroup than theirs.
  [[nodiscard]] virtual bool found_links_elsewhere() const = 0;
  virtual void count_root_replacement() = 0;

  [[nodiscard]] virtual bool adopted() const = 0;
  [[nodiscard]] virtual std::uint32_t generation() const = 0;
  [[nodiscard]] virtual const compile::Limits& limits() const = 0;  // real map sizes

  // Of the generation in force: the subject of each cgroup, by its id, and what is known of each subject (CASA_SUBJECT_*).
  [[nodiscard]] virtual const std::map<std::uint64_t, std::uint32_t>& cgroups() const = 0;
  [[nodiscard]] virtual const std::map<std::uint32_t, std::uint32_t>& subjects() const = 0;

  // The ring. `drain` handles at most `most` records and returns how many it did.
  [[nodiscard]] virtual int ring_fd() const = 0;
  struct Record {
    const casa_event& event;
    const casa_named_event* name = nullptr;   // a denial about a name
    const casa_token_event* token = nullptr;  // CASA_EVENT_TOKEN, CASA_EVENT_APP
  };
  using RecordHandler = std::function<void(const Record& record)>;
  virtual std::size_t drain(std::size_t most, const RecordHandler& handle) = 0;
  // Tells the kernel that nobody looks at the ring without being woken; returns false when something waits in it already.
  virtual bool sleep_on_ring() = 0;

  // Visits every live TCP flow (kind FLOW_UPDATE; DENIED ones are no longer allowed). kUnsupported on kernels without it.
  virtual Status sweep(const std::function<void(const casa_event&)>& handle) = 0;
  struct UdpFlow {
    casa_udp_key key;
    casa_sk state;
  };
  virtual std::vector<UdpFlow> udp_flows() = 0;
  virtual void forget_udp_flow(const casa_udp_key& key) = 0;
  struct Denial {
    casa_denial_key key;
    casa_denial value;
  };
  virtual std::vector<Denial> denials() = 0;

  // Addresses that stand for the names of workloads, those included that have run out.
  struct Learnt {
    casa_learnt_key key;
    casa_learnt value;
  };
  virtual std::vector<Learnt> learnt() = 0;
  // One address that the daemon's own resolver found. kUnsupported without inspection; kInvalidArgument for an address that no
  // name may stand for (loopback, link-local, multicast).
  virtual Status learn(const casa_learn_call& call) = 0;

  // POSTs to a path whose last segment is one of these are told also when they carry no token. At most CASA_MAX_TOKEN_PATHS of at most
  // CASA_PATH_SEGMENT_MAX characters each. Does nothing without the programs that read requests.
  virtual Status set_token_paths(const std::vector<std::string>& segments) = 0;

  // Signatures. While it is on, the kernel hands each JWT over that it knows nothing of; off at first. Null without the programs that read
  // requests. What was set before this run stays until it is forgotten.
  virtual void enable_raw_tokens(bool on) = 0;
  virtual RawTokens* raw_tokens() = 0;

  // The observers of TLS libraries; the feature "tls observer" says whether they could be loaded. Without an owner nothing is observed.
  virtual Result<std::unique_ptr<TlsObserver>> observe_tls() = 0;

  // Ends the connection of a refused packet, so that the application learns at once (SOCK_DESTROY).
  virtual Status end_connection(const casa_event& event) = 0;

  [[nodiscard]] virtual std::array<std::uint64_t, CASA_STAT_COUNT> stats() const = 0;
  [[nodiscard]] virtual std::vector<MapUse> map_use() const = 0;
  // "cgroup watch", "sweep", ...: "on", or "off: why".
  [[nodiscard]] virtual const std::map<std::string, std::string>& features() const = 0;
};

// Removes links and maps under `bpffs`: the end of enforcement. kBusy while a daemon runs; kNotFound when there is nothing.
Status detach(const std::string& bpffs);

struct Probe {
  std::string feature;
  bool works = false;
  bool required = false;
  std::string detail;
};
struct KernelReport {
  std::vector<Probe> probes;
  std::vector<ProgramCost> programs;  // those that it takes
};
// Finds by loading, and without leaving anything behind, what this kernel can do.
KernelReport probe_kernel();

}  // namespace casa::datapath

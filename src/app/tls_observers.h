// Follows the processes of workloads that are observed, and keeps probes on the files that they run: one set for each file (device, inode),
// from the first process that maps it until a while after the last. The kernel tells of new, changed and ended processes; those that were
// there before are looked for once. Says what goes wrong, and does without: nothing here decides about a packet.
#pragma once

#include <boost/asio/io_context.hpp>
#include <boost/asio/steady_timer.hpp>

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "casa/abi/event.h"
#include "datapath/datapath.h"
#include "identity/snapshot.h"
#include "observe/process_files.h"

namespace casa::app {

class TlsObservers {
 public:
  using Clock = std::chrono::steady_clock;
  // An empty problem: it is well again.
  using NoteProblem = std::function<void(const std::string& key, std::string problem)>;
  static constexpr Clock::duration kLinger = std::chrono::seconds{10};

  TlsObservers(boost::asio::io_context& io, datapath::Datapath& datapath, NoteProblem note,
               Clock::duration linger = kLinger);

  struct Wish {
    std::uint32_t kinds = 0;               // CASA_TLS_*
    std::vector<std::string> cgroup_dirs;  // of the workload's instances that are there
    bool operator==(const Wish&) const = default;
  };
  // All that is wished for, by identity; to be called whenever it, or a workload's instances, may have changed.
  void wish(std::map<std::uint32_t, Wish> wishes);
  // A record of kind CASA_EVENT_PROCESS.
  void on_process(const casa_event& news);
  // After news were lost: looks again at all processes.
  void look_again();

  struct Observed {
    std::size_t processes = 0, files = 0, probes = 0;
    bool operator==(const Observed&) const = default;
  };
  [[nodiscard]] Observed observed() const;

 private:
  using FileId = std::pair<std::uint64_t, std::uint64_t>;  // device, inode
  struct Process {
    std::uint32_t subject = 0;
    std::set<FileId> files;
  };
  struct File {
    datapath::TlsProbes probes;
    std::uint32_t looked = 0;  // kinds of functions that were looked for in it
    std::size_t processes = 0;
    bool leaving = false;  // its probes are being taken off, one after the other
    Clock::time_point unused_since{};
    timespec changed{};  // when its bytes were, as far as they were looked at
  };

  bool start();
  void stop();
  void look_later(int pid, std::uint32_t subject, bool settling);
  void wait(Clock::duration pause = {});
  void work();
  void look_at(int pid, std::uint32_t subject);
  std::optional<FileId> use(const observe::ProcessFile& file, std::uint32_t wanted);
  Status put_probes(const observe::ProcessFile& file, std::uint32_t wanted, File& entry);
  void forget(int pid);
  void release(const FileId& id);
  void remove_unused();

  datapath::Datapath& datapath_;
  const NoteProblem note_;
  const Clock::duration linger_;
  boost::asio::steady_timer timer_;
  bool tried_ = false;  // to load the observer
  std::unique_ptr<datapath::TlsObserver> observer_;
  std::map<std::uint32_t, Wish> wishes_;
  std::map<int, Process> processes_;
  std::map<FileId, File> files_;
  std::multimap<Clock::time_point, std::pair<int, std::uint32_t>> due_;  // looks at a process (its number, workload)
};

// With the cgroups that the workloads have now.
std::map<std::uint32_t, TlsObservers::Wish> make_wishes(const identity::CgroupMount& mount,
                                                        const identity::Snapshot& snapshot,
                                                        const std::map<std::uint32_t, std::uint32_t>& kinds);

}  // namespace casa::app

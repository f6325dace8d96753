// Tells the API server what became of each CASAPolicy: status by server-side apply, and an Event when a policy fails. Writes changes only,
// one policy at most every 5 s, and lets the node that is first in line do it (compile/policy_status.h); the others write when it has not.
// One thread.
#pragma once

#include <boost/asio/io_context.hpp>
#include <chrono>
#include <functional>
#include <map>
#include <string>

#include "compile/policy_status.h"
#include "policy/api_status.h"
#include "source/kube_writer.h"
#include "token/alerts.h"

namespace casa::app {

// Waits; tests shorten them.
struct StatusTimes {
  std::chrono::milliseconds settle{500};    // changes that come together are one status
  std::chrono::milliseconds turn{3000};     // for each node that is before this one
  std::chrono::milliseconds between{5000};  // writes of one policy
  std::chrono::milliseconds retry{10'000};  // after a write that failed
};

class StatusWriter {
 public:
  using Clock = std::chrono::steady_clock;
  // `node`: this node's name. `on_problem`: why statuses cannot be written, or empty.
  StatusWriter(boost::asio::io_context& io, source::KubeAccess access, std::string node,
               std::function<void(std::string problem)> on_problem, StatusTimes times = {});

  // The server's policy, as it is now. False: its spec is the one that was known, only what nobody enforces has changed.
  bool learn(const policy::ApiStatus& now);
  void forget(const policy::NamespacedName& name);

  // There is a new generation: what should be written may be something else.
  void look_again() { stale_ = true; }
  // Every second: what should be written, where that may have changed, and what is due.
  void follow(const compile::Compiled& compiled, const identity::Snapshot& snapshot, Clock::time_point now);
  // As an Event of the namespace of the workload.
  void tell(const token::Alert& alert, Clock::time_point now);

  void set_addresses(std::vector<IpAddress> addresses) { writer_.set_addresses(std::move(addresses)); }
  void stop() { writer_.stop(); }

  [[nodiscard]] std::uint64_t written() const { return written_; }
  [[nodiscard]] std::uint64_t failed() const { return failed_; }

 private:
  struct Row {
    policy::ApiStatus server;  // what it has
    compile::PolicyStatus wanted;
    Clock::time_point due, last{};  // the next write, while `waits`; the last one
    int rank = -1;
    bool waits = false, under_way = false;
    bool told = false;        // by the server, since the write under way was sent
    bool fails_anew = false;  // the write under way is the first to say so
  };
  // What a write says, and of which policy: both may be others when its answer comes.
  struct Sent {
    policy::NamespacedName name;
    std::string uid;
    compile::PolicyStatus status;
  };
  void plan_all(const compile::Compiled& compiled, const identity::Snapshot& snapshot, Clock::time_point now);
  void plan(Row& row, const compile::PolicyReport& report, const identity::Snapshot& snapshot, Clock::time_point now);
  void write(const policy::NamespacedName& name, Row& row, Clock::time_point now);
  void done(const Sent& sent, const Status& outcome);
  void tell_failure(const Sent& sent, Clock::time_point now);
  void send_event(const std::string& ns, std::string_view involved, std::string_view reason, std::string_view message,
                  Clock::time_point now);

  source::KubeWriter writer_;
  const std::string node_;
  const std::function<void(std::string)> on_problem_;
  const StatusTimes times_;
  std::map<policy::NamespacedName, Row> rows_;
  bool stale_ = true;
  std::uint64_t written_ = 0, failed_ = 0;
  double event_room_;  // a bucket of events that may be sent now
  Clock::time_point event_room_at_{};
};

}  // namespace casa::app

// Owns everything and wires it: sources bring documents, a rebuild turns them, or what changed of them, into a generation and commits it,
// the ring brings flows back, the API shows it all. One thread. Callbacks never apply anything themselves: they say what
// changed and the next rebuild does it.
#pragma once

#include <boost/asio/io_context.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/signal_set.hpp>
#include <boost/asio/steady_timer.hpp>

#include <array>
#include <chrono>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "api/server.h"
#include "api/state.h"
#include "app/config.h"
#include "app/documents.h"
#include "app/inlet.h"
#include "app/signatures.h"
#include "app/status_writer.h"
#include "app/tls_observers.h"
#include "compile/compile.h"
#include "datapath/datapath.h"
#include "dns/resolv_conf_watch.h"
#include "dns/resolver.h"
#include "event/decoder.h"
#include "identity/node.h"
#include "identity/snapshot.h"
#include "source/directory.h"
#include "source/kube_source.h"
#include "store/flow_history.h"
#include "token/tracker.h"

namespace casa::app {

class Daemon final : public api::State {
 public:
  explicit Daemon(Config config);
  ~Daemon() override;

  // Loads or adopts the kernel side, then serves until SIGTERM or SIGINT. Enforcement stays in the kernel after it.
  Status run();

  [[nodiscard]] api::StatusView status() const override;
  [[nodiscard]] std::vector<api::PolicyView> policies() const override;
  [[nodiscard]] std::vector<api::WorkloadView> workloads() const override;
  [[nodiscard]] std::vector<api::EndpointView> endpoints() const override;
  [[nodiscard]] api::StatsView stats() const override;
  [[nodiscard]] Result<api::ExplainView> explain(const api::ExplainQuery& query) const override;
  [[nodiscard]] std::vector<std::string> baseline() const override;
  [[nodiscard]] const store::FlowHistory& flows() const override { return history_; }
  [[nodiscard]] const token::Tracker& tokens() const override { return tracker_; }
  [[nodiscard]] const api::Feed& feed() const override { return feed_; }

 private:
  Status start();
  // sources.cpp
  Status start_sources();
  [[nodiscard]] bool is_synced() const;
  void recall_pods();
  void on_source_problem(const std::string& key, std::string problem);
  bool on_api_document(const source::Document& document);
  void on_api_remove(const std::string& origin);
  void tell_pruned(const source::Document& document);
  void tell_conflicts();
  [[nodiscard]] std::vector<api::SourceView> source_views() const;
  [[nodiscard]] std::map<std::string, std::string> pods_of_endpoints() const;
  Status prepare_state_dir();
  // rebuild.cpp. What is to be looked at: objects, the cgroups of this node too, or everything anew.
  enum class Scope { kObjects, kPlaces, kAll };
  void schedule_rebuild(Scope scope);
  void rebuild();
  bool follow();
  [[nodiscard]] identity::NodeFacts node_facts(const std::vector<IpAddress>& addresses, bool places) const;
  bool may_commit();
  bool save_numbers();
  bool note_commit(const Result<bool>& committed);
  bool takes_force(bool changed);
  void end_what_is_refused();
  void settle_soon();
  void refresh_reports();
  void tell_problems();
  void attach();
  // signatures.cpp
  Status start_signatures();
  void on_signature(const jwt::Verdict& verdict);
  // names.cpp
  Status start_dns();
  void on_resolv_conf(const dns::ResolvConf& conf);
  void learn(const std::string& fqdn, const std::vector<dns::Record>& records, std::uint32_t least_seconds);
  [[nodiscard]] std::set<std::string> own_names() const;
  void tell_servers();
  void follow_names();
  void keep_names();
  [[nodiscard]] std::vector<api::EndpointView> named_endpoints() const;
  [[nodiscard]] std::map<std::string, std::string> name_states() const;
  void watch_ring();
  void wait_for_ring();
  void drain_ring();
  void handle_record(const datapath::Datapath::Record& record);
  // token_news.cpp
  void handle_token(const casa_token_event& record);
  void follow_tls();
  void set_signature(const event::Sha256& sha256, casa_signature signature);
  void tell(const token::Alert& alert);
  void keep(const event::Flow& flow);
  void end_refused(const casa_event& record);
  void end_udp_flows();
  void end_unjudged();
  void watch_addresses();
  void every_second();
  void look_after_attachment();
  void look_for_failures();
  void begin_gap(std::optional<std::chrono::system_clock::time_point> from);
  void collect_denials();
  void sweep(bool counters);
  void sweep_udp();
  void keep_watchdog();
  void watch_signals();
  void note_problem(const std::string& key, std::string problem);

  struct UdpSeen {
    std::uint64_t packets = 0;
    std::chrono::steady_clock::time_point at;
  };

  const Config config_;
  boost::asio::io_context io_;
  boost::asio::signal_set signals_;
  boost::asio::steady_timer rebuild_timer_, settle_timer_, ring_timer_, second_timer_, watchdog_timer_;
  std::unique_ptr<boost::asio::posix::stream_descriptor> ring_fd_, address_fd_;

  identity::CgroupMount mount_;
  identity::Allocator allocator_;
  Documents documents_;
  std::unique_ptr<datapath::Datapath> datapath_;
  std::unique_ptr<Inlet> files_, api_;  // the second is null without an API server
  std::unique_ptr<source::DirectorySource> directory_;
  std::unique_ptr<source::KubernetesSource> kubernetes_;
  std::unique_ptr<StatusWriter> status_writer_;  // as kubernetes_
  std::map<std::string, std::string>
      pruned_;  // by the policy's origin: fields that its author wrote and the server does not have
  std::map<policy::ObjectKey, std::string> conflicts_;  // that have been told
  std::string api_host_;                                // of the API server, when it is a name
  std::unique_ptr<api::Server> server_;
  std::unique_ptr<dns::ResolvConfWatch> resolv_conf_;
  std::unique_ptr<dns::Resolver> resolver_;
  std::unique_ptr<Signatures> signatures_;  // null: not checked
  std::unique_ptr<TlsObservers> tls_observers_;
  identity::DnsFacts dns_;
  identity::TokenFacts tokens_;
  bool dns_known_ = false;  // resolv.conf was read, or cannot be

  identity::Snapshot snapshot_;
  compile::Compiled compiled_;
  event::Decoder decoder_;
  token::Tracker tracker_;
  store::FlowHistory history_;
  api::Feed feed_;

  const std::chrono::system_clock::time_point started_;
  std::map<std::string, std::string> problems_;  // by what is concerned
  std::optional<std::chrono::system_clock::time_point> generation_time_;
  mutable std::optional<std::string> digest_;  // of compiled_, when somebody asked
  bool attached_ = false, rebuild_pending_ = false, settling_ = false;
  bool all_due_ = true, places_due_ = false;  // what the next rebuild is to look at
  bool reports_stale_ = false;                // compiled_'s reports are older than its rows
  bool sweep_due_ = false;                    // live flows may be allowed no longer
  std::uint64_t times_anew_ = 0, times_followed_ = 0;
  std::chrono::steady_clock::time_point rebuilt_, followed_, reports_after_;
  std::chrono::steady_clock::duration rebuild_took_{}, follow_took_{}, sweep_took_{};
  bool fresh_attachment_ = false;  // what went on before it is still to be looked through
  std::chrono::system_clock::time_point seen_attached_;
  std::vector<api::StatusView::Gap> gaps_;  // only the newest can be open
  unsigned idle_rounds_ = 0, seconds_ = 0;
  std::array<std::uint64_t, CASA_STAT_COUNT> stats_seen_{};                 // a second ago
  std::map<std::string, std::chrono::steady_clock::time_point> failed_at_;  // by the problem's key
  std::map<std::string, UdpSeen> udp_seen_;
  std::set<std::uint64_t> closed_udp_;  // sockets, by cookie
};

}  // namespace casa::app

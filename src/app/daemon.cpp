// Life of the daemon. Generations: rebuild.cpp. The news from the kernel: news.cpp. What the API shows: views.cpp.
#include "app/daemon.h"

#include <fmt/format.h>
#include <sys/stat.h>

#include <csignal>

#include "app/notify.h"
#include "base/log.h"

namespace casa::app {

namespace asio = boost::asio;
using std::chrono::milliseconds;
using std::chrono::seconds;

namespace {

// Grows from run to run.
std::string run_name() {
  auto since_epoch = std::chrono::system_clock::now().time_since_epoch();
  return std::to_string(std::chrono::duration_cast<milliseconds>(since_epoch).count());
}

}  // namespace

Daemon::Daemon(Config config)
    : config_(std::move(config)),
      signals_(io_),
      rebuild_timer_(io_),
      settle_timer_(io_),
      ring_timer_(io_),
      second_timer_(io_),
      watchdog_timer_(io_),
      documents_(config_.state_dir + "/last-good"),
      feed_(run_name()),
      started_(std::chrono::system_clock::now()) {}

Daemon::~Daemon() = default;

Status Daemon::prepare_state_dir() {
  for (const auto& dir : {config_.state_dir, config_.state_dir + "/last-good"})
    if (::mkdir(dir.c_str(), 0700) != 0 && errno != EEXIST)
      return fail_errno(errno, "cannot make the state directory {}", dir);
  return allocator_.load(config_.state_dir + "/identities");
}

Status Daemon::start() {
  TRY_ASSIGN(mount_, identity::find_cgroup_mount(config_.cgroup_root));
  TRY_ASSIGN(datapath_, datapath::Datapath::open({config_.bpffs, mount_, config_.limits}));
  TRY(prepare_state_dir());
  for (const auto& [feature, state] : datapath_->features())
    if (state != "on") spdlog::warn("feature {} is {}", feature, state);
  TRY(datapath_->set_token_paths(config_.event_classes.last_segments()));
  tls_observers_ = std::make_unique<TlsObservers>(
      io_, *datapath_, [this](const std::string& key, std::string problem) { note_problem(key, std::move(problem)); });
  stats_seen_ = datapath_->stats();
  if (datapath_->found_links_elsewhere()) begin_gap(std::nullopt);
  for (const auto& denial : datapath_->denials()) decoder_.start_from(denial.key, denial.value);
  server_ = std::make_unique<api::Server>(io_, *this, api::ServerOptions{.socket_path = config_.api_socket});
  TRY(server_->start());
  recall_pods();
  TRY(start_sources());
  TRY(start_signatures());
  TRY(start_dns());
  watch_signals();
  watch_ring();
  watch_addresses();
  every_second();
  keep_watchdog();
  spdlog::info("casad is starting: policies {}, cgroup root {}, pins {}{}", config_.policy_dir, mount_.root,
               config_.bpffs,
               datapath_->adopted() ? fmt::format(", adopted generation {}", datapath_->generation()) : "");
  return {};
}

Status Daemon::run() {
  TRY(start());
  io_.run();
  notify_service_manager("STOPPING=1");
  server_->stop();
  directory_->stop();
  if (kubernetes_) kubernetes_->stop();
  if (status_writer_) status_writer_->stop();
  resolv_conf_->stop();
  resolver_->stop();
  if (signatures_) signatures_->stop();
  (void)allocator_.save(config_.state_dir + "/identities");
  spdlog::info(
      "casad has stopped; enforcement stays in the kernel (generation {}). `casad detach --bpffs {}` would end it",
      datapath_->generation(), config_.bpffs);
  return {};
}

void Daemon::watch_signals() {
  boost::system::error_code ignored;
  signals_.add(SIGTERM, ignored);
  signals_.add(SIGINT, ignored);
  signals_.async_wait([this](boost::system::error_code error, int) {
    if (!error) io_.stop();
  });
}

void Daemon::note_problem(const std::string& key, std::string problem) {
  if (problem.empty()) {
    if (problems_.erase(key) != 0) spdlog::info("{}: well again", key);
    return;
  }
  std::string& known = problems_[key];
  if (known == problem) return;
  known = std::move(problem);
  spdlog::warn("{}: {}", key, known);
}

// When there is a generation to enforce, this run's programs take over; and again when the enforcement root is another.
void Daemon::attach() {
  if (attached_) return;
  Status attached = datapath_->attach();
  bool gap = !gaps_.empty() && !gaps_.back().until;
  note_problem("attach", attached ? ""
                         : gap    ? attached.error().context + "; nothing below it is enforced"
                                  : attached.error().context);
  if (!attached) return;
  attached_ = fresh_attachment_ = true;
  seen_attached_ = std::chrono::system_clock::now();
  if (gap) gaps_.back().until = seen_attached_;
  notify_service_manager("READY=1\nSTATUS=enforcing");
}

void Daemon::keep_watchdog() {
  auto interval = watchdog_interval();
  if (!interval) return;
  notify_service_manager("WATCHDOG=1");
  watchdog_timer_.expires_after(*interval);
  watchdog_timer_.async_wait([this](boost::system::error_code error) {
    if (!error) keep_watchdog();
  });
}

void Daemon::watch_addresses() {
  auto fd = identity::watch_host_addresses();
  note_problem("host addresses", fd ? "" : fd.error().context);
  if (!fd) return;
  if (!address_fd_) address_fd_ = std::make_unique<asio::posix::stream_descriptor>(io_, fd->release());
  auto wait = [this](auto&& self) -> void {
    address_fd_->async_wait(asio::posix::descriptor_base::wait_read, [this, self](boost::system::error_code error) {
      if (error) return;
      char buffer[8192];
      while (::recv(address_fd_->native_handle(), buffer, sizeof buffer, MSG_DONTWAIT) > 0) {
      }
      schedule_rebuild(Scope::kAll);
      self(self);
    });
  };
  wait(wait);
}

}  // namespace casa::app

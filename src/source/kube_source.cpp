// What is asked for, when it counts as complete, and what is told of the server's health. See kube_source.h.
#include "source/kube_source.h"

#include <algorithm>
#include <array>
#include <boost/asio/as_tuple.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <exception>

#include "base/text.h"
#include "source/reflector.h"

namespace casa::source {
namespace {

namespace asio = boost::asio;
using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

constexpr auto kAwait = asio::as_tuple(asio::use_awaitable);
constexpr std::size_t kMaxVersionBytes = 64 * 1024;

}  // namespace

const char* to_string(KubernetesResource::State state) {
  switch (state) {
    case KubernetesResource::State::kListing: return "listing";
    case KubernetesResource::State::kWatching: return "watching";
    case KubernetesResource::State::kAbsent: return "absent";
    case KubernetesResource::State::kForbidden: return "forbidden";
    case KubernetesResource::State::kFailing: return "failing";
  }
  return "";
}

class KubernetesSource::Impl : public std::enable_shared_from_this<Impl>, private ReflectorListener {
 public:
  Impl(asio::io_context& io, KubeAccess access, Handler& handler, KubernetesOptions options)
      : io_(io),
        handler_(handler),
        options_(std::move(options)),
        url_(to_string(access.server)),
        login_(std::make_shared<KubeLogin>(std::move(access), options_.token_period)),
        check_(io, login_, {options_.check_timeout, options_.check_timeout}),
        check_timer_(io),
        quiet_(io),
        health_timer_(io) {
    add_resources();
  }

  void start();
  void stop();
  void set_addresses(std::vector<IpAddress> addresses);
  [[nodiscard]] const KubeLogin& login() const { return *login_; }
  [[nodiscard]] std::vector<KubernetesResource> resources() const;

 private:
  void add_resources();
  void add(ObjectTable& table, KubeResource resource);
  ObjectTable& table(std::string kind);

  static asio::awaitable<void> reflect(std::shared_ptr<Impl> self, Reflector& reflector);
  static asio::awaitable<void> watch_silence(std::shared_ptr<Impl> self);
  asio::awaitable<Status> check_server();
  [[nodiscard]] Clock::time_point next_check(Clock::time_point last) const;

  // ReflectorListener
  void on_object(Document document) override;
  void on_gone(const std::string& origin) override;
  void on_state() override;
  void on_note(const std::string& text) override;

  void touch();
  void end_burst();
  void health_soon();
  void report_health();
  std::string health();

  asio::io_context& io_;
  Handler& handler_;
  const KubernetesOptions options_;
  const std::string url_;
  std::shared_ptr<KubeLogin> login_;
  std::vector<std::unique_ptr<ObjectTable>> tables_;
  std::vector<std::unique_ptr<Reflector>> reflectors_;
  KubeConnection check_;  // for asking whether the server is there
  asio::steady_timer check_timer_, quiet_, health_timer_;

  std::optional<Clock::time_point> burst_;  // its first event
  bool synced_ = false, stopped_ = false;
  std::size_t failing_ = 0;
  std::string reported_;
  std::optional<std::chrono::system_clock::time_point> ill_since_;
};

// Filters. Of pods: those that have a node, since one without has no address and no process; of other nodes, those that still run. They are two
// watches, as no selector can say "of this node, or not finished" (of this node also the finished ones are followed, as old kubelets call
// a pod failed that they are about to end). No pod is in both: its node never changes. Everything else is needed as a whole.
void KubernetesSource::Impl::add_resources() {
  ObjectTable& pods = table("Pod");
  constexpr const char* kPods = "/api/v1/pods";
  constexpr const char* kElsewhere = "spec.nodeName!=,status.phase!=Succeeded,status.phase!=Failed";
  add(table("CASAPolicy"), {"CASAPolicies", {"/apis/casa.io/v1alpha1/casapolicies"}, "", true});
  add(table("MultiAgentSystem"), {"MultiAgentSystems", {"/apis/casa.io/v1alpha1/multiagentsystems"}, "", true});
  add(table("Namespace"), {"Namespaces", {"/api/v1/namespaces"}, "", false});
  if (options_.node_name.empty()) {
    add(pods, {"Pods", {kPods}, kElsewhere, false});
  } else {
    const std::string& node = options_.node_name;
    add(table("Node"), {"Node " + node, {"/api/v1/nodes"}, "metadata.name=" + node, false});
    add(pods, {"Pods of this node", {kPods}, "spec.nodeName=" + node, false});
    add(pods, {"Pods of other nodes", {kPods}, fmt::format("spec.nodeName!={},{}", node, kElsewhere), false});
  }
  add(table("Service"), {"Services", {"/api/v1/services"}, "", false});
  add(table("EndpointSlice"),
      {"EndpointSlices",
       {"/apis/discovery.k8s.io/v1/endpointslices", "/apis/discovery.k8s.io/v1beta1/endpointslices"},
       "",
       true});
}

ObjectTable& KubernetesSource::Impl::table(std::string kind) {
  return *tables_.emplace_back(std::make_unique<ObjectTable>(std::move(kind)));
}

void KubernetesSource::Impl::add(ObjectTable& table, KubeResource resource) {
  ReflectorListener& listener = *this;
  reflectors_.push_back(std::make_unique<Reflector>(io_, login_, std::move(resource), table, listener, options_));
}

void KubernetesSource::Impl::start() {
  for (auto& reflector : reflectors_) asio::co_spawn(io_, reflect(shared_from_this(), *reflector), asio::detached);
  asio::co_spawn(io_, watch_silence(shared_from_this()), asio::detached);
}

void KubernetesSource::Impl::stop() {
  if (std::exchange(stopped_, true)) return;
  for (auto& reflector : reflectors_) reflector->stop();
  check_.close();
  check_timer_.cancel();
  quiet_.cancel();
  health_timer_.cancel();
}

void KubernetesSource::Impl::set_addresses(std::vector<IpAddress> addresses) {
  bool first = login_->addresses().empty() && !addresses.empty();
  login_->set_addresses(std::move(addresses));
  if (!first) return;
  for (auto& reflector : reflectors_) reflector->hurry();
}

std::vector<KubernetesResource> KubernetesSource::Impl::resources() const {
  std::vector<KubernetesResource> all;
  all.reserve(reflectors_.size());
  for (const auto& reflector : reflectors_) all.push_back(reflector->describe());
  return all;
}

asio::awaitable<void> KubernetesSource::Impl::reflect(std::shared_ptr<Impl> self, Reflector& reflector) {
  // What is thrown (there is no memory) ends this attempt only.
  while (!self->stopped_) {
    try {
      co_await reflector.run();
    } catch (const std::exception& error) {
      reflector.take_exception(error.what());
    }
  }
}

// A frozen server acknowledges what it is sent, and a silent watch says nothing of it: so it is asked something small now and then.
asio::awaitable<void> KubernetesSource::Impl::watch_silence(std::shared_ptr<Impl> self) {
  auto last = Clock::now();
  while (!self->stopped_) {
    auto next = self->next_check(last);
    if (next > Clock::now()) {
      self->check_timer_.expires_at(next);
      co_await self->check_timer_.async_wait(kAwait);
      continue;
    }
    Status there = co_await self->check_server();
    if (self->stopped_) co_return;
    last = Clock::now();
    if (there) continue;
    std::string why = "has fallen silent: " + there.error().context;
    for (auto& reflector : self->reflectors_) reflector->drop(why);
  }
}

// When the watch that has been silent for longest has been so for too long, and the last check is as old.
Clock::time_point KubernetesSource::Impl::next_check(Clock::time_point last) const {
  auto oldest = Clock::now();
  for (const auto& reflector : reflectors_) oldest = std::min(oldest, reflector->heard().value_or(oldest));
  return std::max(oldest, last) + options_.silence;
}

// Any answer will do. /version is the cheapest, and everyone may ask for it.
asio::awaitable<Status> KubernetesSource::Impl::check_server() {
  std::string thrown;
  try {
    KubeRequest request;
    request.target = "/version";
    Result<KubeAnswer> answer = co_await check_.send(std::move(request));
    if (!answer) co_return std::unexpected(std::move(answer).error());
    Result<std::string> body = co_await check_.read_all(kMaxVersionBytes);
    if (!body) co_return std::unexpected(std::move(body).error());
    co_return Status();
  } catch (const std::exception& error) {
    thrown = error.what();
  }
  check_.close();
  co_return fail(ErrorCode::kInternal, "{}", thrown);
}

void KubernetesSource::Impl::on_object(Document document) {
  if (stopped_) return;
  touch();
  handler_.on_upsert(std::move(document));
}

void KubernetesSource::Impl::on_gone(const std::string& origin) {
  if (stopped_) return;
  touch();
  handler_.on_remove(origin);
}

void KubernetesSource::Impl::on_note(const std::string& text) {
  if (!stopped_ && options_.on_note) options_.on_note(text);
}

void KubernetesSource::Impl::on_state() {
  if (stopped_) return;
  auto failing = std::ranges::count(reflectors_, Reflector::State::kFailing, &Reflector::state);
  // Where one gets through, the others need not wait.
  if (static_cast<std::size_t>(failing) < failing_)
    for (auto& reflector : reflectors_)
      if (reflector->state() == Reflector::State::kFailing) reflector->hurry();
  failing_ = static_cast<std::size_t>(failing);
  health_soon();
  if (!synced_ && !stopped_ && std::ranges::all_of(reflectors_, &Reflector::listed)) {
    synced_ = true;
    end_burst();
  }
}

void KubernetesSource::Impl::touch() {
  if (!synced_) return;
  auto now = Clock::now();
  if (!burst_) burst_ = now;
  quiet_.expires_at(std::min(now + options_.quiet, *burst_ + options_.longest));
  quiet_.async_wait([self = shared_from_this()](boost::system::error_code ec) {
    // A wait that was over when it was set anew comes without an error.
    if (!ec && !self->stopped_ && self->quiet_.expiry() <= Clock::now()) self->end_burst();
  });
}

void KubernetesSource::Impl::end_burst() {
  burst_.reset();
  quiet_.cancel();
  handler_.on_synced();
}

// What becomes of one outage comes from each watch for itself: it is told in one sentence, not in eight.
void KubernetesSource::Impl::health_soon() {
  if (health_timer_.expiry() > Clock::now()) return;
  health_timer_.expires_after(options_.longest);
  health_timer_.async_wait([self = shared_from_this()](boost::system::error_code ec) {
    if (!ec) self->report_health();
  });
}

void KubernetesSource::Impl::report_health() {
  std::string problem = health();
  if (problem == reported_ || stopped_) return;
  reported_ = problem;
  handler_.on_health(problem);
}

std::string KubernetesSource::Impl::health() {
  const Reflector* first = nullptr;
  std::size_t bad = 0, well = 0;
  for (const auto& reflector : reflectors_) {
    bool problem = !reflector->problem().empty();
    if (problem && first == nullptr) first = reflector.get();
    bad += problem ? 1 : 0;
    well += reflector->heard() ? 1 : 0;
  }
  if (first == nullptr) {
    ill_since_.reset();
    return {};
  }
  // Kept, as a server that answers with errors is in contact, and a sentence that changes all the time is no news.
  if (!ill_since_) ill_since_ = login_->last_contact_time().value_or(std::chrono::system_clock::now());
  std::string text = fmt::format("the API server {} {}", url_, first->problem());
  if (bad > 1 && well != 0) text += fmt::format(" (and {} more such problems)", bad - 1);
  if (!synced_) return text + "; nothing of it is in force yet";
  if (well != 0) return text + "; what it said of them last stays in force";
  return fmt::format("{}; the last state stays in force since {}", text, format_time(*ill_since_));
}

KubernetesSource::KubernetesSource(asio::io_context& io, KubeAccess access, Handler& handler, KubernetesOptions options)
    : impl_(std::make_shared<Impl>(io, std::move(access), handler, std::move(options))) {}
KubernetesSource::~KubernetesSource() { impl_->stop(); }
void KubernetesSource::start() { impl_->start(); }
void KubernetesSource::stop() { impl_->stop(); }
void KubernetesSource::set_addresses(std::vector<IpAddress> addresses) { impl_->set_addresses(std::move(addresses)); }
std::optional<Clock::time_point> KubernetesSource::last_contact() const { return impl_->login().last_contact(); }
std::vector<KubernetesResource> KubernetesSource::resources() const { return impl_->resources(); }

}  // namespace casa::source

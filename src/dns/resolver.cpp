// When to ask which server for what. See resolver.h. One queue of questions by the time when they are due; so many are under
// way at once; an answer puts its question back into the queue.
#include "dns/resolver.h"

#include <fmt/format.h>

#include <algorithm>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <cmath>
#include <random>
#include <utility>

#include "dns/question.h"

namespace casa::dns {
namespace {

using Clock = std::chrono::steady_clock;
using Outcome = Question::Outcome;
using Wait = std::chrono::milliseconds;

struct IsDueEarlier {
  bool operator()(const Question* a, const Question* b) const { return std::pair(a->due, a) < std::pair(b->due, b); }
};

}  // namespace

class Resolver::Impl : public std::enable_shared_from_this<Impl> {
 public:
  Impl(boost::asio::io_context& io, OnAnswer on_answer, OnChange on_change, const ResolverOptions& options)
      : io_(io),
        on_answer_(std::move(on_answer)),
        on_change_(std::move(on_change)),
        options_(options),
        timer_(io),
        random_(std::random_device{}()) {}

  void set_servers(std::vector<Nameserver> servers);
  void set_names(const std::set<std::string>& fqdns);
  [[nodiscard]] std::map<std::string, NameState> states() const;
  void stop();

 private:
  void schedule(Question& question, Clock::time_point due);
  void withdraw(Question& question);
  void pump();
  void ask(Question& question);
  void on_reply(Question& question, const Reply& reply);
  [[nodiscard]] bool note(Question& question, const Reply& reply);
  void plan(Name& name, Question& question);
  bool refresh(const std::string& fqdn, Name& name);
  void tell_later(std::vector<std::string> fqdns);
  [[nodiscard]] std::size_t server_of(const Question& question) const {
    return (question.first_server + question.tried) % servers_.size();
  }
  [[nodiscard]] Wait renewal_of(const Question& question);
  [[nodiscard]] Wait retry_of(const Question& question);
  [[nodiscard]] Wait vary(Wait wait);

  boost::asio::io_context& io_;
  OnAnswer on_answer_;
  OnChange on_change_;
  const ResolverOptions options_;
  std::vector<Nameserver> servers_;
  std::size_t first_server_ = 0;       // the one that answered last: a dead one before it costs no time again
  std::map<std::string, Name> names_;  // its nodes stay where they are: the queue points into them
  std::set<Question*, IsDueEarlier> queue_;
  unsigned under_way_ = 0;
  boost::asio::steady_timer timer_;
  std::minstd_rand random_;  // spreads questions in time; ids and ports are c-ares' and the kernel's
  bool stopped_ = false;
};

void Resolver::Impl::set_servers(std::vector<Nameserver> servers) {
  if (stopped_ || servers == servers_) return;
  servers_ = std::move(servers);
  first_server_ = 0;
  auto due = Clock::now();
  std::vector<std::string> changed;
  for (auto& [fqdn, name] : names_) {
    for (auto& question : name.questions) {
      withdraw(question);
      question.failures = 0;
      schedule(question, due);
    }
    due += options_.spacing;
    if (refresh(fqdn, name)) changed.push_back(fqdn);
  }
  tell_later(std::move(changed));
  pump();
}

void Resolver::Impl::set_names(const std::set<std::string>& fqdns) {
  if (stopped_) return;
  for (auto it = names_.begin(); it != names_.end();) {
    if (fqdns.contains(it->first)) {
      ++it;
      continue;
    }
    for (auto& question : it->second.questions) withdraw(question);
    it = names_.erase(it);
  }
  auto due = Clock::now();
  std::vector<std::string> changed;
  for (const auto& fqdn : fqdns) {
    auto [it, added] = names_.try_emplace(fqdn);
    if (!added) continue;
    auto& questions = it->second.questions;
    questions[1].family = Family::kAaaa;
    for (auto& question : questions) {
      question.fqdn = fqdn;
      schedule(question, due);
    }
    due += options_.spacing;
    if (refresh(fqdn, it->second)) changed.push_back(fqdn);
  }
  tell_later(std::move(changed));
  pump();
}

std::map<std::string, NameState> Resolver::Impl::states() const {
  std::map<std::string, NameState> states;
  for (const auto& [fqdn, name] : names_) {
    auto& state = states[fqdn];
    for (const auto& question : name.questions) {
      state.good.insert(state.good.end(), question.good.begin(), question.good.end());
      state.good_at = std::max(state.good_at, question.good_at);
    }
    state.ever_resolved = name.resolved;
    state.last_error = name.problem;
    state.next_query = std::min(name.questions[0].due, name.questions[1].due);
  }
  return states;
}

void Resolver::Impl::stop() {
  stopped_ = true;
  timer_.cancel();
  for (auto& [fqdn, name] : names_)
    for (auto& question : name.questions) withdraw(question);
}

void Resolver::Impl::schedule(Question& question, Clock::time_point due) {
  withdraw(question);
  if (servers_.empty()) return;
  question.due = due;
  question.queued = queue_.insert(&question).second;
}

// Neither waiting nor under way any more.
void Resolver::Impl::withdraw(Question& question) {
  if (question.queued) queue_.erase(&question);
  question.queued = false;
  if (auto attempt = std::exchange(question.attempt, nullptr)) {
    attempt->cancel();
    --under_way_;
  }
  question.due = Clock::time_point::max();
}

void Resolver::Impl::pump() {
  if (stopped_) return;
  auto now = Clock::now();
  while (!queue_.empty() && under_way_ < options_.max_under_way && (*queue_.begin())->due <= now) {
    Question& question = **queue_.begin();
    queue_.erase(queue_.begin());
    question.queued = false;
    question.first_server = first_server_;
    question.tried = 0;
    question.refusals.clear();
    ++under_way_;
    ask(question);
  }
  // With all places taken, the next answer calls.
  if (queue_.empty() || under_way_ >= options_.max_under_way) {
    timer_.cancel();
    return;
  }
  timer_.expires_at((*queue_.begin())->due);
  timer_.async_wait([self = shared_from_this()](boost::system::error_code ec) {
    if (!ec) self->pump();
  });
}

void Resolver::Impl::ask(Question& question) {
  const auto& server = servers_[server_of(question)];
  // The question outlives its attempt: withdraw() ends that first.
  question.attempt =
      Attempt::start(io_, server, question.fqdn, question.family, options_.timeout,
                     [self = shared_from_this(), &question](const Reply& reply) { self->on_reply(question, reply); });
}

void Resolver::Impl::on_reply(Question& question, const Reply& reply) {
  question.attempt.reset();
  if (!note(question, reply)) return ask(question);
  --under_way_;
  const std::string fqdn = question.fqdn;
  auto& name = names_.find(fqdn)->second;
  plan(name, question);
  bool changed = refresh(fqdn, name);
  // From here on a callback may have changed everything.
  if (reply.kind == Reply::Kind::kAddresses) on_answer_(fqdn, reply.records);
  if (changed && !stopped_ && names_.contains(fqdn)) on_change_(fqdn);
  pump();
}

// False: the next server of this round is to be asked.
bool Resolver::Impl::note(Question& question, const Reply& reply) {
  auto server = server_of(question);
  if (reply.kind == Reply::Kind::kFailed) {
    question.refusals[server] = fmt::format("{} {}", to_string(servers_[server]), reply.failure);
    if (++question.tried < options_.tries * servers_.size()) return false;
    question.outcome = Outcome::kFailed;
    question.detail.clear();
    for (const auto& [index, refusal] : question.refusals)
      question.detail += (question.detail.empty() ? "" : ", ") + refusal;
    ++question.failures;
    return true;
  }
  first_server_ = server;
  question.detail = to_string(servers_[server]);
  if (reply.kind == Reply::Kind::kAddresses) {
    question.outcome = Outcome::kAddresses;
    question.good = reply.records;
    question.good_at = Clock::now();
    question.failures = 0;
    return true;
  }
  question.outcome = reply.kind == Reply::Kind::kNoData ? Outcome::kNoData : Outcome::kNoName;
  ++question.failures;
  return true;
}

// When the question is asked next. A family that the name does not have goes with the one that it has.
void Resolver::Impl::plan(Name& name, Question& question) {
  auto& other = name.sibling(question);
  bool other_is_good = other.outcome == Outcome::kAddresses;
  if (question.outcome == Outcome::kAddresses) {
    schedule(question, Clock::now() + renewal_of(question));
    if (other.outcome != Outcome::kNoData) return;
    // Here and not when "no such records" came: that may have been said of both families, and this answer still be to come.
    other.good.clear();
    if (other.queued) schedule(other, question.due);
    return;
  }
  bool is_absent = question.outcome == Outcome::kNoData && other_is_good;
  if (is_absent) question.failures = 1;  // an answer; what comes after it counts from here
  schedule(question, is_absent && other.queued ? other.due : Clock::now() + retry_of(question));
}

bool Resolver::Impl::refresh(const std::string& fqdn, Name& name) {
  auto problem =
      servers_.empty() ? fmt::format("{} cannot be resolved: no name server is configured", fqdn) : problem_of(name);
  bool resolved =
      name.resolved || std::ranges::any_of(name.questions, [](const Question& q) { return !q.good.empty(); });
  if (problem == name.problem && resolved == name.resolved) return false;
  name.problem = std::move(problem);
  name.resolved = resolved;
  return true;
}

void Resolver::Impl::tell_later(std::vector<std::string> fqdns) {
  if (fqdns.empty()) return;
  boost::asio::post(io_, [self = shared_from_this(), fqdns = std::move(fqdns)] {
    for (const auto& fqdn : fqdns)
      if (!self->stopped_ && self->names_.contains(fqdn)) self->on_change_(fqdn);
  });
}

Wait Resolver::Impl::renewal_of(const Question& question) {
  auto shortest = std::ranges::min_element(question.good, {}, &Record::ttl)->ttl;
  auto clamp = [&](Wait wait) { return std::clamp(wait, options_.shortest_renewal, options_.longest_renewal); };
  return clamp(vary(clamp(Wait(shortest) * 4 / 5)));
}

Wait Resolver::Impl::retry_of(const Question& question) {
  auto doublings = std::clamp(question.failures, 1u, 20u) - 1;
  return vary(std::min(options_.first_retry * (1 << doublings), options_.longest_retry));
}

Wait Resolver::Impl::vary(Wait wait) {
  return Wait(std::llround(static_cast<double>(wait.count()) * std::uniform_real_distribution(0.9, 1.1)(random_)));
}

Resolver::Resolver(boost::asio::io_context& io, OnAnswer on_answer, OnChange on_change, ResolverOptions options)
    : impl_(std::make_shared<Impl>(io, std::move(on_answer), std::move(on_change), options)) {}
Resolver::~Resolver() { impl_->stop(); }
void Resolver::set_servers(std::vector<Nameserver> servers) { impl_->set_servers(std::move(servers)); }
void Resolver::set_names(const std::set<std::string>& fqdns) { impl_->set_names(fqdns); }
std::map<std::string, NameState> Resolver::states() const { return impl_->states(); }
void Resolver::stop() { impl_->stop(); }

}  // namespace casa::dns

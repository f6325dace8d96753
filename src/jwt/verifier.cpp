#include "jwt/verifier.h"

#include <openssl/sha.h>
#include <pthread.h>

#include <boost/asio/post.hpp>
#include <chrono>
#include <csignal>
#include <cstring>
#include <list>
#include <set>
#include <thread>
#include <unordered_map>
#include <unordered_set>
#include <utility>

#include "jwt/check.h"
#include "jwt/token_room.h"

namespace casa::jwt {
namespace {

struct HashBytes {
  std::size_t operator()(const Sha256& sha256) const {
    std::size_t value = 0;
    std::memcpy(&value, sha256.data(), sizeof value);
    return value;
  }
};

std::int64_t system_seconds() {
  return std::chrono::duration_cast<std::chrono::seconds>(std::chrono::system_clock::now().time_since_epoch()).count();
}

}  // namespace

class Verifier::Impl : public std::enable_shared_from_this<Impl> {
 public:
  Impl(boost::asio::io_context& io, OnVerdict on_verdict, VerifierOptions options)
      : io_(io), on_verdict_(std::move(on_verdict)), options_(std::move(options)), room_(options_.queue) {
    if (!options_.now) options_.now = system_seconds;
  }

  void start() {
    // Signals are for the thread of the io_context.
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    thread_ = std::thread([this] {
      while (room_.take([this](const Job& job) { work(job); })) {
      }
    });
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
    pthread_setname_np(thread_.native_handle(), "casad-jwt");
  }

  void stop() {
    if (std::exchange(stopped_, true)) return;
    room_.close();
    thread_.join();
  }

  void set_keys(std::shared_ptr<const KeySet> keys) {
    if (stopped_ || (keys_ && keys && keys_->same_keys(*keys))) return;
    keys_ = std::move(keys);
    ++generation_;
    for (auto it = order_.begin(); it != order_.end();) {
      const Finding& finding = it->finding;
      bool holds = !finding.other_keys_may_differ || (finding.key && keys_ && keys_->has(*finding.key));
      it = holds ? std::next(it) : take_back(it);
    }
  }

  bool offer(const Sha256& sha256, std::string_view token) {
    if (stopped_) return false;
    if (auto known = known_.find(sha256); known != known_.end()) {
      tell(known->second->sha256, known->second->finding);
      return true;
    }
    if (pending_.contains(sha256)) return true;
    if (!keys_ || !room_.put({sha256, keys_, generation_, token})) {
      ++counts_.not_queued;
      return false;
    }
    pending_.insert(sha256);
    return true;
  }

  void every_second() {
    std::int64_t now = options_.now();
    while (!early_.empty() && early_.begin()->first <= now) {
      auto known = known_.find(early_.begin()->second);
      early_.erase(early_.begin());
      if (known != known_.end() && known->second->finding.valid_from) take_back(known->second);
    }
  }

  VerifierCounts counts_;

 private:
  struct Known {
    Sha256 sha256;
    Finding finding;
  };
  using Order = std::list<Known>;

  // On the thread that checks.
  void work(const Job& job) {
    Sha256 actual;
    SHA256(reinterpret_cast<const unsigned char*>(job.token.data()), job.token.size(), actual.data());
    std::optional<Finding> finding;
    if (actual == job.sha256) finding = check_token(job.token, *job.keys, options_.now());
    boost::asio::post(io_, [weak = weak_from_this(), sha256 = job.sha256, generation = job.generation,
                            finding = std::move(finding)]() mutable {
      if (auto self = weak.lock()) self->done(sha256, generation, std::move(finding));
    });
  }

  void done(const Sha256& sha256, std::uint64_t generation, std::optional<Finding> finding) {
    if (stopped_) return;
    pending_.erase(sha256);
    ++(finding ? counts_.checked : counts_.mismatched);
    if (!finding || (generation != generation_ && finding->other_keys_may_differ)) return;
    if (finding->valid_from) early_.emplace(*finding->valid_from, sha256);
    order_.push_back({sha256, std::move(*finding)});
    known_[sha256] = std::prev(order_.end());
    if (order_.size() > options_.remembered) {
      known_.erase(order_.front().sha256);
      order_.pop_front();
    }
    tell(sha256, order_.back().finding);
  }

  void tell(const Sha256& sha256, const Finding& finding) {
    Verdict verdict{sha256, finding.signature, finding.expires, finding.why};
    if (verdict.signature == CASA_SIGNATURE_VALID && verdict.expires && options_.now() >= *verdict.expires)
      verdict = {sha256, CASA_SIGNATURE_EXPIRED, {}, "its time is over"};
    on_verdict_(verdict);
  }

  Order::iterator take_back(Order::iterator which) {
    Sha256 sha256 = which->sha256;
    known_.erase(sha256);
    auto next = order_.erase(which);
    on_verdict_({sha256, CASA_SIGNATURE_UNVERIFIED, {}, {}});
    return next;
  }

  boost::asio::io_context& io_;
  const OnVerdict on_verdict_;
  VerifierOptions options_;
  TokenRoom room_;
  std::thread thread_;
  std::shared_ptr<const KeySet> keys_;
  std::uint64_t generation_ = 0;
  Order order_;  // oldest first
  std::unordered_map<Sha256, Order::iterator, HashBytes> known_;
  std::unordered_set<Sha256, HashBytes> pending_;    // in the room
  std::set<std::pair<std::int64_t, Sha256>> early_;  // what is to be taken back, and when
  bool stopped_ = false;
};

Verifier::Verifier(boost::asio::io_context& io, OnVerdict on_verdict, VerifierOptions options)
    : impl_(std::make_shared<Impl>(io, std::move(on_verdict), std::move(options))) {
  impl_->start();
}
Verifier::~Verifier() { impl_->stop(); }
void Verifier::set_keys(std::shared_ptr<const KeySet> keys) { impl_->set_keys(std::move(keys)); }
bool Verifier::offer(const Sha256& sha256, std::string_view token) { return impl_->offer(sha256, token); }
void Verifier::every_second() { impl_->every_second(); }
const VerifierCounts& Verifier::counts() const { return impl_->counts_; }
void Verifier::stop() { impl_->stop(); }

}  // namespace casa::jwt

#include "app/signatures.h"

#include <fmt/format.h>
#include <sys/prctl.h>
#include <sys/resource.h>

#include <algorithm>
#include <chrono>

#include "app/daemon.h"
#include "base/log.h"

namespace casa::app {
namespace {

// Tokens that come together are overwritten together.
constexpr std::chrono::milliseconds kWipeDelay{20};
// A round of the event ring, and some more.
constexpr std::chrono::milliseconds kSightingDelay{50};

// Unix seconds as seconds of CLOCK_MONOTONIC, which the kernel compares with.
std::uint32_t monotonic_second(std::int64_t unix_second) {
  using std::chrono::seconds;
  auto now = std::chrono::duration_cast<seconds>(std::chrono::system_clock::now().time_since_epoch()).count();
  auto monotonic = static_cast<std::int64_t>(event::monotonic_ns() / 1'000'000'000);
  return static_cast<std::uint32_t>(std::clamp<std::int64_t>(monotonic + unix_second - now, 1, UINT32_MAX));
}

}  // namespace

Status keep_memory_private() {
  rlimit none{0, 0};
  if (::prctl(PR_SET_DUMPABLE, 0) != 0 || ::setrlimit(RLIMIT_CORE, &none) != 0)
    return fail_errno(errno, "cannot switch core dumps off, and tokens.signature needs that");
  return {};
}

Signatures::Signatures(boost::asio::io_context& io, const SignatureConfig& config, datapath::Datapath& datapath,
                       Hooks hooks)
    : io_(io), config_(config), datapath_(datapath), hooks_(std::move(hooks)), ring_(io), wipe_timer_(io) {}

Signatures::~Signatures() { stop(); }

Status Signatures::start() {
  auto location = parse_location(config_.jwks);
  if (!location)
    return fail(location.error().code, "tokens.signature.jwks '{}': {}", config_.jwks, location.error().context);
  location_ = std::move(*location);
  TRY(keep_memory_private());
  verifier_ = std::make_unique<jwt::Verifier>(io_, [this](const jwt::Verdict& verdict) { on_verdict(verdict); });
  offer_ = [this](const casa_token_key& key, std::string_view token) {
    jwt::Sha256 sha256;
    std::copy(std::begin(key.sha256), std::end(key.sha256), sha256.begin());
    (void)verifier_->offer(sha256, token);
  };
  jwt::KeySourceOptions options;
  options.ca_file = config_.ca;
  options.refresh = std::chrono::seconds{config_.refresh_seconds};
  source_ = jwt::KeySource::make(
      io_, location_, [this](std::shared_ptr<const jwt::KeySet> keys) { on_keys(std::move(keys)); },
      [this](const std::string& problem) { on_source_problem(problem); }, options);
  source_->start();
  boost::system::error_code ec;
  ring_.assign(datapath_.raw_tokens()->fd(), ec);
  if (ec) return fail(ErrorCode::kSystem, "cannot wait for tokens: {}", ec.message());
  // What an earlier run left in the ring is nobody's any more.
  if (Status wiped = datapath_.raw_tokens()->wipe([](const casa_token_key&, std::string_view) {}); !wiped) return wiped;
  datapath_.enable_raw_tokens(true);
  wait_for_tokens();
  tell_problem();
  return {};
}

void Signatures::stop() {
  if (std::exchange(stopped_, true) || !source_) return;
  datapath_.enable_raw_tokens(false);
  source_->stop();
  verifier_->stop();
  wipe_timer_.cancel();
  if (ring_.is_open()) ring_.release();
  (void)datapath_.raw_tokens()->wipe([](const casa_token_key&, std::string_view) {});
}

std::string Signatures::host() const { return location_.needs_name() ? location_.host : ""; }

void Signatures::set_addresses(const std::vector<IpAddress>& addresses) { source_->set_addresses(addresses); }

void Signatures::every_second() { verifier_->every_second(); }

// What an earlier run found, it found under keys that nobody here knows: with this run's first keys it is forgotten.
void Signatures::on_keys(std::shared_ptr<const jwt::KeySet> keys) {
  if (!has_keys_) {
    Status forgotten = datapath_.raw_tokens()->forget_all();
    kernel_problem_ = forgotten ? "" : forgotten.error().context;
    if (!forgotten) return tell_problem();
  }
  if (!has_keys_) spdlog::info("signatures are checked: {} keys from {}", keys->keys.size(), to_string(location_));
  for (const auto& note : keys->notes) spdlog::debug("keys from {}: {}", to_string(location_), note);
  has_keys_ = true;
  verifier_->set_keys(std::move(keys));
}

void Signatures::on_verdict(const jwt::Verdict& verdict) {
  casa_token_key key;
  std::copy(verdict.sha256.begin(), verdict.sha256.end(), key.sha256);
  std::uint32_t expires = verdict.expires ? monotonic_second(*verdict.expires) : 0;
  Status set = datapath_.raw_tokens()->set(key, verdict.signature, expires);
  kernel_problem_ = set ? "" : set.error().context;
  tell_problem();
  if (verdict.signature == CASA_SIGNATURE_UNKNOWN_KEY) source_->ask_for_newer();
  hooks_.on_verdict(verdict);
}

void Signatures::on_source_problem(const std::string& problem) {
  source_problem_ = problem;
  tell_problem();
}

void Signatures::tell_problem() { hooks_.on_problem(kernel_problem_.empty() ? source_problem_ : kernel_problem_); }

void Signatures::wait_for_tokens() {
  ring_.async_wait(boost::asio::posix::descriptor_base::wait_read, [this](boost::system::error_code error) {
    if (error || stopped_) return;
    drain();
    wait_for_tokens();
  });
}

void Signatures::drain() {
  if (datapath_.raw_tokens()->drain(offer_) != 0) wipe_soon();
}

void Signatures::wipe_soon() {
  if (std::exchange(wipe_pending_, true)) return;
  wipe_timer_.expires_after(kWipeDelay);
  wipe_timer_.async_wait([this](boost::system::error_code error) {
    if (error || stopped_) return;
    wipe_pending_ = false;
    bool more = false;
    Status wiped = datapath_.raw_tokens()->wipe([&](const casa_token_key& key, std::string_view token) {
      more = true;
      offer_(key, token);
    });
    kernel_problem_ = wiped ? "" : wiped.error().context;
    tell_problem();
    if (more) wipe_soon();
  });
}

Status Daemon::start_signatures() {
  datapath::RawTokens* raw = datapath_->raw_tokens();
  if (!config_.tokens.signature.enabled) {
    // What was found while it was on is not looked after any more.
    if (raw == nullptr) return {};
    TRY(raw->wipe([](const casa_token_key&, std::string_view) {}));
    return raw->forget_all();
  }
  tokens_.verified = raw != nullptr;
  if (raw == nullptr) {
    note_problem("signatures", "this kernel cannot read requests, so there are no tokens to check");
    return {};
  }
  signatures_ = std::make_unique<Signatures>(
      io_, config_.tokens.signature, *datapath_,
      Signatures::Hooks{[this](const jwt::Verdict& verdict) { on_signature(verdict); },
                        [this](const std::string& problem) { note_problem("signatures", problem); }});
  return signatures_->start();
}

// The verdict can be faster than the news of the sighting that it is about, which comes with the next round of the ring.
void Daemon::on_signature(const jwt::Verdict& verdict) {
  if (tracker_.ledger().find(verdict.sha256) != nullptr) return set_signature(verdict.sha256, verdict.signature);
  auto timer = std::make_shared<boost::asio::steady_timer>(io_, kSightingDelay);
  timer->async_wait([this, timer, sha256 = verdict.sha256, signature = verdict.signature](auto error) {
    if (!error) set_signature(sha256, signature);
  });
}

}  // namespace casa::app

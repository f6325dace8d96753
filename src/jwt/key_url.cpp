// A key set behind a URL: asked for again and again by one coroutine, which ends with stop().
#include <algorithm>
#include <boost/asio/as_tuple.hpp>
#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/cancellation_signal.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <exception>

#include "jwt/https.h"
#include "jwt/key_source.h"

namespace casa::jwt {
namespace {

namespace asio = boost::asio;
using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

constexpr auto kAwait = asio::as_tuple(asio::use_awaitable);

class KeyUrl final : public KeySource {
 public:
  KeyUrl(asio::io_context& io, const Location& location, OnKeys on_keys, OnProblem on_problem,
         const KeySourceOptions& options)
      : impl_(std::make_shared<Impl>(io, location, std::move(on_keys), std::move(on_problem), options)) {}
  ~KeyUrl() override { impl_->stop(); }

  void start() override {
    asio::co_spawn(impl_->io, Impl::run(impl_),
                   asio::bind_cancellation_slot(impl_->cancel.slot(), [](const std::exception_ptr&) {}));
  }
  void stop() override { impl_->stop(); }
  void ask_for_newer() override { impl_->ask_for_newer(); }
  void set_addresses(const std::vector<IpAddress>& addresses) override {
    bool first = impl_->addresses.empty() && !addresses.empty();
    impl_->addresses = addresses;
    if (first) impl_->hurry(Clock::now());
  }

 private:
  struct Impl : std::enable_shared_from_this<Impl> {
    Impl(asio::io_context& context, const Location& from, OnKeys keys, OnProblem problem, const KeySourceOptions& opts)
        : io(context),
          location(from),
          on_keys(std::move(keys)),
          on_problem(std::move(problem)),
          options(opts),
          timer(context),
          retry(opts.first_retry) {
      if (location.address) addresses = {*location.address};
      else if (!location.needs_name()) addresses = {*parse_ip("127.0.0.1"), *parse_ip("::1")};
    }

    static asio::awaitable<void> run(std::shared_ptr<Impl> self) {
      while (!self->stopped) {
        self->asked = Clock::now();
        self->next = self->asked + self->options.refresh;
        Result<std::string> answer = co_await get(self);
        if (self->stopped) co_return;
        self->take(std::move(answer));
        // What hurries the timer while it is waited for moves `next`, and ends the wait.
        while (!self->stopped && Clock::now() < self->next) {
          self->timer.expires_at(self->next);
          co_await self->timer.async_wait(kAwait);
        }
      }
    }

    // Whatever goes wrong inside one fetch is the end of that fetch only.
    static asio::awaitable<Result<std::string>> get(std::shared_ptr<Impl> self) {
      std::string thrown;
      try {
        Result<std::string> answer = co_await fetch(self->location, self->addresses, self->options.ca_file,
                                                    {self->options.timeout, kMaxKeySetBytes});
        co_return answer;
      } catch (const std::exception& error) {
        thrown = error.what();
      }
      co_return fail(ErrorCode::kInternal, "{}", thrown);
    }

    void take(Result<std::string> answer) {
      Result<KeySet> keys = answer ? parse_key_set(*answer) : std::unexpected(std::move(answer).error());
      if (!keys) {
        next = std::min(next, Clock::now() + retry);
        retry = std::min(retry * 2, std::max(options.refresh, options.first_retry));
        on_problem(fmt::format("cannot get the keys from {}: {}{}", to_string(location), keys.error().context,
                               good ? "; the keys that were read last are used on" : ""));
        return;
      }
      good = true;
      retry = options.first_retry;
      on_problem("");
      if (!stopped) on_keys(std::make_shared<const KeySet>(std::move(*keys)));
    }

    void hurry(Clock::time_point when) {
      if (when >= next) return;
      next = when;
      timer.cancel();
    }
    void ask_for_newer() { hurry(std::max(Clock::now(), asked + options.least_pause)); }

    void stop() {
      if (std::exchange(stopped, true)) return;
      timer.cancel();
      cancel.emit(asio::cancellation_type::terminal);
    }

    asio::io_context& io;
    const Location location;
    const OnKeys on_keys;
    const OnProblem on_problem;
    const KeySourceOptions options;
    asio::steady_timer timer;
    asio::cancellation_signal cancel;
    std::vector<IpAddress> addresses;
    Clock::time_point asked{}, next = Clock::time_point::max();
    milliseconds retry;
    bool good = false, stopped = false;
  };
  std::shared_ptr<Impl> impl_;  // shared with the coroutine
};

}  // namespace

std::unique_ptr<KeySource> make_key_url(asio::io_context& io, const Location& location, KeySource::OnKeys on_keys,
                                        KeySource::OnProblem on_problem, const KeySourceOptions& options) {
  return std::make_unique<KeyUrl>(io, location, std::move(on_keys), std::move(on_problem), options);
}

}  // namespace casa::jwt

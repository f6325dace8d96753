#include "source/kube_writer.h"

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <deque>
#include <exception>
#include <utility>

#include "source/kube_json.h"

namespace casa::source {
namespace {

namespace asio = boost::asio;

constexpr std::size_t kMaxAnswerBytes = 2u << 20;  // it repeats the object
constexpr unsigned kFirstFailure = 300, kNotThere = 404, kTooMany = 429;

}  // namespace

class KubeWriter::Impl : public std::enable_shared_from_this<Impl> {
 public:
  Impl(asio::io_context& io, KubeAccess access, KubeTimeouts timeouts)
      : io_(io),
        login_(std::make_shared<KubeLogin>(std::move(access), kTokenPeriod)),
        connection_(io, login_, timeouts) {}

  bool send(KubeRequest request, Done done) {
    if (stopped_ || waiting_.size() >= kMaxWaiting) return false;
    waiting_.emplace_back(std::move(request), std::move(done));
    if (!std::exchange(running_, true))
      asio::co_spawn(io_, run(shared_from_this()), [self = shared_from_this()](const std::exception_ptr& error) {
        // What a `done` threw is its owner's; the rest goes out with the next request.
        self->running_ = false;
        if (error) self->connection_.close();
      });
    return true;
  }

  void stop() {
    stopped_ = true;
    waiting_.clear();
    connection_.close();
  }

  [[nodiscard]] std::size_t waiting() const { return waiting_.size(); }
  KubeLogin& login() { return *login_; }

 private:
  static asio::awaitable<void> run(std::shared_ptr<Impl> self) {
    // co_spawn runs it at once; what fails without a wait (a file that cannot be read) is not to be told from within send().
    co_await asio::post(self->io_, asio::use_awaitable);
    while (!self->waiting_.empty()) {
      auto [request, done] = std::move(self->waiting_.front());
      self->waiting_.pop_front();
      Status outcome = co_await self->attempt(std::move(request));
      if (self->stopped_) co_return;
      done(outcome);
    }
  }

  // What is thrown (there is no memory) fails this request only.
  asio::awaitable<Status> attempt(KubeRequest request) {
    std::string thrown;
    try {
      Status outcome = co_await exchange(std::move(request));
      co_return outcome;
    } catch (const std::exception& error) {
      thrown = error.what();
    }
    connection_.close();
    co_return fail(ErrorCode::kInternal, "{}", thrown);
  }

  asio::awaitable<Status> exchange(KubeRequest request) {
    auto answer = co_await connection_.send(std::move(request));
    if (!answer) co_return std::unexpected(answer.error());
    // To its end, so that the connection can be used again.
    auto body = co_await connection_.read_all(kMaxAnswerBytes);
    if (!body) co_return std::unexpected(body.error());
    if (answer->status < kFirstFailure) co_return Status{};
    std::string why = json_.read_status(*body).message;
    ErrorCode code = answer->status == kNotThere  ? ErrorCode::kNotFound
                     : answer->status == kTooMany ? ErrorCode::kLimit
                                                  : ErrorCode::kSystem;
    co_return fail(code, "the API server answered {}{}{}", answer->status, why.empty() ? "" : ": ", why);
  }

  asio::io_context& io_;
  std::shared_ptr<KubeLogin> login_;
  KubeConnection connection_;
  KubeJson json_;
  std::deque<std::pair<KubeRequest, Done>> waiting_;
  bool running_ = false, stopped_ = false;
};

KubeWriter::KubeWriter(asio::io_context& io, KubeAccess access, KubeTimeouts timeouts)
    : impl_(std::make_shared<Impl>(io, std::move(access), timeouts)) {}
KubeWriter::~KubeWriter() { impl_->stop(); }

bool KubeWriter::send(KubeRequest request, Done done) { return impl_->send(std::move(request), std::move(done)); }
std::size_t KubeWriter::waiting() const { return impl_->waiting(); }
void KubeWriter::set_addresses(std::vector<IpAddress> addresses) { impl_->login().set_addresses(std::move(addresses)); }
void KubeWriter::stop() { impl_->stop(); }

}  // namespace casa::source

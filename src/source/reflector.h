// Keeps one resource of the API server known: a list, page by page, then a watch from there on, and a new list when the server no longer has what lies
// between (410). Whatever fails is tried again, with growing pauses; what is known stays known meanwhile. One coroutine, on
// the io_context's one thread.
#pragma once

#include <boost/asio/awaitable.hpp>
#include <boost/asio/steady_timer.hpp>
#include <chrono>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "source/json_split.h"
#include "source/kube_client.h"
#include "source/kube_json.h"
#include "source/kube_source.h"
#include "source/object_table.h"

namespace casa::source {

struct KubeResource {
  std::string name;                // for people: "pods of other nodes"
  std::vector<std::string> paths;  // the same objects in several versions of the API: the first that the server knows
  std::string fields;              // a field selector, or empty
  bool may_be_absent = false;      // servers without it are in order
};

// Hears from all reflectors.
class ReflectorListener {
 public:
  virtual ~ReflectorListener() = default;
  virtual void on_object(Document document) = 0;
  virtual void on_gone(const std::string& origin) = 0;
  // The reflector's state(), problem() or listed() may have changed.
  virtual void on_state() = 0;
  virtual void on_note(const std::string& text) = 0;
};

class Reflector {
 public:
  using Clock = std::chrono::steady_clock;
  using State = KubernetesResource::State;

  // All that is given must outlive run().
  Reflector(boost::asio::io_context& io, std::shared_ptr<KubeLogin> login, KubeResource resource, ObjectTable& table,
            ReflectorListener& listener, const KubernetesOptions& options);

  // Until stop(). Throws when there is no memory, or what the listener throws; take_exception() then sets it right for another run(), which
  // tells the listener again what it did not take.
  boost::asio::awaitable<void> run();
  void take_exception(const std::string& what);
  void stop();
  // The server has fallen silent: what is under way is given up, and tried anew.
  void drop(const std::string& why);
  // Not to wait any longer: something is known about the server that was not before.
  void hurry();

  [[nodiscard]] KubernetesResource describe() const;
  [[nodiscard]] State state() const { return state_; }
  // "cannot be reached: ...", of the server.
  [[nodiscard]] const std::string& problem() const { return problem_; }
  // Once completely, or known to be absent.
  [[nodiscard]] bool listed() const { return listed_; }
  // While a watch is open: when something last came from it.
  [[nodiscard]] std::optional<Clock::time_point> heard() const { return heard_; }

 private:
  enum class Outcome {
    kGood,
    kExpired,  // a list is needed
    kAbsent,   // the server does not know the resource
    kFailed,   // anything else; what is worth telling has been told
  };

  boost::asio::awaitable<Outcome> list();
  boost::asio::awaitable<Outcome> list_page(std::string& next, std::string& version);
  boost::asio::awaitable<Outcome> watch();
  boost::asio::awaitable<Outcome> check_version();
  boost::asio::awaitable<Outcome> open(const std::string& query, const char* verb);
  boost::asio::awaitable<void> pause(Outcome outcome);

  Outcome end_watch(bool broken, Clock::duration lasted);
  Outcome take_absence();
  Status take_item(std::string& text);
  Status take_event(std::string& line);
  void announce(const ObjectHead& head, std::string&& text);
  void announce_gone(const std::string& origin);
  void finish_list();
  void set(State state, std::string problem = {});
  Outcome fail_with(const std::string& what);
  [[nodiscard]] std::string target(const std::string& query) const;
  std::chrono::milliseconds random_part(std::chrono::milliseconds most);

  KubeConnection connection_;
  const KubeResource resource_;
  ObjectTable& table_;
  ReflectorListener& listener_;
  const KubernetesOptions& options_;
  const unsigned stream_;
  KubeJson json_;
  boost::asio::steady_timer timer_;
  std::minstd_rand random_;

  State state_ = State::kListing;
  std::string problem_;
  std::string fault_;       // of the watch: more than a connection that ended
  std::string version_;     // to watch from; empty: a list is needed
  std::size_t path_ = 0;    // which of the resource's
  std::size_t absent_ = 0;  // of them, one after the other
  bool pages_ = true;       // false: all in one answer, as the server forgot the rest of a list that came in pages
  bool unsure_ = false;     // the connection was lost: is it still the same history of versions?
  bool listed_ = false, noted_absent_ = false, pause_first_ = false, stopped_ = false;
  bool ended_by_event_ = false, expired_ = false;  // the watch: by an ERROR, by one of code 410
  std::size_t events_ = 0;                         // of the watch
  std::size_t expired_in_row_ = 0;                 // since a watch lived
  std::chrono::milliseconds retry_, retry_after_{0};
  std::optional<Clock::time_point> heard_;
};

}  // namespace casa::source

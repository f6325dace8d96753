// The queue between the event path and the thread that checks: a fixed number of places for tokens, in memory of their own that is locked
// (never on a swap device, where that is allowed) and left out of core dumps. A place is wiped before it is given back.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <string_view>

#include "jwt/key_set.h"
#include "jwt/verifier.h"

namespace casa::jwt {

struct Job {
  Sha256 sha256;
  std::shared_ptr<const KeySet> keys;
  std::uint64_t generation = 0;  // of the keys
  std::string_view token;        // in the room
};

class TokenRoom {
 public:
  explicit TokenRoom(std::size_t places);
  ~TokenRoom();
  TokenRoom(const TokenRoom&) = delete;
  TokenRoom& operator=(const TokenRoom&) = delete;

  // False when it is full or closed, or the token too long for a place.
  bool put(const Job& job);
  // Waits for a job, and wipes its token after `work`. False when the room is closed.
  bool take(const std::function<void(const Job&)>& work);
  // Wakes who waits; nothing is taken any more.
  void close();

 private:
  struct Place;
  const std::size_t count_;
  Place* places_ = nullptr;  // a mapping
  std::unique_ptr<Job[]> jobs_;
  std::mutex mutex_;
  std::condition_variable waiting_;
  std::size_t first_ = 0, used_ = 0;  // the first one is the one that is worked on
  bool closed_ = false;
};

}  // namespace casa::jwt

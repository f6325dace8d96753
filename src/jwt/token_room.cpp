#include "jwt/token_room.h"

#include <openssl/crypto.h>
#include <sys/mman.h>

#include <cstring>
#include <new>

namespace casa::jwt {

struct TokenRoom::Place {
  char bytes[kMaxTokenBytes];
};

TokenRoom::TokenRoom(std::size_t places) : count_(places), jobs_(std::make_unique<Job[]>(places)) {
  std::size_t bytes = count_ * sizeof(Place);
  void* mapping = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (mapping == MAP_FAILED) throw std::bad_alloc();
  places_ = static_cast<Place*>(mapping);
  // Each is as good as this system allows.
  (void)::madvise(mapping, bytes, MADV_DONTDUMP);
  (void)::madvise(mapping, bytes, MADV_DONTFORK);
  (void)::mlock(mapping, bytes);
}

TokenRoom::~TokenRoom() {
  OPENSSL_cleanse(places_, count_ * sizeof(Place));
  ::munmap(places_, count_ * sizeof(Place));
}

bool TokenRoom::put(const Job& job) {
  std::lock_guard lock(mutex_);
  if (closed_ || used_ == count_ || job.token.size() > sizeof(Place)) return false;
  std::size_t at = (first_ + used_) % count_;
  std::memcpy(places_[at].bytes, job.token.data(), job.token.size());
  jobs_[at] = job;
  jobs_[at].token = {places_[at].bytes, job.token.size()};
  ++used_;
  waiting_.notify_one();
  return true;
}

bool TokenRoom::take(const std::function<void(const Job&)>& work) {
  std::unique_lock lock(mutex_);
  waiting_.wait(lock, [this] { return closed_ || used_ != 0; });
  if (closed_) return false;
  std::size_t at = first_;
  lock.unlock();
  work(jobs_[at]);
  OPENSSL_cleanse(places_[at].bytes, jobs_[at].token.size());
  jobs_[at] = {};
  lock.lock();
  first_ = (first_ + 1) % count_;
  --used_;
  return true;
}

void TokenRoom::close() {
  std::lock_guard lock(mutex_);
  closed_ = true;
  waiting_.notify_all();
}

}  // namespace casa::jwt

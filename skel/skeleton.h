// Owns one generated BPF skeleton. Traits name the generated functions: open, load, destroy.
#pragma once

#include <utility>

namespace casa {

template <typename T, void (*Destroy)(T*)>
class Skeleton {
 public:
  Skeleton() = default;
  explicit Skeleton(T* skeleton) : skeleton_(skeleton) {}
  Skeleton(Skeleton&& other) noexcept : skeleton_(std::exchange(other.skeleton_, nullptr)) {}
  Skeleton& operator=(Skeleton&& other) noexcept {
    std::swap(skeleton_, other.skeleton_);
    return *this;
  }
  ~Skeleton() {
    if (skeleton_ != nullptr) Destroy(skeleton_);
  }
  T* get() const { return skeleton_; }
  T* operator->() const { return skeleton_; }
  explicit operator bool() const { return skeleton_ != nullptr; }

 private:
  T* skeleton_ = nullptr;
};

}  // namespace casa

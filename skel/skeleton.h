// Owns one generated BPF skeleton. T is the generated struct; its static members open, load and destroy do the work.
#pragma once

#include <utility>

namespace casa {

template <typename T>
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
    if (skeleton_ != nullptr) T::destroy(skeleton_);
  }
  T* get() const { return skeleton_; }
  T* operator->() const { return skeleton_; }
  explicit operator bool() const { return skeleton_ != nullptr; }

 private:
  T* skeleton_ = nullptr;
};

}  // namespace casa

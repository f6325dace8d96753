// Quantities of Kubernetes ("500m", "64Mi"), and how kubelet sorts a pod by those that its containers request: needed where
// a file says what a pod requests and no cluster has sorted it. Pure arithmetic.
#pragma once

#include <optional>
#include <string_view>

#include "policy/objects.h"

namespace casa::policy {

// Of the unit (cores, bytes); nullopt for what is no quantity, and for negative ones.
std::optional<double> parse_quantity(std::string_view text);

// 0: not given, which Kubernetes takes 0 for.
struct ContainerResources {
  double cpu_request = 0, memory_request = 0, cpu_limit = 0, memory_limit = 0;
  [[nodiscard]] bool any() const { return cpu_request + memory_request + cpu_limit + memory_limit > 0; }
};

class QosSum {
 public:
  void add(const ContainerResources& container);
  [[nodiscard]] QosClass result() const;  // kUnknown of no container

 private:
  bool seen_ = false, any_ = false, all_limited_ = true;
};

}  // namespace casa::policy

// What labels and annotations of an object say: casad's own ones, and whether a selector means it.
#pragma once

#include <algorithm>
#include <map>
#include <string>

#include "policy/objects.h"

namespace casa::identity {

// casa.io/enforcement: disabled. On a Pod its workload, on a Namespace all of it is exempt.
inline bool is_disabled(const policy::Meta& meta) {
  auto it = meta.annotations.find("casa.io/enforcement");
  return it != meta.annotations.end() && it->second == "disabled";
}

// casa.io/injection=enabled: the Namespace is under enforcement even without a policy.
inline bool is_mas_label(const policy::Meta& meta) {
  auto it = meta.labels.find("casa.io/injection");
  return it != meta.labels.end() && it->second == "enabled";
}

// Every label of `selector` is among `labels`.
inline bool selects(const std::map<std::string, std::string>& selector,
                    const std::map<std::string, std::string>& labels) {
  return std::ranges::all_of(selector, [&](const auto& wanted) {
    auto it = labels.find(wanted.first);
    return it != labels.end() && it->second == wanted.second;
  });
}

}  // namespace casa::identity

// Which fields of an API server's objects casad reads. A real Pod is a hundred times what is needed of it.
#pragma once

#include <span>
#include <string_view>

#include "policy/objects.h"

namespace casa::policy {

// A field, and which of the fields below it; none: all of them. A list stands for each of its entries.
struct Wanted {
  std::string_view name;
  std::span<const Wanted> below;

  // The wanted field of that name below this one, or null.
  [[nodiscard]] const Wanted* find(std::string_view field) const;
};

const Wanted& wanted_of(Kind kind);

}  // namespace casa::policy

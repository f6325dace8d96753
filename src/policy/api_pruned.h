// What a server's schema took out of a CASAPolicy: with CASA's own CRD installed, casad's optional fields are pruned before anybody sees
// them, and the policy would silently be less than its author wrote.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace casa::policy {

// Fields that `kubectl apply` was given, as its annotation says, and that the object's spec does not have: "spec.tokens". Nothing for objects
// that came in another way: nobody knows what they were then.
std::vector<std::string> pruned_fields(std::string_view bytes);

}  // namespace casa::policy

// Where a key set is: base/location.h, under the names that this room and its users write.
#pragma once

#include "base/location.h"

namespace casa::jwt {

using casa::Location;
using casa::parse_location;
using casa::to_string;

}  // namespace casa::jwt

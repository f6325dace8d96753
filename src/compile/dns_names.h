// Which DNS names a workload's policy needs: a Service in every form that a client may write or a stub resolver's search list may
// make of it, and each of an FQDN's search-list forms, since a stub asks for those first. Pure.
#pragma once

#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "casa/abi/limits.h"
#include "compile/map_image.h"
#include "identity/snapshot.h"

namespace casa::compile {

// What the kernel can read of a name (casa/abi/limits.h): on the wire it is two bytes longer, and of those the programs look at one fewer
// than CASA_NAME_LEN, lest a length that they compute passes the end of what they read into.
inline constexpr std::size_t kMaxNameLength = CASA_NAME_LEN - 3;

// The names of a Service, and those of `from`'s search list.
std::set<std::string> service_names(const identity::DnsFacts& dns, const policy::NamespacedName& service,
                                    const std::string& from_namespace);
// What a stub resolver of a workload in `from_namespace` may ask on the way to `fqdn`, without `fqdn` itself.
std::set<std::string> search_forms(const identity::DnsFacts& dns, std::string_view fqdn,
                                   const std::string& from_namespace);
// A name that `subject` needs, with what casa_name holds of it (casa/abi/policy.h).
void need_name(MapImage& image, std::uint32_t subject, const std::string& name, std::uint32_t payload);
// All names of a Service. Only what stands in DNS: a workload that stands for a Service has no name there.
void need_service(MapImage& image, const identity::DnsFacts& dns, std::uint32_t subject,
                  const std::string& from_namespace, const identity::ServiceInfo& service);
// 4.3.2.1.in-addr.arpa, and the nibbles of an IPv6 address under ip6.arpa.
std::string reverse_name(const IpAddress& ip);

}  // namespace casa::compile

// The rules for names, one function each. Every check returns an empty string for a good value, else what is wrong with
// it and what to write instead ("<what>; <advice>"). Pure functions over text: they know no field, no file and no place, and
// take any bytes.
#pragma once

#include <string>
#include <string_view>

namespace casa::policy {

// Kubernetes: "my-app.v2", at most 253 characters.
std::string check_subdomain(std::string_view name);
// Kubernetes (RFC 1123): "team-a", at most 63.
std::string check_label_name(std::string_view name);
// A Service's name (RFC 1035): as a label, beginning with a letter.
std::string check_service_name(std::string_view name);
// A named port: lower-case letters, digits and '-', at most 15, one letter at least.
std::string check_port_name(std::string_view name);
// A label's or annotation's key, "casa.io/cgroup".
std::string check_key(std::string_view key);
std::string check_label_value(std::string_view value);
// A Pod's uid: letters, digits and '-', at most 64. It becomes a part of a cgroup's path.
std::string check_uid(std::string_view uid);
// The path of annotation casa.io/cgroup.
std::string check_cgroup_path(std::string_view path);

// A public host name by RFC 1123 with two labels or more. `out` becomes its lower-case form without the trailing dot.
std::string check_fqdn(std::string_view text, std::string& out);
// A host in a URL or a Service's externalName: one label is enough, and an address is none.
std::string check_host(std::string_view text, std::string& out);

}  // namespace casa::policy

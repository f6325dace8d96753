#include "compile/dns_names.h"

#include <fmt/format.h>

#include <ranges>

namespace casa::compile {
namespace {

// The node's own search list, and what Kubernetes writes into a pod's.
std::vector<std::string> suffixes(const identity::DnsFacts& dns, const std::string& ns) {
  std::vector<std::string> found = dns.search;
  found.push_back(fmt::format("{}.svc.{}", ns, dns.cluster_domain));
  found.push_back(fmt::format("svc.{}", dns.cluster_domain));
  found.push_back(dns.cluster_domain);
  return found;
}

void add(std::set<std::string>& names, std::string name) {
  if (name.size() <= kMaxNameLength) names.insert(std::move(name));
}

}  // namespace

std::set<std::string> search_forms(const identity::DnsFacts& dns, std::string_view fqdn, const std::string& ns) {
  std::set<std::string> names;
  for (const auto& suffix : suffixes(dns, ns)) add(names, fmt::format("{}.{}", fqdn, suffix));
  return names;
}

std::set<std::string> service_names(const identity::DnsFacts& dns, const policy::NamespacedName& service,
                                    const std::string& ns) {
  std::string with_ns = fmt::format("{}.{}", service.name, service.ns);
  std::set<std::string> written = {with_ns, with_ns + ".svc", fmt::format("{}.svc.{}", with_ns, dns.cluster_domain)};
  if (service.ns == ns) written.insert(service.name);
  std::set<std::string> names;
  for (const auto& name : written) {
    add(names, name);
    names.merge(search_forms(dns, name, ns));
  }
  return names;
}

std::string reverse_name(const IpAddress& ip) {
  const auto& b = ip.bytes;
  if (ip.is_v4()) return fmt::format("{}.{}.{}.{}.in-addr.arpa", b[15], b[14], b[13], b[12]);
  std::string name;
  for (auto byte : std::views::reverse(b)) name += fmt::format("{:x}.{:x}.", byte & 0xf, byte >> 4);
  return name + "ip6.arpa";
}

void need_name(MapImage& image, std::uint32_t subject, const std::string& name, std::uint32_t payload) {
  std::uint32_t& known = image.names[{subject, name}];
  // A name that teaches is asked for as well, never the other way round.
  if (!(known & CASA_NAME_LEARN)) known = payload;
}

void need_service(MapImage& image, const identity::DnsFacts& dns, std::uint32_t subject,
                  const std::string& from_namespace, const identity::ServiceInfo& service) {
  if (!dns.inspected) return;
  for (const auto& name : service_names(dns, service.name, from_namespace))
    need_name(image, subject, name, CASA_NAME_ASK);
  for (const auto& ip : service.cluster_ips) need_name(image, subject, reverse_name(ip), CASA_NAME_REVERSE);
}

}  // namespace casa::compile

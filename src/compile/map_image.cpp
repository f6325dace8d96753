#include "compile/map_image.h"

#include <fmt/format.h>
#include <openssl/evp.h>

#include <array>
#include <memory>

namespace casa::compile {
namespace {

void append_policy_text(std::string& out, const MapImage& image) {
  for (const auto& [key, payload] : image.policy)
    out += fmt::format("policy {} {} {} {} {} {:#x}\n", key.subject, key.peer,
                       key.direction == CASA_EGRESS ? "egress" : "ingress", key.protocol, key.port, payload);
  for (const auto& [path, payload] : image.cgroup_paths) out += fmt::format("cgroup {} {:#x}\n", path, payload);
  for (const auto& [subject, flags] : image.subjects) out += fmt::format("subject {} {:#x}\n", subject, flags);
  for (const auto& [ip, identity] : image.addresses)
    out += fmt::format("address {} {}\n", to_string(ip), identity & ~CASA_ADDR_HERE);
  for (const auto& [prefix, identity] : image.prefixes)
    out += fmt::format("prefix {} {}\n", to_string(prefix), identity);
  for (const auto& [key, payload] : image.names)
    out += fmt::format("name {} {} {:#x}\n", key.subject, key.name, payload);
  for (const auto& [resolver, payload] : image.resolvers)
    out += fmt::format("resolver {}\n", with_port(resolver.address, resolver.port));
}

}  // namespace

bool Touched::empty() const { return !others && addresses.empty() && cgroup_paths.empty() && cgroups.empty(); }

std::string to_text(const MapImage& image) {
  std::string out;
  append_policy_text(out, image);
  for (const auto& [id, payload] : image.cgroups) out += fmt::format("cgroup-id {} {:#x}\n", id, payload);
  return out;
}

std::string digest(const MapImage& image) {
  std::string text;
  append_policy_text(text, image);
  std::array<unsigned char, EVP_MAX_MD_SIZE> hash{};
  unsigned length = 0;
  EVP_Digest(text.data(), text.size(), hash.data(), &length, EVP_sha256(), nullptr);
  std::string hex;
  for (unsigned i = 0; i < length; ++i) hex += fmt::format("{:02x}", hash[i]);
  return hex;
}

}  // namespace casa::compile

#include "app/unjudged.h"

#include <dirent.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>

#include <map>
#include <memory>
#include <set>
#include <tuple>

namespace casa::app {
namespace {

constexpr unsigned kMaxDepth = 32;  // cgroups that an agent nests below its own
using EndsKey = std::tuple<IpAddress, std::uint16_t, IpAddress, std::uint16_t>;

EndsKey key_of(const datapath::TcpEnds& e) { return {e.local, e.local_port, e.remote, e.remote_port}; }
EndsKey other_side(const datapath::TcpEnds& e) { return {e.remote, e.remote_port, e.local, e.local_port}; }

// `slice`: what is not declared itself stays with the slice, and what is takes over.
void walk(const std::string& path, std::uint32_t subject, bool in_slice, const compile::MapImage& image, unsigned depth,
          std::unordered_map<std::uint64_t, std::uint32_t>& found) {
  struct stat st{};
  if (depth > kMaxDepth || ::stat(path.c_str(), &st) != 0) return;
  auto declared = image.cgroups.find(st.st_ino);
  if (declared != image.cgroups.end() && (subject == CASA_ID_NONE || in_slice)) {
    subject = declared->second & ~CASA_CGROUP_SLICE;
    in_slice = (declared->second & CASA_CGROUP_SLICE) != 0;
  }
  found[st.st_ino] = subject;
  std::unique_ptr<DIR, int (*)(DIR*)> dir(::opendir(path.c_str()), ::closedir);
  if (!dir) return;
  while (const dirent* entry = ::readdir(dir.get())) {
    std::string name = entry->d_name;
    if (entry->d_type == DT_DIR && name != "." && name != "..")
      walk(fmt::format("{}/{}", path, name), subject, in_slice, image, depth + 1, found);
  }
}

}  // namespace

std::unordered_map<std::uint64_t, std::uint32_t> subjects_of_cgroups(const identity::CgroupMount& mount,
                                                                     const identity::Snapshot& snapshot,
                                                                     const compile::MapImage& image) {
  std::unordered_map<std::uint64_t, std::uint32_t> found;
  // Shorter paths first, so that an outer declared cgroup is walked, its inner ones with it, before they are met again.
  std::set<std::pair<std::size_t, std::string>> starts;
  for (const auto& [name, w] : snapshot.workloads)
    for (const auto& instance : w.instances) starts.emplace(instance.path.size(), instance.path);
  for (const auto& [ns, mas] : snapshot.mas_namespaces)
    for (const auto& instance : mas.instances) starts.emplace(instance.path.size(), instance.path);
  for (const auto& [length, path] : starts) {
    struct stat st{};
    std::string full = mount.root + "/" + path;
    if (::stat(full.c_str(), &st) == 0 && !found.contains(st.st_ino)) walk(full, CASA_ID_NONE, false, image, 0, found);
  }
  return found;
}

std::vector<RefusedConnection> find_refused(const std::vector<datapath::TcpSocket>& sockets,
                                            const std::unordered_map<std::uint64_t, std::uint32_t>& subjects,
                                            const compile::MapImage& image,
                                            const std::set<std::pair<std::uint32_t, IpAddress>>& named) {
  std::map<EndsKey, const datapath::TcpSocket*> by_ends;
  std::set<std::uint16_t> listening;
  for (const auto& socket : sockets) {
    if (socket.listening) listening.insert(socket.ends.local_port);
    else by_ends.emplace(key_of(socket.ends), &socket);
  }
  auto subject_of = [&](const datapath::TcpSocket& socket) {
    auto it = subjects.find(socket.cgroup_id);
    return it == subjects.end() ? std::uint32_t{CASA_ID_NONE} : it->second;
  };
  std::vector<RefusedConnection> refused;
  for (const auto& socket : sockets) {
    std::uint32_t subject = socket.listening ? CASA_ID_NONE : subject_of(socket);
    if (subject == CASA_ID_NONE) continue;
    compile::Question q;
    q.subject = subject;
    q.protocol = static_cast<std::uint8_t>(policy::Protocol::kTcp);
    q.direction = listening.contains(socket.ends.local_port) ? CASA_INGRESS : CASA_EGRESS;
    q.port = q.direction == CASA_INGRESS ? socket.ends.local_port : socket.ends.remote_port;
    auto peer = by_ends.find(other_side(socket.ends));
    q.same_host = peer != by_ends.end();
    std::uint32_t local_peer = q.same_host ? subject_of(*peer->second) : 0u;
    q.peer = q.same_host ? (local_peer != CASA_ID_NONE ? local_peer : std::uint32_t{CASA_ID_HOST})
                         : compile::identity_of(image, socket.ends.remote);
    // As the kernel has it: whoever of this host holds a trusted resolver's port is the resolver, unless it is a workload.
    if (q.direction == CASA_EGRESS && local_peer == CASA_ID_NONE &&
        image.resolvers.contains({socket.ends.remote, q.port}))
      q.peer = CASA_ID_DNS;
    // On this host, but its socket is not in the list: the next packet will tell.
    if (!q.same_host && (socket.ends.remote.is_loopback() || q.peer == CASA_ID_HOST)) continue;
    if (!q.same_host && q.direction == CASA_EGRESS && named.contains({subject, socket.ends.remote})) continue;
    compile::Decision decision = compile::decide(image, q);
    if (decision.verdict == CASA_DENIED) refused.push_back({socket, q, decision});
  }
  return refused;
}

}  // namespace casa::app

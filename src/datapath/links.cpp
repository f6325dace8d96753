#include "datapath/links.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstring>
#include <thread>

#include "base/fd.h"

namespace casa::datapath {
namespace {

struct LinkCloser {
  void operator()(bpf_link* link) const {
    if (link == nullptr) return;
    bpf_link__disconnect(link);  // closing our descriptor must not detach what is pinned
    bpf_link__destroy(link);
  }
};
using Link = std::unique_ptr<bpf_link, LinkCloser>;

std::uint64_t cgroup_of_link(int fd) {
  bpf_link_info info{};
  std::uint32_t length = sizeof info;
  if (bpf_obj_get_info_by_fd(fd, &info, &length) != 0 || info.type != BPF_LINK_TYPE_CGROUP) return 0;
  return info.cgroup.cgroup_id;
}

// Updates the pinned link in place. False when there is none that can be: then a new one is to be made.
Result<bool> update_pinned(bpf_program* program, const std::string& path, std::uint64_t cgroup_id) {
  if (::access(path.c_str(), F_OK) != 0) return false;
  Link link(bpf_link__open(path.c_str()));
  if (!link) return false;
  if (cgroup_id != 0 && cgroup_of_link(bpf_link__fd(link.get())) != cgroup_id) return false;
  int err = bpf_link__update_program(link.get(), program);
  if (err == 0) return true;
  // ENOLINK: its cgroup is gone. EINVAL, EOPNOTSUPP: a tracing link, which the kernel cannot update.
  if (err == -ENOLINK || err == -EINVAL || err == -EOPNOTSUPP || err == -ENOTSUP) return false;
  return fail_errno(err, "cannot renew the program of link {}", path);
}

// The new link is pinned beside and renamed over the old one: both are attached for a moment, never none.
Status pin_new(bpf_link* made, bpf_program* program, const std::string& path) {
  if (made == nullptr) return fail_errno(errno, "cannot attach {}", bpf_program__name(program));
  std::string next = path + "_next";
  ::unlink(next.c_str());
  int err = bpf_link__pin(made, next.c_str());
  if (err == 0) {
    // bpffs renames only onto nothing, so the old pin goes between; its link lives in `old` until the new one is in place.
    Link old(bpf_link__open(path.c_str()));
    ::unlink(path.c_str());
    err = ::rename(next.c_str(), path.c_str()) == 0 ? 0 : -errno;
  }
  bpf_link__disconnect(made);
  bpf_link__destroy(made);
  if (err != 0) return fail_errno(err, "cannot pin the link {}", path);
  return {};
}

}  // namespace

Status attach_enforce(const EnforceObject& enforce, const std::string& root, const std::string& link_dir,
                      std::chrono::milliseconds listen) {
  Fd cgroup(::open(root.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!cgroup) return fail_errno(errno, "cannot open the enforcement root {}", root);
  struct stat st{};
  if (::fstat(cgroup.get(), &st) != 0) return fail_errno(errno, "cannot look at {}", root);
  auto attach = [&](bpf_program* program) -> Status {
    std::string path = link_dir + "/" + bpf_program__name(program);
    TRY_ASSIGN(bool updated, update_pinned(program, path, st.st_ino));
    if (updated) return {};
    return pin_new(bpf_program__attach_cgroup(program, cgroup.get()), program, path);
  };
  TRY(attach(enforce->progs.casa_ingress));
  std::this_thread::sleep_for(listen);
  bpf_program* program = nullptr;
  bpf_object__for_each_program(program, enforce->obj) {
    if (program != enforce->progs.casa_ingress) TRY(attach(program));
  }
  return {};
}

Status attach_cgroup_watch(const WatchObject& watch, const std::string& link_dir) {
  bpf_program* program = nullptr;
  bpf_object__for_each_program(program, watch->obj)
      TRY(pin_new(bpf_program__attach(program), program, link_dir + "/" + bpf_program__name(program)));
  return {};
}

bool has_live_links(const std::string& link_dir) {
  Fd link(bpf_obj_get((link_dir + "/casa_egress").c_str()));
  return link && cgroup_of_link(link.get()) != 0;
}

bool has_links_elsewhere(const std::string& link_dir, const std::string& root) {
  Fd link(bpf_obj_get((link_dir + "/casa_egress").c_str()));
  struct stat st{};
  return link && ::stat(root.c_str(), &st) == 0 && cgroup_of_link(link.get()) != st.st_ino;
}

}  // namespace casa::datapath

// What the kernel's share of one change costs: a generation brought in with all rows compared, or only those that the change touched. In a bpf
// file system that goes with this process; nothing is attached. Usage: commit_bench [ADDRESSES...]. Prints the median in us of each.
// Needs root.
#include <fmt/format.h>
#include <sched.h>
#include <sys/mount.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "datapath/datapath.h"

namespace {

using casa::compile::MapImage;
using casa::compile::Touched;
using casa::datapath::Datapath;

constexpr unsigned kRounds = 101;

casa::IpAddress address(unsigned i) {
  return *casa::parse_ip(fmt::format("10.{}.{}.{}", i >> 16, i >> 8 & 255, i & 255));
}

// Two rows of the policy and 30 Pods of this node for each 1,000 addresses.
MapImage image_of(unsigned addresses) {
  MapImage image;
  for (unsigned i = 0; i < addresses; ++i) image.addresses[address(i)] = 1000 + i / 20;
  for (std::uint32_t i = 0; i < addresses / 500; ++i) image.policy[{1000, 1001 + i, CASA_EGRESS, 6, 8080}] = 1;
  for (unsigned i = 0; i < 30; ++i) {
    image.cgroup_paths[fmt::format("kubepods.slice/kubepods-pod{:032}.slice", i)] = 1000 + i;
    image.cgroups[100000 + i] = 1000 + i;
    image.subjects[1000 + i] = CASA_SUBJECT_MANAGED;
  }
  return image;
}

// `step` makes the change that is to be committed, and returns what commits it.
void measure(const char* what, unsigned addresses, const std::function<std::function<casa::Result<bool>()>()>& step) {
  std::vector<double> us;
  for (unsigned round = 0; round < kRounds; ++round) {
    auto commit = step();
    auto start = std::chrono::steady_clock::now();
    if (auto done = commit(); !done) {
      fmt::print(stderr, "{}\n", done.error().context);
      std::exit(1);
    }
    us.push_back(std::chrono::duration<double, std::micro>(std::chrono::steady_clock::now() - start).count());
  }
  std::ranges::sort(us);
  fmt::print("{} addresses, {}: {:.1f} us (p99 {:.1f})\n", addresses, what, us[us.size() / 2],
             us[us.size() * 99 / 100]);
}

casa::Status run(const std::string& dir, unsigned addresses) {
  casa::datapath::Options options;
  options.bpffs = dir;
  options.mount.root = "/sys/fs/cgroup";
  TRY_ASSIGN(auto datapath, Datapath::open(options));
  MapImage image = image_of(addresses);
  TRY(datapath->commit(image));
  auto flip = [&](unsigned i) {
    image.addresses[address(i)] ^= 1;
    return address(i);
  };
  unsigned next = 0;
  measure("all compared, nothing differs", addresses, [&] { return [&] { return datapath->commit(image); }; });
  measure("all compared, one address differs", addresses, [&] {
    flip(next++ * 7 % addresses);
    return [&] { return datapath->commit(image); };
  });
  Touched touched;
  measure("one address touched", addresses, [&] {
    touched.addresses = {flip(next++ * 7 % addresses)};
    return [&] { return datapath->commit(image, touched); };
  });
  measure("a Pod of this node touched: address, path and cgroup", addresses, [&] {
    unsigned i = ++next;
    auto path = fmt::format("kubepods.slice/kubepods-new{:032}.slice", i);
    auto ip = address(addresses + i);
    touched = {{ip}, {path}, {200000 + i}, false};
    image.addresses[ip] = image.cgroup_paths[path] = image.cgroups[200000 + i] = 1000;
    return [&] { return datapath->commit(image, touched); };
  });
  return {};
}

}  // namespace

int main(int argc, char** argv) {
  std::vector<unsigned> sizes;
  for (int i = 1; i < argc; ++i) {
    std::string_view text = argv[i];
    std::from_chars(text.data(), text.data() + text.size(), sizes.emplace_back());
  }
  if (sizes.empty()) sizes = {1000, 10000, 100000};
  std::string dir = (std::filesystem::temp_directory_path() / "casa-bench-XXXXXX").string();
  if (::unshare(CLONE_NEWNS) != 0 || ::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0 ||
      ::mkdtemp(dir.data()) == nullptr || ::mount("bpf", dir.c_str(), "bpf", 0, nullptr) != 0) {
    std::perror("commit_bench: cannot make a bpf file system of its own");
    return 1;
  }
  casa::Status done;
  for (unsigned size : sizes)
    if (done) done = run(fmt::format("{}/{}", dir, size), size);
  if (!done) fmt::print(stderr, "{}\n", done.error().context);
  ::umount2(dir.c_str(), MNT_DETACH);
  ::rmdir(dir.c_str());
  return done ? 0 : 1;
}

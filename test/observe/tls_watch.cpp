// The TLS observers without a daemon around them: tls_watch BPFFS CGROUP_ROOT LINGER_MS [IDENTITY=PATH:KINDS]... enters the workloads
// (cgroups below the root; KINDS 0: known, not observed) into the kernel, observes them, and prints a line of JSON for each sighting and
// for each change of what is observed, until its input ends.
#include <sys/stat.h>
#include <unistd.h>

#include <boost/asio/io_context.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/steady_timer.hpp>

#include <algorithm>
#include <charconv>
#include <cstdio>
#include <span>
#include <string>

#include "app/tls_observers.h"
#include "datapath/datapath.h"
#include "identity/cgroups.h"

namespace {

using casa::app::TlsObservers;

struct Workload {
  std::uint32_t identity = 0, kinds = 0;
  std::string path;
};

Workload parse_workload(std::string_view text) {
  Workload w;
  auto equals = text.find('='), colon = text.rfind(':');
  std::from_chars(text.data(), text.data() + equals, w.identity);
  std::from_chars(text.data() + colon + 1, text.data() + text.size(), w.kinds);
  w.path = text.substr(equals + 1, colon - equals - 1);
  return w;
}

void print_sighting(const casa_token_event& token) {
  std::string hash;
  for (unsigned char byte : token.sha256) hash += fmt::format("{:02x}", byte);
  const casa_event& e = token.event;
  fmt::print(
      "{{\"kind\":{},\"subject\":{},\"pid\":{},\"comm\":\"{}\",\"instance\":{},\"direction\":{},\"verdict\":{},"
      "\"sha256\":\"{}\","
      "\"length\":{},\"request\":{},\"shape\":{},\"flags\":{},\"app\":{},\"via\":{},\"unread\":{},\"method\":\"{:.{}}"
      "\","
      "\"path\":\"{:.{}}\"}}\n",
      e.kind, e.subject, e.pid, e.comm, token.instance, e.direction, e.verdict, hash, token.length, token.request,
      token.shape, token.flags, token.app, token.via, token.unread, token.method, CASA_METHOD_LEN, token.path,
      CASA_PATH_LEN);
  std::fflush(stdout);
}

class Watch {
 public:
  Watch(casa::datapath::Datapath& datapath, std::chrono::milliseconds linger)
      : datapath_(datapath),
        observers_(
            io_, datapath,
            [](const std::string& key, std::string problem) {
              if (!problem.empty()) fmt::print(stderr, "{}: {}\n", key, problem);
            },
            linger),
        timer_(io_),
        input_(io_, ::dup(STDIN_FILENO)) {}

  void run(std::map<std::uint32_t, TlsObservers::Wish> wishes) {
    observers_.wish(std::move(wishes));
    input_.async_wait(boost::asio::posix::descriptor_base::wait_read, [this](auto) { io_.stop(); });
    fmt::print("{{\"ready\":true}}\n");
    drain();
    io_.run();
  }

 private:
  void drain() {
    datapath_.drain(4096, [this](const casa::datapath::Datapath::Record& record) {
      if (record.event.kind == CASA_EVENT_PROCESS) observers_.on_process(record.event);
      if (record.token != nullptr) print_sighting(*record.token);
    });
    auto now = observers_.observed();
    if (now != seen_)
      fmt::print("{{\"processes\":{},\"files\":{},\"probes\":{}}}\n", now.processes, now.files, now.probes);
    seen_ = now;
    std::fflush(stdout);
    timer_.expires_after(std::chrono::milliseconds{10});
    timer_.async_wait([this](auto error) {
      if (!error) drain();
    });
  }

  boost::asio::io_context io_;
  casa::datapath::Datapath& datapath_;
  TlsObservers observers_;
  boost::asio::steady_timer timer_;
  boost::asio::posix::stream_descriptor input_;
  TlsObservers::Observed seen_{1, 1, 1};
};

casa::Status run(std::span<char*> arguments) {
  TRY_ASSIGN(auto mount, casa::identity::find_cgroup_mount(arguments[2]));
  TRY_ASSIGN(auto datapath, casa::datapath::Datapath::open({arguments[1], mount, {}}));
  casa::compile::MapImage image;
  std::map<std::uint32_t, TlsObservers::Wish> wishes;
  for (const char* text : arguments.subspan(4)) {
    Workload w = parse_workload(text);
    struct stat st{};
    std::string dir = mount.root + "/" + w.path;
    if (::stat(dir.c_str(), &st) != 0) return casa::fail_errno(errno, "{}", dir);
    image.cgroups.emplace(st.st_ino, w.identity);
    image.subjects.emplace(w.identity, CASA_SUBJECT_MANAGED);
    image.level_max = std::max(image.level_max, static_cast<unsigned>(std::ranges::count(w.path, '/')) + 1);
    if (w.kinds != 0) wishes[w.identity] = {w.kinds, {dir}};
  }
  TRY(datapath->commit(image));
  Watch(*datapath, std::chrono::milliseconds{std::stoi(arguments[3])}).run(std::move(wishes));
  return {};
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 5) return 2;
  casa::Status done = run({argv, static_cast<std::size_t>(argc)});
  if (!done) fmt::print(stderr, "{}\n", done.error().context);
  return done ? 0 : 1;
}

// The watch on a real resolv.conf with real inotify: the ways in which it is replaced, and its absence.
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "dns/resolv_conf_watch.h"
#include "dns_harness.h"

namespace casa::dns::test {
namespace {

namespace fs = std::filesystem;

struct WatchFixture {
  WatchFixture() {
    std::string pattern = (fs::temp_directory_path() / "casad-dns-XXXXXX").string();
    top = mkdtemp(pattern.data());
    options.quiet = 20ms;
    options.settle = 200ms;
    options.period = 1h;
    options.away = 1h;
    fs::create_directory(top / "etc");
  }
  ~WatchFixture() { fs::remove_all(top); }
  WatchFixture(const WatchFixture&) = delete;

  static void write(const fs::path& path, const std::string& server) {
    std::ofstream(path, std::ios::trunc) << (server.empty() ? "" : "nameserver " + server + "\n");
  }
  static void replace(const fs::path& path, const std::string& server) {
    write(path.string() + ".new", server);
    fs::rename(path.string() + ".new", path);
  }
  static void link(const fs::path& target, const fs::path& path) {
    fs::remove(path.string() + ".new");
    fs::create_symlink(target, path.string() + ".new");
    fs::rename(path.string() + ".new", path);
  }
  void start() {
    watch = std::make_unique<ResolvConfWatch>(
        io, file.string(),
        [this](const ResolvConf& conf) {
          heard.push_back(conf.nameservers.empty() ? "none" : to_string(conf.nameservers.front()));
          if (at_change) at_change();
        },
        [this](const std::string& text) { problems.push_back(text); }, options);
    REQUIRE(watch->start().has_value());
  }
  // The next news, or nothing within the time.
  std::string next(std::chrono::milliseconds most = 3s) {
    return casa::test::run_until(io, [&] { return heard.size() > taken; }, most) ? heard[taken++] : "";
  }

  fs::path top, file = "";
  boost::asio::io_context io;
  ResolvConfWatchOptions options;
  std::vector<std::string> heard, problems;
  std::size_t taken = 0;
  std::function<void()> at_change;
  std::unique_ptr<ResolvConfWatch> watch;
};

}  // namespace

TEST_CASE("a plain file: written, renamed into place, touched") {
  WatchFixture f;
  f.file = f.top / "etc/resolv.conf";
  f.write(f.file, "10.0.0.1");
  f.start();
  CHECK(f.next() == "10.0.0.1");
  f.write(f.file, "10.0.0.2");
  CHECK(f.next() == "10.0.0.2");
  f.replace(f.file, "10.0.0.3");
  CHECK(f.next() == "10.0.0.3");
  f.replace(f.file, "10.0.0.3");
  f.write(f.top / "etc/hosts", "10.0.0.9");
  CHECK(f.next(200ms).empty());
  CHECK(f.problems.empty());
}

TEST_CASE("a link to a file elsewhere: the file is replaced, the link is swapped") {
  WatchFixture f;
  fs::create_directories(f.top / "run/resolve");
  fs::create_directories(f.top / "run/other");
  f.file = f.top / "etc/resolv.conf";
  f.write(f.top / "run/resolve/stub.conf", "10.0.0.1");
  f.write(f.top / "run/other/resolv.conf", "10.0.0.3");
  f.link("../run/resolve/stub.conf", f.file);
  f.start();
  CHECK(f.next() == "10.0.0.1");
  f.replace(f.top / "run/resolve/stub.conf", "10.0.0.2");
  CHECK(f.next() == "10.0.0.2");
  f.link(f.top / "run/other/resolv.conf", f.file);
  CHECK(f.next() == "10.0.0.3");
  f.write(f.top / "run/other/resolv.conf", "10.0.0.4");
  CHECK(f.next() == "10.0.0.4");
  f.replace(f.top / "run/resolve/stub.conf", "10.0.0.5");  // nobody's any more
  CHECK(f.next(200ms).empty());
}

TEST_CASE("a Kubernetes volume: the directory behind the link is swapped") {
  WatchFixture f;
  auto generation = [&](const std::string& name, const std::string& server) {
    fs::create_directory(f.top / "etc" / name);
    f.write(f.top / "etc" / name / "resolv.conf", server);
    f.link(name, f.top / "etc/..data");
  };
  f.file = f.top / "etc/resolv.conf";
  generation("..1", "10.0.0.1");
  fs::create_symlink("..data/resolv.conf", f.file);
  f.start();
  CHECK(f.next() == "10.0.0.1");
  generation("..2", "10.0.0.2");
  fs::remove_all(f.top / "etc/..1");
  CHECK(f.next() == "10.0.0.2");
  generation("..3", "10.0.0.3");
  CHECK(f.next() == "10.0.0.3");
}

TEST_CASE("a file that vanishes keeps what it said, and says so once") {
  WatchFixture f;
  f.file = f.top / "etc/resolv.conf";
  f.write(f.file, "10.0.0.1");
  f.start();
  CHECK(f.next() == "10.0.0.1");
  fs::remove(f.file);
  CHECK(f.next(200ms).empty());
  REQUIRE(f.problems.size() == 1);
  CHECK(f.problems[0] ==
        fmt::format("cannot read {}: No such file or directory; what it said before holds", f.file.string()));
  SECTION("it returns as it was") {
    f.write(f.file, "10.0.0.1");
    CHECK(f.next(200ms).empty());
  }
  SECTION("it returns as another") {
    f.replace(f.file, "10.0.0.2");
    CHECK(f.next() == "10.0.0.2");
  }
  REQUIRE(f.problems.size() == 2);
  CHECK(f.problems[1].empty());
}

TEST_CASE("what is not there at start, or is no file, is a problem until it is there") {
  WatchFixture f;
  f.file = f.top / "etc/resolv.conf";
  f.options.away = 50ms;
  SECTION("no directory") { f.file = f.top / "later/resolv.conf"; }
  SECTION("no file") {}
  SECTION("a FIFO, which would block") { REQUIRE(mkfifo(f.file.c_str(), 0600) == 0); }
  SECTION("a link that leads nowhere") { f.link("../run/resolve/stub.conf", f.file); }
  SECTION("links in a circle") { f.link("resolv.conf", f.file); }
  SECTION("a file without end") { std::ofstream(f.file) << std::string(kMaxResolvConfBytes + 1, '\n'); }
  f.start();
  CHECK(f.next(200ms).empty());
  REQUIRE(f.problems.size() == 1);
  CHECK(f.problems[0].find(f.file.string()) != std::string::npos);
  fs::create_directory(f.top / "later");
  f.replace(f.file, "10.0.0.1");
  CHECK(f.next() == "10.0.0.1");
  CHECK(f.problems.back().empty());
}

TEST_CASE("a file that is emptied counts only when it stays so") {
  WatchFixture f;
  f.file = f.top / "etc/resolv.conf";
  f.write(f.file, "10.0.0.1");
  f.start();
  CHECK(f.next() == "10.0.0.1");
  f.write(f.file, "");
  SECTION("it is being written") {
    CHECK(f.next(80ms).empty());
    f.write(f.file, "10.0.0.2");
    CHECK(f.next() == "10.0.0.2");
  }
  SECTION("it is meant") { CHECK(f.next() == "none"); }
}

TEST_CASE("the periodic read finds what inotify does not show") {
  WatchFixture f;
  f.options.period = 100ms;
  f.file = f.top / "etc/resolv.conf";
  f.write(f.file, "10.0.0.1");
  f.start();
  CHECK(f.next() == "10.0.0.1");
  std::ofstream writer(f.file, std::ios::trunc);  // never closed in this test
  writer << "nameserver 10.0.0.2\n" << std::flush;
  CHECK(f.next() == "10.0.0.2");
}

TEST_CASE("stop() and destruction from within a callback") {
  WatchFixture f;
  f.file = f.top / "etc/resolv.conf";
  f.write(f.file, "10.0.0.1");
  SECTION("stop") {
    f.at_change = [&] { f.watch->stop(); };
  }
  SECTION("destruction") {
    f.at_change = [&] { f.watch.reset(); };
  }
  f.start();
  CHECK(f.next() == "10.0.0.1");
  f.write(f.file, "10.0.0.2");
  CHECK(f.next(150ms).empty());
}

}  // namespace casa::dns::test

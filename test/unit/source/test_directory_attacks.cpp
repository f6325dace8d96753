// Entries that are no honest files, and files that change faster than they can be read.
#include <fmt/format.h>
#include <linux/capability.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>

#include <thread>

#include "source_harness.h"

namespace casa::source::test {
namespace {

// Root may read everything; without these two capabilities it is like anybody else.
class WithoutOverride {
 public:
  WithoutOverride() { set(false); }
  ~WithoutOverride() { set(true); }
  WithoutOverride(const WithoutOverride&) = delete;

 private:
  static void set(bool on) {
    __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
    __user_cap_data_struct data[2] = {};
    REQUIRE(syscall(SYS_capget, &header, data) == 0);
    unsigned mask = 1u << CAP_DAC_OVERRIDE | 1u << CAP_DAC_READ_SEARCH;
    data[0].effective = on ? data[0].effective | (data[0].permitted & mask) : data[0].effective & ~mask;
    REQUIRE(syscall(SYS_capset, &header, data) == 0);
  }
};

}  // namespace

TEST_CASE("what is not a regular file is named, and never waited for") {
  Fixture f;
  write_file(f.policies / "good.yaml", "good");
  REQUIRE(mkfifo((f.policies / "fifo.yaml").c_str(), 0644) == 0);
  fs::create_symlink("/dev/zero", f.policies / "device.yaml");
  fs::create_directory(f.policies / "dir.yaml");
  int fd = socket(AF_UNIX, SOCK_STREAM, 0);
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::string path = (f.policies / "socket.yaml").string();
  REQUIRE(path.size() < sizeof address.sun_path);
  path.copy(address.sun_path, path.size());
  REQUIRE(bind(fd, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0);
  f.start();
  CHECK(f.recorder.log == Log{"!device.yaml", "!fifo.yaml", "+good.yaml", "!socket.yaml", "synced"});
  CHECK(f.recorder.problems["fifo.yaml"].find("is a FIFO, not a regular file") != std::string::npos);
  f.recorder.log.clear();
  // One that comes later, in place of a good file: the last good content stays the handler's.
  fs::remove(f.policies / "good.yaml");
  REQUIRE(mkfifo((f.policies / "good.yaml").c_str(), 0644) == 0);
  fs::remove(f.policies / "fifo.yaml");
  REQUIRE(f.until_synced());
  CHECK(f.recorder.log == Log{"-fifo.yaml", "!good.yaml", "synced"});
  CHECK(f.recorder.documents["good.yaml"] == "good");
  close(fd);
}

TEST_CASE("loops of links end") {
  Fixture f;
  fs::create_directories(f.policies / "sub");
  write_file(f.policies / "sub/a.yaml", "a");
  fs::create_directory_symlink(".", f.policies / "loop");
  fs::create_directory_symlink("..", f.policies / "sub/up");
  fs::create_symlink("self.yaml", f.policies / "self.yaml");
  fs::create_directory_symlink(".", f.policies / "..data");
  fs::create_directory_symlink("..data/", f.policies / "again");
  fs::create_directory_symlink("..data/sub", f.policies / "second-way");
  fs::create_directory_symlink("..data/../..", f.policies / "out");
  f.start();
  CHECK(f.recorder.synced == 1);
  CHECK(f.recorder.problems.contains("self.yaml"));
  // `sub` is read by one of its two ways.
  CHECK(f.recorder.documents.contains("sub/a.yaml") != f.recorder.documents.contains("second-way/a.yaml"));
  CHECK(f.recorder.documents.size() == 1);
}

TEST_CASE("directories are followed to a stated depth") {
  Fixture f;
  fs::path deep = f.policies;
  for (int i = 0; i < 17; ++i) {
    deep /= "d";
    fs::create_directory(deep);
    write_file(deep / "x.yaml", "x");
  }
  f.start();
  CHECK(f.recorder.documents.size() == 16);
  CHECK(f.recorder.health.find("more than 16 directories deep") != std::string::npos);
  f.recorder.log.clear();
  fs::remove_all(deep);
  REQUIRE(f.until([&] { return f.recorder.health.empty(); }));
}

TEST_CASE("a file above the limit keeps the last good one") {
  Fixture f;
  write_file(f.policies / "a.yaml", "good");
  f.start_quietly();
  std::string nine(9u << 20, '#');
  write_file(f.policies / "a.yaml", nine);
  REQUIRE(f.until_synced());
  CHECK(f.recorder.log == Log{"!a.yaml", "synced"});
  CHECK(f.recorder.documents["a.yaml"] == "good");
  f.recorder.log.clear();
  nine.resize(kMaxDocumentBytes);
  write_file(f.policies / "a.yaml", nine);
  REQUIRE(f.until_synced());
  CHECK(f.recorder.log == Log{"+a.yaml", "synced"});
  CHECK(f.recorder.documents["a.yaml"].size() == kMaxDocumentBytes);
}

TEST_CASE("more documents than the limit is a problem of the whole, and the first ones stay") {
  Fixture f;
  f.options.max_documents = 3;
  f.options.safety = 100ms;
  for (const char* name : {"b.yaml", "c.yaml", "d.yaml"}) write_file(f.policies / name, "x");
  f.start_quietly();
  write_file(f.policies / "a.yaml", "x");
  REQUIRE(f.until([&] { return !f.recorder.health.empty(); }));
  CHECK(f.recorder.documents.size() == 3);
  CHECK_FALSE(f.recorder.documents.contains("a.yaml"));
  fs::remove(f.policies / "d.yaml");
  REQUIRE(f.until([&] { return f.recorder.documents.contains("a.yaml") && f.recorder.health.empty(); }));
}

TEST_CASE("a file that is replaced 500 times ends in its last content") {
  Fixture f;
  write_file(f.policies / "a.yaml", "start");
  f.start_quietly();
  bool in_place = GENERATE(false, true);
  std::thread writer([&] {
    for (int i = 1; i <= 500; ++i) {
      std::string text = fmt::format("{{{:0{}}", i, 1 + i * 7 % 5000);
      if (in_place) write_file(f.policies / "a.yaml", text);
      else replace_file(f.policies / "a.yaml", text);
    }
    write_file(f.policies / "done.yaml", "");
  });
  bool done = f.until(
      [&] { return f.recorder.documents.contains("done.yaml") && f.recorder.documents["a.yaml"].ends_with("500"); });
  writer.join();
  CHECK(done);
  f.run_for(100ms);
  CHECK(f.recorder.documents["a.yaml"] == fmt::format("{{{:0{}}", 500, 1 + 500 * 7 % 5000));
  for (const auto& entry : f.recorder.log) CHECK(entry != "-a.yaml");
}

TEST_CASE("a file without permission keeps the last good one, and is well again with the same bytes") {
  Fixture f;
  write_file(f.policies / "a.yaml", "good");
  WithoutOverride guard;
  f.start_quietly();
  fs::permissions(f.policies / "a.yaml", fs::perms::none);
  REQUIRE(f.until_synced());
  CHECK(f.recorder.log == Log{"!a.yaml", "synced"});
  CHECK(f.recorder.problems["a.yaml"].find("Permission denied") != std::string::npos);
  fs::permissions(f.policies / "a.yaml", fs::perms::owner_read);
  REQUIRE(f.until_synced());
  CHECK(f.recorder.log == Log{"!a.yaml", "synced", "+a.yaml", "synced"});
}

TEST_CASE("a directory without permission keeps what it held") {
  Fixture f;
  fs::create_directory(f.policies / "sub");
  write_file(f.policies / "sub/a.yaml", "good");
  write_file(f.policies / "b.yaml", "good");
  WithoutOverride guard;
  f.start_quietly();
  fs::path closed = GENERATE(true, false) ? f.policies / "sub" : f.policies;
  fs::permissions(closed, fs::perms::none);
  REQUIRE(f.until([&] { return f.recorder.health.find("Permission denied") != std::string::npos; }));
  CHECK(f.recorder.log == Log{"ill"});
  f.run_for(200ms);
  fs::permissions(closed, fs::perms::owner_all);
  REQUIRE(f.until([&] { return f.recorder.health.empty(); }));
  CHECK(f.recorder.documents.size() == 2);
  write_file(f.policies / "sub/a.yaml", "better");
  REQUIRE(f.until([&] { return f.recorder.documents["sub/a.yaml"] == "better"; }));
  for (const auto& entry : f.recorder.log) CHECK(entry.front() != '-');
}

TEST_CASE("a link to nothing keeps the last good one") {
  Fixture f;
  write_file(f.temp / "target.yaml", "good");
  fs::create_symlink("../target.yaml", f.policies / "a.yaml");
  f.start_quietly();
  fs::remove(f.policies / "a.yaml");
  fs::create_symlink("../nothing.yaml", f.policies / "a.yaml");
  REQUIRE(f.until_synced());
  CHECK(f.recorder.log == Log{"!a.yaml", "synced"});
  fs::remove(f.policies / "a.yaml");
  REQUIRE(f.until_synced());
  CHECK(f.recorder.log == Log{"!a.yaml", "synced", "-a.yaml", "synced"});
}

TEST_CASE("no file has the origin of an API server's object") {
  Fixture f;
  fs::path there = f.policies / "kubernetes:CASAPolicy" / "a";
  fs::create_directories(there);
  write_file(there / "p.yaml", "good");
  write_file(f.policies / "kubernetes:x.yaml", "good");
  fs::create_symlink("nowhere", f.policies / "kubernetes:y.yaml");
  f.start();
  CHECK(f.recorder.log ==
        Log{"+./kubernetes:CASAPolicy/a/p.yaml", "+./kubernetes:x.yaml", "!./kubernetes:y.yaml", "synced"});
  CHECK(f.recorder.paths["./kubernetes:x.yaml"] == f.policies / "kubernetes:x.yaml");
  f.recorder.log.clear();
  fs::remove_all(f.policies / "kubernetes:CASAPolicy");
  REQUIRE(f.until_synced());
  CHECK(f.recorder.log == Log{"-./kubernetes:CASAPolicy/a/p.yaml", "synced"});
}

TEST_CASE("names may hold any byte") {
  Fixture f;
  for (const char* name : {"a b.yaml", "line\nbreak.yaml", "\xff\xfe.yaml", "-rf.yaml", "%s%n.yaml", "..\xc2\xa0.yaml"})
    write_file(f.policies / name, "x");
  f.start();
  CHECK(f.recorder.documents.size() == 5);  // the last begins with a dot
}

}  // namespace casa::source::test

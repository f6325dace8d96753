// The directory as a whole: missing, deleted, renamed, replaced, unmounted, and back; and the end of the source itself.
#include <fcntl.h>
#include <fmt/format.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/syscall.h>

#include "source_harness.h"

namespace casa::source::test {
namespace {

constexpr const char* kGone = "is gone; the last state stays in force";

void fill(const fs::path& directory) {
  fs::create_directories(directory / "sub");
  write_file(directory / "a.yaml", "a");
  write_file(directory / "sub/b.yaml", "b");
}

}  // namespace

TEST_CASE("a directory that is missing at the start is a problem, synced with nothing, and read when it comes") {
  Fixture f(false);
  f.policies = f.temp / "x/y/policies";
  f.start();
  CHECK(f.recorder.log == Log{"ill", "synced"});
  CHECK(f.recorder.health == fmt::format("policy directory {} {}", f.policies.string(), kGone));
  fill(f.policies);
  REQUIRE(f.until([&] { return f.recorder.documents.size() == 2 && f.recorder.health.empty(); }));
  write_file(f.policies / "a.yaml", "later");
  REQUIRE(f.until([&] { return f.recorder.documents["a.yaml"] == "later"; }));
}

TEST_CASE("a directory that goes removes nothing; when it is back, what is not there is removed") {
  Fixture f;
  fill(f.policies);
  f.start_quietly();
  SECTION("deleted") { fs::remove_all(f.policies); }
  SECTION("renamed") { fs::rename(f.policies, f.temp / "other"); }
  REQUIRE(f.until([&] { return f.recorder.health.find(kGone) != std::string::npos; }));
  f.run_for(200ms);
  CHECK(f.recorder.log == Log{"ill"});
  CHECK(f.recorder.documents.size() == 2);
  fs::create_directory(f.policies);
  f.run_for(50ms);  // somebody copies files by hand
  CHECK(f.recorder.documents.size() == 2);
  write_file(f.policies / "a.yaml", "a");
  f.run_for(50ms);
  write_file(f.policies / "c.yaml", "c");
  REQUIRE(f.until([&] { return f.recorder.health.empty(); }));
  CHECK(f.recorder.log == Log{"ill", "+c.yaml", "-sub/b.yaml", "well", "synced"});
  write_file(f.policies / "c.yaml", "still watched");
  REQUIRE(f.until([&] { return f.recorder.documents["c.yaml"] == "still watched"; }));
}

TEST_CASE("a directory that was deleted and made anew without files is meant to be empty") {
  Fixture f;
  fill(f.policies);
  f.start_quietly();
  fs::remove_all(f.policies);
  REQUIRE(f.until([&] { return !f.recorder.health.empty(); }));
  fs::create_directory(f.policies);
  REQUIRE(f.until([&] { return f.recorder.health.empty(); }));
  CHECK(f.recorder.log == Log{"ill", "-a.yaml", "-sub/b.yaml", "well", "synced"});
}

TEST_CASE("a large directory is deleted as a whole, not file by file") {
  Fixture f;
  f.options.quiet_delete = 500ms;  // a busy machine must not look like the end of the deletion
  fs::create_directory(f.policies / "sub");
  for (int i = 0; i < 3000; ++i) write_file(f.policies / fmt::format("sub/{}.yaml", i), "x");
  f.start_quietly();
  auto began = std::chrono::steady_clock::now();
  for (const auto& entry : fs::directory_iterator(f.policies / "sub")) {
    fs::remove(entry.path());
    f.io.restart();
    f.io.poll();
  }
  auto took = std::chrono::steady_clock::now() - began;
  fs::remove_all(f.policies);
  REQUIRE(f.until([&] { return !f.recorder.health.empty(); }));
  if (took < f.options.longest_delete) CHECK(f.recorder.log == Log{"ill"});
}

TEST_CASE("a directory swapped for another one") {
  Fixture f;
  fill(f.policies);
  fill(f.temp / "next");
  write_file(f.temp / "next/a.yaml", "a2");
  fs::remove(f.temp / "next/sub/b.yaml");
  bool by_link = GENERATE(false, true);
  if (by_link) {
    fs::rename(f.policies, f.temp / "first");
    fs::create_directory_symlink("first", f.policies);
  }
  f.start_quietly();
  if (by_link) {
    fs::create_directory_symlink("next", f.temp / "link");
    fs::rename(f.temp / "link", f.policies);
  } else {
    REQUIRE(syscall(SYS_renameat2, AT_FDCWD, (f.temp / "next").c_str(), AT_FDCWD, f.policies.c_str(),
                    2 /* RENAME_EXCHANGE */) == 0);
  }
  REQUIRE(f.until_synced());
  f.run_for(150ms);
  CHECK(f.recorder.log == Log{"+a.yaml", "-sub/b.yaml", "synced"});
  write_file(f.policies / "a.yaml", "a3");
  REQUIRE(f.until([&] { return f.recorder.documents["a.yaml"] == "a3"; }));
}

TEST_CASE("the directory above is renamed away and back") {
  Fixture f(false);
  f.policies = f.temp / "above/policies";
  fill(f.policies);
  f.start_quietly();
  fs::rename(f.temp / "above", f.temp / "other");
  REQUIRE(f.until([&] { return !f.recorder.health.empty(); }));
  fs::rename(f.temp / "other", f.temp / "above");
  REQUIRE(f.until([&] { return f.recorder.health.empty(); }));
  CHECK(f.recorder.log == Log{"ill", "well", "synced"});
}

TEST_CASE("a file in the directory's place") {
  Fixture f;
  fill(f.policies);
  f.start_quietly();
  fs::rename(f.policies, f.temp / "other");
  write_file(f.policies, "not a directory");
  REQUIRE(f.until([&] { return !f.recorder.health.empty(); }));
  fs::remove(f.policies);
  fs::rename(f.temp / "other", f.policies);
  REQUIRE(f.until([&] { return f.recorder.health.empty(); }));
  CHECK(f.recorder.documents.size() == 2);
}

TEST_CASE("an unmounted directory is not an empty one") {
  Fixture f;
  // Only this thread's view: the mount is nobody else's.
  if (unshare(CLONE_NEWNS) != 0 || mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0)
    SKIP("needs root for mounts");
  REQUIRE(mount("tmpfs", f.policies.c_str(), "tmpfs", 0, "size=1m") == 0);
  fill(f.policies);
  f.start_quietly();
  bool lazily = GENERATE(false, true);
  REQUIRE(umount2(f.policies.c_str(), lazily ? MNT_DETACH : 0) == 0);
  REQUIRE(f.until([&] { return !f.recorder.health.empty(); }));
  CHECK(f.recorder.health.find("is it unmounted?") != std::string::npos);
  f.run_for(800ms);
  CHECK(f.recorder.log == Log{"ill"});
  CHECK(f.recorder.documents.size() == 2);
  REQUIRE(mount("tmpfs", f.policies.c_str(), "tmpfs", 0, "size=1m") == 0);
  write_file(f.policies / "a.yaml", "a2");
  REQUIRE(f.until([&] { return f.recorder.health.empty(); }));
  CHECK(f.recorder.log == Log{"ill", "+a.yaml", "-sub/b.yaml", "well", "synced"});
  f.source.reset();
  REQUIRE(umount2(f.policies.c_str(), MNT_DETACH) == 0);
}

TEST_CASE("after stop() nothing is heard, and nothing is left pending") {
  Fixture f;
  fill(f.policies);
  SECTION("stopped by the handler in the middle") {
    f.recorder.at_sync = [&] { f.source->stop(); };
    f.start();
  }
  SECTION("stopped from outside") {
    f.start();
    f.source->stop();
  }
  SECTION("destroyed with a burst pending") {
    f.start();
    write_file(f.policies / "a.yaml", "z");
    f.run_for(5ms);
    f.source.reset();
  }
  SECTION("destroyed before the first read") {
    f.source = std::make_unique<DirectorySource>(f.io, f.policies.string(), f.recorder, f.options);
    REQUIRE(f.source->start().has_value());
    f.source.reset();
  }
  f.recorder.log.clear();
  write_file(f.policies / "a.yaml", "more");
  f.io.restart();
  f.io.run_for(2s);
  CHECK(f.io.stopped());  // no operation is waiting
  CHECK(f.recorder.log.empty());
}

}  // namespace casa::source::test

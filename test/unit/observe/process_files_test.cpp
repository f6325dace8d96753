// Which files a process runs, seen on this one.
#include "observe/process_files.h"

#include <dlfcn.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <catch2/catch_test_macros.hpp>

using namespace casa;
using observe::FileRole;

TEST_CASE("the executable, the linker and the TLS libraries of a process") {
  if (::dlopen("libssl.so.3", RTLD_NOW) == nullptr) SKIP("no libssl.so.3");
  auto files = observe::files_of_process(::getpid());
  REQUIRE(files);
  auto with = [&](FileRole role) { return std::ranges::find(*files, role, &observe::ProcessFile::role); };
  REQUIRE(with(FileRole::kExecutable) != files->end());
  REQUIRE(with(FileRole::kLinker) != files->end());
  REQUIRE(with(FileRole::kTlsLibrary) != files->end());
  CHECK(with(FileRole::kTlsLibrary)->path.ends_with("libssl.so.3"));
  struct stat own{}, told{};
  REQUIRE(::stat("/proc/self/exe", &own) == 0);
  REQUIRE(::fstat(with(FileRole::kExecutable)->fd.get(), &told) == 0);
  CHECK((own.st_ino == told.st_ino && own.st_dev == told.st_dev));
}

TEST_CASE("a process that has ended is not found") {
  pid_t child = ::fork();
  if (child == 0) ::_exit(0);
  REQUIRE(::waitpid(child, nullptr, 0) == child);
  auto files = observe::files_of_process(child);
  REQUIRE_FALSE(files);
  CHECK(files.error().code == ErrorCode::kNotFound);
}

TEST_CASE("no processes where there is no cgroup") { CHECK(observe::processes_below("/nonexistent").empty()); }

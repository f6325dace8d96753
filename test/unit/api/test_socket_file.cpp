// The socket as a file: taken over, kept, refused, removed.
#include <sys/stat.h>

#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>
#include <fstream>

#include "api/socket_file.h"
#include "server_fixture.h"

using namespace casa;
using namespace casa::api;
using casa::test::TempDir;
using Catch::Matchers::ContainsSubstring;
namespace fs = std::filesystem;

TEST_CASE("the socket file has its mode, and its directory is made") {
  TempDir dir;
  auto socket = SocketFile::create(dir.file("a/b/casad.sock"), 0660, "no-such-group");
  REQUIRE(socket);
  struct stat info{};
  REQUIRE(::stat(dir.file("a/b/casad.sock").c_str(), &info) == 0);
  CHECK(S_ISSOCK(info.st_mode));
  CHECK((info.st_mode & 07777) == 0660);
  REQUIRE(::stat(dir.file("a/b").c_str(), &info) == 0);
  CHECK((info.st_mode & 07777) == 0755);
  socket->remove();
  CHECK_FALSE(fs::exists(dir.file("a/b/casad.sock")));
}

TEST_CASE("a stale socket file is replaced, a live one is not") {
  TempDir dir;
  auto path = dir.file("s");
  {
    auto old = SocketFile::create(path, 0600, "");
    REQUIRE(old);
  }  // closed, not removed: as after kill -9
  REQUIRE(fs::exists(path));
  auto live = SocketFile::create(path, 0600, "");
  REQUIRE(live);
  auto second = SocketFile::create(path, 0600, "");
  REQUIRE_FALSE(second);
  CHECK(second.error().code == ErrorCode::kBusy);
  CHECK(test::connect_to(path));
}

TEST_CASE("a socket file that became somebody else's is left alone") {
  TempDir dir;
  auto path = dir.file("s");
  auto ours = SocketFile::create(path, 0600, "");
  REQUIRE(ours);
  fs::rename(path, dir.file("moved"));
  auto theirs = SocketFile::create(path, 0600, "");
  REQUIRE(theirs);
  ours->remove();
  CHECK(fs::exists(path));
  theirs->remove();
  CHECK_FALSE(fs::exists(path));
  theirs->remove();  // again: nothing
}

TEST_CASE("paths that cannot be a socket's are refused") {
  TempDir dir;
  std::ofstream(dir.file("file")) << "precious";
  auto on_file = SocketFile::create(dir.file("file"), 0600, "");
  REQUIRE_FALSE(on_file);
  CHECK(on_file.error().code == ErrorCode::kInvalidArgument);
  CHECK_THAT(on_file.error().context, ContainsSubstring("is not a socket"));
  CHECK(fs::file_size(dir.file("file")) == 8);
  fs::create_symlink(dir.file("file"), dir.file("link"));
  CHECK_FALSE(SocketFile::create(dir.file("link"), 0600, ""));
  CHECK(fs::is_symlink(dir.file("link")));
  CHECK_FALSE(SocketFile::create("", 0600, ""));
  CHECK_FALSE(SocketFile::create(dir.file(std::string(120, 'x')), 0600, ""));
  CHECK_FALSE(SocketFile::create(dir.file("file/below"), 0600, ""));
}

TEST_CASE("groups are read by hand") {
  TempDir dir;
  std::ofstream(dir.file("group"))
      << "root:x:0:\ncasadx:x:5:\n#casad:x:6:\ncasad\ncasad:x:bad:\ncasad:x:77:alice,bob\n";
  CHECK(find_group("casad", dir.file("group")) == 77);
  CHECK(find_group("root", dir.file("group")) == 0);
  CHECK_FALSE(find_group("alice", dir.file("group")));
  CHECK_FALSE(find_group("casad", dir.file("none")));
}

// `casad check` on real files: what it prints, and its exit status.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <catch2/catch_test_macros.hpp>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <memory>

#include "cli/check.h"

namespace fs = std::filesystem;

namespace {

struct Scratch {
  fs::path dir;
  Scratch() {
    std::string name = (fs::temp_directory_path() / "casad-check-XXXXXX").string();
    REQUIRE(::mkdtemp(name.data()) != nullptr);
    dir = name;
  }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  ~Scratch() { fs::remove_all(dir); }
  std::string write(const std::string& name, std::string_view text) const {
    fs::create_directories((dir / name).parent_path());
    std::ofstream(dir / name, std::ios::binary) << text;
    return (dir / name).string();
  }
};

struct Outcome {
  int status;
  std::string text;
};
Outcome check(const std::vector<std::string>& paths) {
  char* buffer = nullptr;
  std::size_t size = 0;
  std::FILE* out = ::open_memstream(&buffer, &size);
  int status = casa::cli::run_check(paths, out);
  std::fclose(out);
  std::string text(buffer, size);
  std::free(buffer);
  return {status, text};
}

std::string ns(std::string_view name) {
  return "apiVersion: v1\nkind: Namespace\nmetadata: {name: " + std::string(name) + "}\n";
}

}  // namespace

TEST_CASE("check: valid files") {
  Scratch s;
  auto a = s.write("a.yaml", ns("a") + "---\n" + ns("b"));
  auto b = s.write("b.json", R"({"apiVersion":"v1","kind":"Namespace","metadata":{"name":"c"}})");
  auto r = check({a, b});
  CHECK(r.status == 0);
  CHECK(r.text == "2 files, 3 objects: 0 errors, 0 warnings\n");
  CHECK(check({a}).text == "1 file, 2 objects: 0 errors, 0 warnings\n");
}

TEST_CASE("check: errors, and the same object in two files") {
  Scratch s;
  auto a = s.write("a.yaml", ns("a"));
  auto b = s.write("b.yaml", "\n" + ns("a") + "---\n" + ns("B"));
  auto r = check({a, b});
  CHECK(r.status == 1);
  CHECK(r.text == b +
                      ":8:18: error: metadata.name: \"B\" is not a namespace's name (lower-case letters, digits and "
                      "'-'); write b\n" +
                      b + ":2:1: error: Namespace a is already defined at " + a +
                      ":1; remove one of the two, or give it another name\n"
                      "2 files, 2 objects: 2 errors, 0 warnings\n");
}

TEST_CASE("check: warnings alone are valid, and long lists are counted whole") {
  Scratch s;
  std::string policy =
      "apiVersion: casa.io/v1alpha1\nkind: CASAPolicy\nmetadata: {name: p}\nspec:\n  targetRef: {kind: Pod, name: w}\n "
      " allowedProtocols: [mcp, mcp]\n";
  auto r = check({s.write("a.yaml", policy)});
  CHECK(r.status == 0);
  CHECK(r.text.ends_with("1 file, 1 object: 0 errors, 1 warning\n"));
  for (int i = 0; i < 150; ++i) policy += "x" + std::to_string(i) + ": 1\n";
  auto many = check({s.write("b.yaml", policy)});
  CHECK(many.status == 1);
  CHECK(many.text.ends_with("1 file, 0 objects: 150 errors, 1 warning\n"));
}

TEST_CASE("check: directories") {
  Scratch s;
  s.write("sub/b.yml", ns("b"));
  s.write("a.yaml", ns("a") + "foo: 1\n");
  s.write("sub/z.json", "[]");
  s.write("notes.txt", "not: [yaml");
  s.write(".hidden.yaml", "not: [yaml");
  s.write(".git/x.yaml", "not: [yaml");
  s.write("a.yaml.swp", "not: [yaml");
  fs::create_directory_symlink(s.dir, s.dir / "sub" / "loop");
  fs::create_symlink(s.dir / "sub" / "b.yml", s.dir / "c.yaml");
  auto r = check({s.dir.string()});
  CHECK(r.status == 1);
  CHECK(r.text ==
        s.dir.string() +
            "/a.yaml:4:1: error: foo: unknown field; remove it, or write apiVersion, kind, metadata, spec or status\n" +
            s.dir.string() + "/sub/b.yml:1:1: error: Namespace b is already defined at " + s.dir.string() +
            "/c.yaml:1; remove one of the two, or give it another name\n4 files, 2 objects: 2 errors, 0 warnings\n");
  Scratch empty;
  CHECK(check({empty.dir.string()}).text == "0 files, 0 objects: 0 errors, 0 warnings\n");
}

TEST_CASE("check: what cannot be read") {
  Scratch s;
  auto r = check({(s.dir / "gone.yaml").string()});
  CHECK(r.status == 2);
  CHECK(r.text.starts_with("casad check: error: " + (s.dir / "gone.yaml").string() + ": No such file or directory\n"));
  REQUIRE(::mkfifo((s.dir / "fifo.yaml").c_str(), 0600) == 0);
  for (const std::string& special : {(s.dir / "fifo.yaml").string(), s.dir.string(), std::string("/dev/zero")}) {
    auto got = check({special});
    INFO(special);
    CHECK(got.status == 2);
    CHECK(got.text.find("not a regular file; name a file or a directory") != std::string::npos);
  }
  CHECK(check({}).status == 2);
  CHECK(check({}).text == "casad check: error: no file is named; write casad check FILE|DIR...\n");
}

TEST_CASE("check: files of any size are read with a bound") {
  Scratch s;
  auto big = s.write("big.yaml", "");
  REQUIRE(::truncate(big.c_str(), off_t{1} << 40) == 0);  // sparse
  auto r = check({big});
  CHECK(r.status == 1);
  CHECK(r.text.starts_with(big + ":1:1: error: the file is larger than 8 MiB; split it into several\n"));
}

TEST_CASE("check: standard input") {
  Scratch s;
  auto file = s.write("a.yaml", ns("A"));
  int saved = ::dup(STDIN_FILENO);
  int fd = ::open(file.c_str(), O_RDONLY);
  REQUIRE(::dup2(fd, STDIN_FILENO) >= 0);
  auto r = check({"-"});
  ::dup2(saved, STDIN_FILENO);
  ::close(saved);
  ::close(fd);
  CHECK(r.status == 1);
  CHECK(r.text.starts_with("<stdin>:3:18: error: "));
}

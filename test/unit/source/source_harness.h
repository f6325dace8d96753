// What the directory source's tests share: a directory of their own, a handler that writes down what it hears, and
// bounded waits that run the executor instead of sleeping.
#pragma once

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <boost/asio/io_context.hpp>
#include <catch2/catch_test_macros.hpp>
#include <catch2/generators/catch_generators.hpp>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <map>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "../run_until.h"
#include "source/directory.h"

namespace casa::source::test {

namespace fs = std::filesystem;
using namespace std::chrono_literals;

class TempDir {
 public:
  TempDir() {
    std::string pattern = (fs::temp_directory_path() / "casad-source-XXXXXX").string();
    path_ = mkdtemp(pattern.data());
  }
  ~TempDir() {
    std::error_code ec;
    fs::remove_all(path_, ec);
  }
  TempDir(const TempDir&) = delete;
  [[nodiscard]] fs::path operator/(const std::string& name) const { return path_ / name; }

 private:
  fs::path path_;
};

// Keeps the file's inode, as a shell's `>` does.
inline void write_file(const fs::path& path, const std::string& text) { std::ofstream(path, std::ios::trunc) << text; }

inline void replace_file(const fs::path& path, const std::string& text) {
  fs::path temporary = path.string() + ".tmp";
  write_file(temporary, text);
  fs::rename(temporary, path);
}

class Recorder : public Handler {
 public:
  void on_upsert(Document document) override {
    fail_if_told(document.origin);
    log.push_back("+" + document.origin);
    paths[document.origin] = document.path;
    formats[document.origin] = document.format;
    kinds[document.origin] = document.kind;
    problems.erase(document.origin);
    documents[document.origin] = std::move(document.bytes);
  }
  void on_remove(const std::string& origin) override {
    fail_if_told(origin);
    log.push_back("-" + origin);
    documents.erase(origin);
    problems.erase(origin);
  }
  void on_unreadable(const std::string& origin, const std::string&, const Error& error) override {
    log.push_back("!" + origin);
    problems[origin] = error.context;
  }
  void on_synced() override {
    log.push_back("synced");
    ++synced;
    if (at_sync) at_sync();
  }
  void on_health(const std::string& problem) override {
    log.push_back(problem.empty() ? "well" : "ill");
    health = problem;
  }

  std::vector<std::string> log;
  std::map<std::string, std::string> documents, problems, paths, kinds;
  std::map<std::string, Format> formats;
  std::string health;
  int synced = 0;
  std::function<void()> at_sync;
  std::string fails_once;  // the next news of this origin is not taken, and throws

 private:
  void fail_if_told(const std::string& origin) {
    if (origin != fails_once) return;
    fails_once.clear();
    throw std::runtime_error("no memory");
  }
};

using Log = std::vector<std::string>;

// A source over DIR/policies, with waits short enough for tests. The directory is made unless told otherwise.
struct Fixture {
  explicit Fixture(bool make = true) : policies(temp / "policies") {
    if (make) fs::create_directory(policies);
    options.away = 50ms;
    options.settle = 150ms;
  }
  void start() {
    source = std::make_unique<DirectorySource>(io, policies.string(), recorder, options);
    REQUIRE(source->start().has_value());
    REQUIRE(until([&] { return recorder.synced == 1; }));
  }
  // Starts, and forgets what was heard on the way.
  void start_quietly() {
    start();
    recorder.log.clear();
  }
  bool until(const std::function<bool()>& condition, std::chrono::milliseconds most = 5s) {
    return casa::test::run_until(io, condition, most);
  }
  bool until_synced(int more = 1) {
    int wanted = recorder.synced + more;
    return until([&] { return recorder.synced >= wanted; });
  }
  void run_for(std::chrono::milliseconds time) {
    io.restart();
    io.run_for(time);
  }

  TempDir temp;
  fs::path policies;
  boost::asio::io_context io;
  Recorder recorder;
  DirectoryOptions options;
  std::unique_ptr<DirectorySource> source;
};

}  // namespace casa::source::test

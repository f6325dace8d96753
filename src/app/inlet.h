// Where the news of one source come in: its documents go to the set of all, and what is to be known of the source itself is kept here.
#pragma once

#include <chrono>
#include <functional>
#include <map>
#include <optional>
#include <string>

#include "app/documents.h"
#include "source/source.h"

namespace casa::app {

class Inlet final : public source::Handler {
 public:
  struct Callbacks {
    // The source has told everything that it has, after the start or after a burst of changes.
    std::function<void()> on_synced;
    // By what is concerned; an empty problem: well again.
    std::function<void(const std::string& key, std::string problem)> on_problem;
    // Before the document is taken. False: there is nothing new in it for anybody else.
    std::function<bool(const source::Document&)> on_document;
    std::function<void(const std::string& origin)> on_remove;
  };
  // `name`: of the source in problems, "policy directory".
  Inlet(std::string name, Documents& documents, Callbacks callbacks)
      : name_(std::move(name)), documents_(documents), callbacks_(std::move(callbacks)) {}

  void on_upsert(source::Document document) override;
  void on_remove(const std::string& origin) override;
  void on_unreadable(const std::string& origin, const std::string& path, const Error& error) override;
  void on_synced() override;
  void on_health(const std::string& problem) override;

  [[nodiscard]] bool is_synced() const { return synced_; }  // once at least
  [[nodiscard]] const std::string& problem() const { return problem_; }
  [[nodiscard]] std::optional<std::chrono::system_clock::time_point> last_change() const { return last_change_; }

 private:
  // Whether the document's last good copy could be kept: `problem` says why not.
  void note_copy(const std::string& origin, std::string problem);
  void note_change() { last_change_ = std::chrono::system_clock::now(); }

  const std::string name_;
  Documents& documents_;
  const Callbacks callbacks_;
  bool synced_ = false;
  std::string problem_;
  std::map<std::string, std::string> not_kept_;  // why, by origin
  std::optional<std::chrono::system_clock::time_point> last_change_;
};

}  // namespace casa::app

#include "app/inlet.h"

#include <fmt/format.h>

namespace casa::app {

void Inlet::on_upsert(source::Document document) {
  note_change();
  if (callbacks_.on_document && !callbacks_.on_document(document)) return;
  Status kept = documents_.upsert(document);
  note_copy(document.origin, kept ? "" : kept.error().context);
}

// One problem for all documents: most often they share its reason.
void Inlet::note_copy(const std::string& origin, std::string problem) {
  if (problem.empty()) {
    if (not_kept_.erase(origin) == 0) return;
  } else {
    not_kept_[origin] = std::move(problem);
  }
  std::string all = not_kept_.empty() ? "" : not_kept_.begin()->second;
  if (not_kept_.size() > 1) all += fmt::format(" (and {} more)", not_kept_.size() - 1);
  callbacks_.on_problem("last good copies", std::move(all));
}

void Inlet::on_remove(const std::string& origin) {
  note_change();
  if (callbacks_.on_remove) callbacks_.on_remove(origin);
  documents_.remove(origin);
  note_copy(origin, "");
}

void Inlet::on_unreadable(const std::string& origin, const std::string& path, const Error& error) {
  note_change();
  documents_.unreadable(origin, path, error);
}

void Inlet::on_synced() {
  synced_ = true;
  callbacks_.on_synced();
}

void Inlet::on_health(const std::string& problem) {
  problem_ = problem;
  callbacks_.on_problem(name_, problem);
}

}  // namespace casa::app

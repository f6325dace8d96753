#include "app/inlet.h"

namespace casa::app {

void Inlet::on_upsert(source::Document document) {
  note_change();
  if (callbacks_.on_document && !callbacks_.on_document(document)) return;
  Status kept = documents_.upsert(document);
  callbacks_.on_problem("last good copies", kept ? "" : kept.error().context);
}

void Inlet::on_remove(const std::string& origin) {
  note_change();
  if (callbacks_.on_remove) callbacks_.on_remove(origin);
  documents_.remove(origin);
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

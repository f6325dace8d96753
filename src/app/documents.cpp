#include "app/documents.h"

#include <fmt/format.h>
#include <openssl/evp.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <fstream>
#include <sstream>

#include "base/file.h"

namespace casa::app {
namespace {

policy::Syntax syntax_of(source::Format format) {
  return format == source::Format::kJson ? policy::Syntax::kJson : policy::Syntax::kYaml;
}

bool is_api_origin(std::string_view origin) { return origin.starts_with(source::kApiOrigin); }

std::string first_error(const policy::ParseResult& result) {
  for (const auto& diagnostic : result.diagnostics)
    if (diagnostic.severity == policy::Diagnostic::Severity::kError) return policy::to_string(diagnostic);
  return {};
}

}  // namespace

Documents::Entry& Documents::entry_of(const std::string& origin) {
  auto [it, fresh] = documents_.try_emplace(origin);
  if (fresh && is_api_origin(origin)) ++api_documents_;
  return it->second;
}

// The copy's name must fit every origin: a digest.
std::string Documents::copy_path(const std::string& origin) const {
  std::array<unsigned char, EVP_MAX_MD_SIZE> hash{};
  unsigned length = 0;
  EVP_Digest(origin.data(), origin.size(), hash.data(), &length, EVP_sha256(), nullptr);
  std::string path = dir_ + "/";
  for (unsigned i = 0; i < 16; ++i) path += fmt::format("{:02x}", hash[i]);
  return path + (origin.ends_with(".json") ? ".json" : ".yaml");
}

Status Documents::keep_copy(const source::Document& document) {
  std::string path = copy_path(document.origin);
  std::ifstream old(path, std::ios::binary);
  std::string bytes((std::istreambuf_iterator<char>(old)), {});
  if (old.is_open() && bytes == document.bytes) return {};
  return replace_file(path, document.bytes);
}

void Documents::set_problem(const std::string& origin, Entry& entry, std::string problem) {
  entry.problem = std::move(problem);
  if (entry.problem.empty()) with_problem_.erase(origin);
  else with_problem_.insert(origin);
}

void Documents::fall_back(const std::string& origin, const std::string& path, Entry& entry,
                          const std::string& problem) {
  if (!entry.has_good && !is_api_origin(origin)) {
    std::ifstream copy(copy_path(origin), std::ios::binary);
    if (copy.is_open()) {
      std::string bytes((std::istreambuf_iterator<char>(copy)), {});
      policy::ParseResult result = policy::parse_text(path, bytes, policy::syntax_of(origin));
      if (result.syntax_ok) replace(origin, entry, std::move(result));
    }
  }
  set_problem(origin, entry,
              problem + (entry.has_good ? "; what it said before stays in force" : "; nothing of it is in force"));
}

void Documents::put(const std::string& origin, Entry& entry, policy::Object&& object) {
  policy::ObjectKey key = policy::key_of(object);
  entry.keys.push_back(key);
  bool api = is_api_origin(origin);
  if (objects_.all().contains(key)) {
    auto holder = file_of_.find(key);
    bool stays = holder == file_of_.end() || (!api && holder->second < origin);
    if (stays) {
      entry.shadowed.push_back(std::move(object));
      shadowed_[key].insert(origin);
      return;
    }
    documents_.at(holder->second).shadowed.push_back(objects_.take(key));
    shadowed_[key].insert(holder->second);
  }
  objects_.put(std::move(object));
  if (api) file_of_.erase(key);
  else file_of_[key] = origin;
}

void Documents::take_back(const std::string& origin, Entry& entry) {
  bool api = is_api_origin(origin);
  for (const auto& key : entry.keys) {
    auto waiting = shadowed_.find(key);
    auto holder = file_of_.find(key);
    if (!api && (holder == file_of_.end() || holder->second != origin)) {
      waiting->second.erase(origin);
      if (waiting->second.empty()) shadowed_.erase(waiting);
      continue;
    }
    if (waiting == shadowed_.end()) {
      objects_.erase(key);
      if (holder != file_of_.end()) file_of_.erase(holder);
      continue;
    }
    std::string next = *waiting->second.begin();
    auto& shadowed = documents_.at(next).shadowed;
    auto object = std::ranges::find(shadowed, key, policy::key_of);
    objects_.put(std::move(*object));
    shadowed.erase(object);
    file_of_[key] = next;
    waiting->second.erase(next);
    if (waiting->second.empty()) shadowed_.erase(waiting);
  }
  entry.keys.clear();
  entry.shadowed.clear();
  entry.invalid.clear();
  if (with_invalid_.erase(origin) != 0) invalid_listed_ = false;
}

void Documents::replace(const std::string& origin, Entry& entry, policy::ParseResult&& result) {
  take_back(origin, entry);
  for (auto& object : result.objects) put(origin, entry, std::move(object));
  entry.invalid = std::move(result.invalid);
  if (!entry.invalid.empty()) {
    with_invalid_.insert(origin);
    invalid_listed_ = false;
  }
  entry.has_good = true;
}

void Documents::upsert_api_object(const source::Document& document) {
  auto kind = policy::kind_of(document.kind);
  Entry& entry = entry_of(document.origin);
  if (!kind)
    return set_problem(document.origin, entry,
                       fmt::format("{}: casad reads no objects of kind {}", document.path, document.kind));
  policy::ParseResult result = policy::parse_api_object(document.path, document.bytes, *kind);
  if (!result.syntax_ok) return fall_back(document.origin, document.path, entry, first_error(result));
  set_problem(document.origin, entry, first_error(result));
  replace(document.origin, entry, std::move(result));
}

Status Documents::upsert(const source::Document& document) {
  if (document.format == source::Format::kApiObject) {
    upsert_api_object(document);
    return {};
  }
  policy::ParseResult result = policy::parse_text(document.path, document.bytes, syntax_of(document.format));
  Entry& entry = entry_of(document.origin);
  if (!result.syntax_ok) {
    fall_back(document.origin, document.path, entry, first_error(result));
    // Nothing good is known of it: the policies that can still be made out count as invalid, so their workloads are denied.
    if (!entry.has_good) {
      replace(document.origin, entry, std::move(result));
      entry.has_good = false;
    }
    return {};
  }
  // An emptied file is more often a save that broke off than a wish; to take its objects back, delete it.
  if (result.objects.empty() && result.invalid.empty() && result.ok()) {
    fall_back(document.origin, document.path, entry,
              fmt::format("{}: the file has no object any more; delete it to take its objects back", document.path));
    if (!entry.keys.empty() || !entry.invalid.empty()) return {};
  }
  set_problem(document.origin, entry, result.ok() ? "" : first_error(result));
  replace(document.origin, entry, std::move(result));
  return keep_copy(document);
}

void Documents::remove(const std::string& origin) {
  auto it = documents_.find(origin);
  if (it != documents_.end()) {
    take_back(origin, it->second);
    set_problem(origin, it->second, "");
    if (is_api_origin(origin)) --api_documents_;
    documents_.erase(it);
  }
  if (!is_api_origin(origin)) ::unlink(copy_path(origin).c_str());
}

void Documents::unreadable(const std::string& origin, const std::string& path, const Error& error) {
  fall_back(origin, path, entry_of(origin), fmt::format("{}: {}", path, error.context));
}

Documents::Counts Documents::count(bool api) const {
  Counts counts;
  auto count_in = [&](const std::set<std::string>& origins) {
    return static_cast<std::size_t>(
        std::ranges::count_if(origins, [&](const auto& origin) { return is_api_origin(origin) == api; }));
  };
  counts.documents = api ? api_documents_ : documents_.size() - api_documents_;
  counts.objects = api ? objects_.all().size() - file_of_.size() : file_of_.size();
  counts.bad = count_in(with_problem_);
  for (const auto& origin : with_invalid_)
    if (is_api_origin(origin) == api) counts.objects += documents_.at(origin).invalid.size();
  return counts;
}

std::vector<std::string> Documents::problems() const {
  std::vector<std::string> found;
  found.reserve(with_problem_.size() + shadowed_.size());
  for (const auto& origin : with_problem_) found.push_back(documents_.at(origin).problem);
  for (const auto& [key, origins] : shadowed_) {
    auto holder = file_of_.find(key);
    if (holder == file_of_.end()) continue;  // a conflict
    for (const auto& origin : origins)
      found.push_back(fmt::format("{} stands in {} and in {}; the first is in force", policy::to_string(key),
                                  where_of(key), where_of(key, origin)));
  }
  return found;
}

std::map<policy::ObjectKey, std::string> Documents::conflicts() const {
  std::map<policy::ObjectKey, std::string> found;
  for (const auto& [key, origins] : shadowed_) {
    if (file_of_.contains(key)) continue;
    found.emplace(key, fmt::format("{} stands in the API server and in {}; the API server's is in force",
                                   policy::to_string(key), where_of(key, *origins.begin())));
  }
  return found;
}

const std::string& Documents::where_of(const policy::ObjectKey& key) const {
  return policy::meta_of(objects_.all().at(key)).where.file;
}

const std::string& Documents::where_of(const policy::ObjectKey& key, const std::string& origin) const {
  return policy::meta_of(*std::ranges::find(documents_.at(origin).shadowed, key, policy::key_of)).where.file;
}

std::optional<identity::Changes> Documents::take_changes() {
  (void)objects();  // that the invalid ones are listed
  return objects_.take_changes();
}

const identity::ObjectSet& Documents::objects() const {
  if (invalid_listed_) return objects_;
  std::vector<identity::InvalidPolicy> listed;
  for (const auto& origin : with_invalid_)
    for (const auto& invalid : documents_.at(origin).invalid)
      listed.push_back({{invalid.key.ns, invalid.key.name}, invalid.target_name, invalid.message, origin});
  objects_.set_invalid(std::move(listed));
  invalid_listed_ = true;
  return objects_;
}

}  // namespace casa::app

#include "app/documents.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <openssl/evp.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <fstream>
#include <set>
#include <sstream>

#include "base/fd.h"

namespace casa::app {
namespace {

policy::Syntax syntax_of(source::Format format) {
  return format == source::Format::kJson ? policy::Syntax::kJson : policy::Syntax::kYaml;
}

std::string first_error(const policy::ParseResult& result) {
  for (const auto& diagnostic : result.diagnostics)
    if (diagnostic.severity == policy::Diagnostic::Severity::kError) return policy::to_string(diagnostic);
  return {};
}

Status write_file(const std::string& path, std::string_view bytes) {
  std::string next = path + ".next";
  Fd fd(::open(next.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600));
  if (!fd) return fail_errno(errno, "cannot write {}", next);
  while (!bytes.empty()) {
    ssize_t n = ::write(fd.get(), bytes.data(), bytes.size());
    if (n < 0) return fail_errno(errno, "cannot write {}", next);
    bytes.remove_prefix(static_cast<std::size_t>(n));
  }
  if (::rename(next.c_str(), path.c_str()) != 0) return fail_errno(errno, "cannot rename {}", next);
  return {};
}

}  // namespace

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
  return write_file(path, document.bytes);
}

void Documents::fall_back(const std::string& origin, const std::string& path, Entry& entry, std::string problem) {
  if (!entry.has_good) {
    std::ifstream copy(copy_path(origin), std::ios::binary);
    if (copy.is_open()) {
      std::string bytes((std::istreambuf_iterator<char>(copy)), {});
      policy::ParseResult result = policy::parse_text(path, bytes, policy::syntax_of(origin));
      if (result.syntax_ok) {
        entry.good = std::move(result);
        entry.has_good = true;
      }
    }
  }
  entry.problem = problem + (entry.has_good ? "; what it said before stays in force" : "; nothing of it is in force");
}

Status Documents::upsert(const source::Document& document) {
  policy::ParseResult result = policy::parse_text(document.path, document.bytes, syntax_of(document.format));
  merged_ = false;
  Entry& entry = documents_[document.origin];
  if (!result.syntax_ok) {
    fall_back(document.origin, document.path, entry, first_error(result));
    // Nothing good is known of it: the policies that can still be made out count as invalid, so their workloads are denied.
    if (!entry.has_good) entry.good.invalid = std::move(result.invalid);
    return {};
  }
  // An emptied file is more often a save that broke off than a wish; to take its objects back, delete it.
  if (result.objects.empty() && result.invalid.empty() && result.ok()) {
    fall_back(document.origin, document.path, entry,
              fmt::format("{}: the file has no object any more; delete it to take its objects back", document.path));
    if (!entry.good.objects.empty() || !entry.good.invalid.empty()) return {};
  }
  entry.problem = result.ok() ? "" : first_error(result);
  entry.good = std::move(result);
  entry.has_good = true;
  return keep_copy(document);
}

void Documents::remove(const std::string& origin) {
  merged_ = false;
  documents_.erase(origin);
  ::unlink(copy_path(origin).c_str());
}

void Documents::unreadable(const std::string& origin, const std::string& path, const Error& error) {
  merged_ = false;
  fall_back(origin, path, documents_[origin], fmt::format("{}: {}", path, error.context));
}

std::size_t Documents::bad() const {
  std::size_t count = 0;
  for (const auto& [origin, entry] : documents_) count += entry.problem.empty() ? 0 : 1;
  return count;
}

std::vector<std::string> Documents::problems() const {
  std::vector<std::string> found;
  for (const auto& [origin, entry] : documents_)
    if (!entry.problem.empty()) found.push_back(entry.problem);
  std::map<policy::ObjectKey, std::string> seen;
  for (const auto& [origin, entry] : documents_) {
    for (const auto& object : entry.good.objects) {
      auto [it, fresh] = seen.emplace(policy::key_of(object), policy::meta_of(object).where.file);
      if (!fresh)
        found.push_back(fmt::format("{} stands in {} and in {}; the first is in force", policy::to_string(it->first),
                                    it->second, policy::meta_of(object).where.file));
    }
  }
  return found;
}

const identity::ObjectSet& Documents::objects() const {
  if (merged_) return objects_;
  identity::ObjectSet set;
  for (const auto& [origin, entry] : documents_) {
    for (const auto& object : entry.good.objects) set.objects.emplace(policy::key_of(object), object);
    for (const auto& invalid : entry.good.invalid)
      set.invalid.push_back({{invalid.key.ns, invalid.key.name}, invalid.target_name, invalid.message, origin});
  }
  objects_ = std::move(set);
  merged_ = true;
  return objects_;
}

}  // namespace casa::app

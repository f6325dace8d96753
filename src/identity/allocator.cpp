#include "identity/allocator.h"

#include <fcntl.h>
#include <fmt/format.h>

#include <charconv>
#include <fstream>

#include "base/file.h"
#include "casa/abi/policy.h"
#include "casa/abi/types.h"

namespace casa::identity {
namespace {

constexpr std::string_view kHeader = "casad-identities 1";

std::uint32_t fnv1a(std::string_view text) {
  std::uint32_t hash = 2166136261u;
  for (unsigned char c : text) hash = (hash ^ c) * 16777619u;
  return hash;
}

std::string key_of(NameKind kind, std::string_view ns, std::string_view name) {
  return fmt::format("{}\t{}\t{}", static_cast<int>(kind), ns, name);
}

struct Range {
  std::uint32_t first, last;
};
Range range_of(bool policy) { return policy ? Range{1, CASA_MAX_RULES} : Range{CASA_ID_FIRST, 0x7fffffffu}; }

}  // namespace

std::uint32_t Allocator::number_of(NameKind kind, std::string_view ns, std::string_view name) {
  std::string key = key_of(kind, ns, name);
  auto known = numbers_.find(key);
  if (known != numbers_.end()) return known->second;
  bool policy = kind == NameKind::kPolicy;
  auto& taken = policy ? policies_ : identities_;
  Range range = range_of(policy);
  std::uint32_t number = range.first + fnv1a(key) % (range.last - range.first + 1);
  while (taken.contains(number)) number = number == range.last ? range.first : number + 1;
  taken.emplace(number, key);
  unsaved_.push_back(key);
  numbers_.emplace(std::move(key), number);
  return number;
}

std::optional<policy::NamespacedName> Allocator::workload_of(std::uint32_t number) const {
  auto it = identities_.find(number);
  if (it == identities_.end()) return std::nullopt;
  std::string_view key = it->second;
  std::string kind = fmt::format("{}\t", static_cast<int>(NameKind::kWorkload));
  if (!key.starts_with(kind)) return std::nullopt;
  key.remove_prefix(kind.size());
  auto tab = key.find('\t');
  if (tab == std::string_view::npos) return std::nullopt;
  return policy::NamespacedName{std::string(key.substr(0, tab)), std::string(key.substr(tab + 1))};
}

Status Allocator::load(const std::string& path) {
  std::ifstream in(path);
  if (!in) return {};
  std::string line;
  if (!std::getline(in, line)) return {};
  if (line != kHeader)
    return fail(ErrorCode::kInvalidArgument, "{} is no identity file of this version (first line is not '{}')", path,
                kHeader);
  std::size_t number_of_line = 1;
  while (std::getline(in, line)) {
    if (in.eof()) break;  // a crash while it was written: no kernel has that number
    ++number_of_line;
    auto tab = line.find('\t');
    std::uint32_t number = 0;
    auto [end, ec] = std::from_chars(line.data(), line.data() + std::min(tab, line.size()), number);
    if (tab == std::string::npos || ec != std::errc{} || end != line.data() + tab || line.size() < tab + 2)
      return fail(ErrorCode::kInvalidArgument,
                  "{}:{} cannot be read; remove the file only together with `casad detach`", path, number_of_line);
    std::string key = line.substr(tab + 1);
    bool policy = key[0] == '0' + static_cast<int>(NameKind::kPolicy);
    if (!(policy ? policies_ : identities_).emplace(number, key).second)
      return fail(ErrorCode::kInvalidArgument,
                  "{}:{} gives number {} twice; remove the file only together with `casad detach`", path,
                  number_of_line, number);
    numbers_[key] = number;
  }
  return {};
}

Status Allocator::save(const std::string& path) {
  if (unsaved_.empty()) return {};
  Status saved = whole_ ? save_whole(path) : append(path);
  if (!saved && !whole_) saved = save_whole(path);  // it was taken away, or the disk was full
  whole_ = !saved;                                  // what was begun may end in half a line
  if (saved) unsaved_.clear();
  return saved;
}

Status Allocator::save_whole(const std::string& path) const {
  std::string text(kHeader);
  text += '\n';
  for (const auto& [key, number] : numbers_) text += fmt::format("{}\t{}\n", number, key);
  return replace_file(path, text);
}

// A Pod without an owner, of which there may be very many, is a number each.
Status Allocator::append(const std::string& path) const {
  Fd fd(::open(path.c_str(), O_WRONLY | O_APPEND | O_CLOEXEC));
  if (!fd) return fail_errno(errno, "cannot write {}", path);
  std::string text;
  for (const auto& key : unsaved_) text += fmt::format("{}\t{}\n", numbers_.at(key), key);
  return write_all(fd, text, path);
}

}  // namespace casa::identity

// See names.h: the rules of Kubernetes names and of cgroup paths. The advice is the nearest valid name where there is one.
// A cgroup path is only checked as text here: whether it exists is for identity/ to see, and it may come to exist any
// time.
#include "policy/names.h"

#include <algorithm>

#include "policy/report.h"

namespace casa::policy {
namespace {

constexpr std::size_t kMaxLabel = 63, kMaxName = 253, kMaxPortName = 15, kMaxCgroupPath = 255, kMaxUid = 64;

bool is_lower_alnum(char c) { return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9'); }
bool is_alnum(char c) { return is_lower_alnum(c) || (c >= 'A' && c <= 'Z'); }

bool is_label(std::string_view t) {
  if (t.empty() || t.size() > kMaxLabel || !is_lower_alnum(t.front()) || !is_lower_alnum(t.back())) return false;
  return std::ranges::all_of(t, [](char c) { return is_lower_alnum(c) || c == '-'; });
}

// The nearest valid name, or `fallback`.
std::string suggest(std::string_view text, std::string_view fallback, std::size_t max, bool dots) {
  std::string out;
  for (char c : text.substr(0, std::min(text.size(), max))) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
    bool keep = is_lower_alnum(c) || (dots && c == '.' && !out.empty() && is_lower_alnum(out.back()));
    if (keep) {
      out += c;
    } else if (!out.empty() && out.back() != '-' && out.back() != '.') {
      out += '-';
    }
  }
  while (!out.empty() && !is_lower_alnum(out.back())) out.pop_back();
  return out.empty() ? std::string(fallback) : out;
}

bool is_qualified_part(std::string_view t) {
  if (t.empty() || t.size() > kMaxLabel || !is_alnum(t.front()) || !is_alnum(t.back())) return false;
  return std::ranges::all_of(t, [](char c) { return is_alnum(c) || c == '-' || c == '_' || c == '.'; });
}

bool is_subdomain(std::string_view name) {
  if (name.empty() || name.size() > kMaxName) return false;
  while (true) {
    auto dot = name.find('.');
    if (!is_label(name.substr(0, dot))) return false;
    if (dot == std::string_view::npos) return true;
    name.remove_prefix(dot + 1);
  }
}

}  // namespace

std::string check_subdomain(std::string_view name) {
  if (is_subdomain(name)) return {};
  if (name.size() > kMaxName) {
    return fmt::format("{} is longer than {} characters; write a shorter name", Quoted{name}, kMaxName);
  }
  return fmt::format(
      "{} is not a Kubernetes name (lower-case letters, digits, '-' and '.', each part up to 63); write {}",
      Quoted{name}, suggest(name, "my-agent", kMaxLabel, true));
}

std::string check_label_name(std::string_view name) {
  if (is_label(name)) return {};
  if (name.size() > kMaxLabel) {
    return fmt::format("{} is longer than {} characters; write a shorter name", Quoted{name}, kMaxLabel);
  }
  return fmt::format("{} is not a namespace's name (lower-case letters, digits and '-'); write {}", Quoted{name},
                     suggest(name, "team-a", kMaxLabel, false));
}

std::string check_service_name(std::string_view name) {
  if (is_label(name) && name[0] >= 'a') return {};
  if (name.size() > kMaxLabel) {
    return fmt::format("{} is longer than {} characters; write the Service's short name", Quoted{name}, kMaxLabel);
  }
  if (name.find('.') != std::string_view::npos && is_subdomain(name)) {
    return fmt::format("{} is a DNS name, not a Service's name; write {}, and its namespace in namespace", Quoted{name},
                       name.substr(0, name.find('.')));
  }
  if (name.find('*') != std::string_view::npos) {
    return fmt::format("{} is a pattern, and every Service is named on its own; write one entry for each Service",
                       Quoted{name});
  }
  std::string better = suggest(name, "my-service", kMaxLabel, false);
  if (better[0] >= '0' && better[0] <= '9') better.insert(0, "svc-");
  return fmt::format("{} is not a Service's name (a letter, then lower-case letters, digits and '-'); write {}",
                     Quoted{name}, better);
}

std::string check_port_name(std::string_view name) {
  bool letter = std::ranges::any_of(name, [](char c) { return c >= 'a' && c <= 'z'; });
  if (is_label(name) && name.size() <= kMaxPortName && letter && name.find("--") == std::string_view::npos) return {};
  return fmt::format(
      "{} is not a port's name (lower-case letters, digits and '-', at most {}, with a letter); write {}", Quoted{name},
      kMaxPortName, letter ? suggest(name, "http", kMaxPortName, false) : "http");
}

std::string check_key(std::string_view key) {
  auto slash = key.find('/');
  std::string_view part = slash == std::string_view::npos ? key : key.substr(slash + 1);
  bool prefix_good = slash == std::string_view::npos || is_subdomain(key.substr(0, slash));
  if (prefix_good && is_qualified_part(part)) return {};
  return fmt::format("{} is not a label's or annotation's key; write name or example.com/name", Quoted{key});
}

std::string check_label_value(std::string_view value) {
  if (value.empty() || is_qualified_part(value)) return {};
  return fmt::format(
      "{} is not a label's value; write at most 63 letters, digits, '-', '_' and '.', or use an annotation",
      Quoted{value});
}

std::string check_uid(std::string_view uid) {
  bool good = std::ranges::all_of(uid, [](char c) { return is_alnum(c) || c == '-'; });
  if (good && !uid.empty() && uid.size() <= kMaxUid) return {};
  return fmt::format(
      "{} is not a uid (letters, digits and '-', at most {}); write the one that the cluster gave it, or "
      "leave it out",
      Quoted{uid}, kMaxUid);
}

std::string check_cgroup_path(std::string_view path) {
  if (path.empty()) return "the path is empty; write a path below the cgroup2 root, such as agents.slice/a.service";
  if (path.size() > kMaxCgroupPath) {
    return fmt::format("the path is longer than {} bytes; write a shorter one", kMaxCgroupPath);
  }
  if (std::ranges::any_of(path, [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7f; })) {
    return fmt::format("{} contains a control character; remove it", Quoted{path});
  }
  if (path.front() == '/') {
    auto begin = path.find_first_not_of('/');
    std::string_view better = begin == std::string_view::npos ? "agents.slice/a.service" : path.substr(begin);
    if (better.starts_with("sys/fs/cgroup/")) better.remove_prefix(14);
    return fmt::format("{} begins with '/'; write it below the cgroup2 root: {}", Quoted{path}, Raw{better});
  }
  for (std::size_t begin = 0; begin <= path.size();) {
    auto end = std::min(path.find('/', begin), path.size());
    std::string_view part = path.substr(begin, end - begin);
    if (part.empty() || part == "." || part == "..") {
      return fmt::format("{} has the component {}; write the plain path of the cgroup, such as agents.slice/a.service",
                         Quoted{path}, Quoted{part});
    }
    begin = end + 1;
  }
  return {};
}

}  // namespace casa::policy

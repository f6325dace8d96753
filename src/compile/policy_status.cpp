#include "compile/policy_status.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cstdint>

namespace casa::compile {
namespace {

constexpr std::size_t kMaxNodesNamed = 5;
constexpr std::string_view kRemark = " [", kFailedMark = " failed", kRemarkText = ": ";

// A node's own words about a policy, as they stand in a message.
struct Remark {
  std::string node, text;
  bool failed = false;
};

std::string to_string(const Remark& remark) {
  return fmt::format("{}{}{}{}{}]", kRemark, remark.node, remark.failed ? kFailedMark : "", kRemarkText, remark.text);
}

// What somebody else wrote is not trusted to be of this form.
std::vector<Remark> remarks_of(std::string_view message) {
  std::vector<Remark> found;
  for (auto at = message.find(kRemark); at != std::string_view::npos;) {
    auto next = message.find(kRemark, at + 1);
    std::string_view part =
        message.substr(at + kRemark.size(), next == std::string_view::npos ? next : next - at - kRemark.size());
    at = next;
    auto colon = part.find(kRemarkText);
    if (colon == std::string_view::npos || !part.ends_with(']')) continue;
    Remark remark;
    std::string_view head = part.substr(0, colon);
    remark.failed = head.ends_with(kFailedMark);
    if (remark.failed) head.remove_suffix(kFailedMark.size());
    remark.node = head;
    remark.text = part.substr(colon + kRemarkText.size(), part.size() - colon - kRemarkText.size() - 1);
    if (remark.node.find_first_of(" []") == std::string::npos) found.push_back(std::move(remark));
  }
  return found;
}

std::string remark_of(std::string_view message, std::string_view node) {
  for (const auto& remark : remarks_of(message))
    if (remark.node == node) return to_string(remark);
  return {};
}

// Square brackets would end a remark.
std::string without_brackets(std::string text) {
  std::ranges::replace(text, '[', '(');
  std::ranges::replace(text, ']', ')');
  return text;
}

bool is_exempt(const PolicyReport& report, const identity::Snapshot& snapshot) {
  auto workload = snapshot.workloads.find(report.workload);
  return workload != snapshot.workloads.end() && workload->second.exempt;
}

const std::set<std::string>& nodes_of(const PolicyReport& report, const identity::Snapshot& snapshot) {
  static const std::set<std::string> none;
  auto workload = snapshot.workloads.find(report.workload);
  return workload == snapshot.workloads.end() ? none : workload->second.nodes;
}

std::string plural(std::size_t count) { return fmt::format("{} node{}", count, count == 1 ? "" : "s"); }

std::string where_enforced(const PolicyReport& report, const identity::Snapshot& snapshot,
                           const std::set<std::string>& nodes) {
  const char* what = report.enforcement == "audit" ? "audited" : "enforced";
  if (!snapshot.enforcing_nodes) return fmt::format("{} on {}", what, plural(nodes.size()));
  std::vector<std::string> without;
  std::ranges::set_difference(nodes, *snapshot.enforcing_nodes, std::back_inserter(without));
  if (without.empty()) return fmt::format("{} on {}", what, plural(nodes.size()));
  std::size_t count = nodes.size() - without.size();
  std::string more;
  if (without.size() > kMaxNodesNamed) {
    more = fmt::format(" and {} more", without.size() - kMaxNodesNamed);
    without.resize(kMaxNodesNamed);
  }
  // What an earlier casad left in the kernel there stays in force; nobody says so from there now.
  return fmt::format("{} on {} of {}; no casad is ready on {}{}", what, count, plural(nodes.size()),
                     fmt::join(without, ", "), more);
}

// FNV-1a: the same on every node, whatever it was built with.
std::uint64_t mix(std::string_view uid, std::string_view node) {
  std::uint64_t hash = 0xcbf29ce484222325;
  for (std::string_view part : {uid, std::string_view("\0", 1), node})
    for (char c : part) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3;
  return hash;
}

}  // namespace

PolicyStatus cluster_status(const PolicyReport& report, const identity::Snapshot& snapshot, std::string_view node,
                            std::string_view current) {
  PolicyStatus status;
  const auto& nodes = nodes_of(report, snapshot);
  bool failed_everywhere = report.phase == Phase::kFailed && !report.node_failed;
  if (failed_everywhere) {
    status.phase = Phase::kFailed;
    status.message = report.notes.empty() ? report.message : fmt::format("{}", fmt::join(report.notes, "; "));
    return status;
  }
  std::vector<std::string> parts;
  if (nodes.empty())
    parts.push_back(fmt::format("target {} has no Pod yet; it is enforced the moment one appears", report.target));
  else if (!is_exempt(report, snapshot)) parts.push_back(where_enforced(report, snapshot, nodes));
  parts.insert(parts.end(), report.notes.begin(), report.notes.end());
  status.phase = nodes.empty() ? Phase::kPending : Phase::kActive;
  status.message = without_brackets(fmt::format("{}", fmt::join(parts, "; ")));

  std::map<std::string, Remark> remarks;
  for (auto& remark : remarks_of(current))
    if (remark.node != node && nodes.contains(remark.node)) remarks.emplace(remark.node, std::move(remark));
  if (!report.node_notes.empty() && nodes.contains(std::string(node)))
    remarks[std::string(node)] = {
        std::string(node), without_brackets(fmt::format("{}", fmt::join(report.node_notes, "; "))), report.node_failed};
  for (const auto& [name, remark] : remarks) {
    status.message += to_string(remark);
    if (remark.failed) status.phase = Phase::kFailed;
  }
  return status;
}

int writer_rank(const PolicyReport& report, const identity::Snapshot& snapshot, std::string_view node,
                std::string_view uid, std::string_view current, std::string_view wanted) {
  if (remark_of(current, node) != remark_of(wanted, node)) return 0;
  std::set<std::string> writers;
  const auto& nodes = nodes_of(report, snapshot);
  if (!snapshot.enforcing_nodes) {
    writers = nodes;
    if (writers.empty()) writers.insert(std::string(node));  // who else there is, nobody knows
  } else {
    std::ranges::set_intersection(nodes, *snapshot.enforcing_nodes, std::inserter(writers, writers.end()));
    if (writers.empty()) writers = *snapshot.enforcing_nodes;
  }
  if (!writers.contains(std::string(node))) return -1;
  auto own = std::pair(mix(uid, node), node);
  return static_cast<int>(std::ranges::count_if(
      writers, [&](const auto& other) { return std::pair(mix(uid, other), std::string_view(other)) < own; }));
}

}  // namespace casa::compile

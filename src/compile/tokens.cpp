#include "compile/tokens.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "casa/abi/policy.h"

namespace casa::compile {

using policy::TokenAction;
using policy::TokenRules;

void WorkloadTokens::add(const TokenRules& rules) {
  if (rules.exfiltration == TokenAction::kDrop) subject_flags |= CASA_SUBJECT_TOKEN_DROP;
  if (rules.require_valid_signature == TokenAction::kDrop) subject_flags |= CASA_SUBJECT_TOKEN_VALID;
  if (rules.tls_observer) observers.insert(*rules.tls_observer);
}

std::vector<std::string> missing_for(const TokenRules& rules, const identity::TokenFacts& node) {
  std::vector<std::string> missing;
  auto needs_reading = [&](TokenAction action, const char* field) {
    if (action == TokenAction::kDrop && !node.read)
      missing.push_back(fmt::format(
          "tokens.{}: drop needs the kernel to read requests, which this one cannot (casad doctor says why)", field));
  };
  needs_reading(rules.exfiltration, "exfiltration");
  needs_reading(rules.require_valid_signature, "requireValidSignature");
  if (rules.require_valid_signature == TokenAction::kDrop && !node.verified)
    missing.emplace_back(
        "tokens.requireValidSignature: drop needs keys to check signatures with; set tokens.signature in the config");
  return missing;
}

std::string to_text(const TokenRules& rules) {
  std::vector<std::string> parts;
  if (rules.exfiltration != TokenAction::kAlert)
    parts.push_back(fmt::format("exfiltration: {}", to_string(rules.exfiltration)));
  if (rules.require_valid_signature != TokenAction::kAlert)
    parts.push_back(fmt::format("requireValidSignature: {}", to_string(rules.require_valid_signature)));
  if (rules.tls_observer) parts.push_back(fmt::format("tlsObserver: {}", to_string(*rules.tls_observer)));
  return fmt::format("{}", fmt::join(parts, ", "));
}

}  // namespace casa::compile

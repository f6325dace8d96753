#include "dns/question.h"

#include <fmt/format.h>

namespace casa::dns {
namespace {

using Outcome = Question::Outcome;

const char* type_of(const Question& question) { return question.family == Family::kA ? "A" : "AAAA"; }

}  // namespace

std::string problem_of(const Name& name) {
  const auto& [a, aaaa] = name.questions;
  if (a.outcome == Outcome::kNone || aaaa.outcome == Outcome::kNone) return {};
  if (a.outcome == Outcome::kAddresses || aaaa.outcome == Outcome::kAddresses) {
    // A server that cannot answer for a family which the name never had takes nothing away.
    const auto& other = a.outcome == Outcome::kAddresses ? aaaa : a;
    bool lost = (other.outcome == Outcome::kNoName || other.outcome == Outcome::kFailed) && !other.good.empty();
    if (!lost) return {};
    return fmt::format("the {} records of {} cannot be renewed ({}); the last good ones are kept", type_of(other),
                       a.fqdn, other.outcome == Outcome::kNoName ? other.detail + " answers NXDOMAIN" : other.detail);
  }
  const char* kept = a.good.empty() && aaaa.good.empty() ? "" : "; the last good addresses are kept";
  for (const auto& question : name.questions) {
    if (question.outcome == Outcome::kNoName)
      return fmt::format("{} does not exist ({} answers NXDOMAIN){}", a.fqdn, question.detail, kept);
  }
  for (const auto& question : name.questions) {
    if (question.outcome == Outcome::kFailed)
      return fmt::format("{} cannot be resolved ({}){}", a.fqdn, question.detail, kept);
  }
  return fmt::format("{} has no address ({} answers with neither A nor AAAA records){}", a.fqdn, a.detail, kept);
}

}  // namespace casa::dns

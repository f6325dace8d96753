// What the resolver knows of one name: two questions, A and AAAA, each with its last outcome, and what to say of both.
// Pure state; resolver.cpp decides when to ask.
#pragma once

#include <array>
#include <chrono>
#include <cstddef>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "dns/attempt.h"
#include "dns/resolv_conf.h"

namespace casa::dns {

struct Question {
  enum class Outcome { kNone, kAddresses, kNoData, kNoName, kFailed };
  using Time = std::chrono::steady_clock::time_point;

  std::string fqdn;
  Family family = Family::kA;

  Outcome outcome = Outcome::kNone;  // of the last round over the servers that came to an end
  std::vector<Record> good;          // of the last answer with addresses
  Time good_at{};
  std::string detail;     // kNoData, kNoName: the server; kFailed: what each server did
  unsigned failures = 0;  // in a row

  Time due = Time::max();  // when it is asked next; while it is asked: since when it was to be
  bool queued = false;
  std::shared_ptr<Attempt> attempt;             // under way
  std::size_t first_server = 0;                 // of this round
  unsigned tried = 0;                           // in this round
  std::map<std::size_t, std::string> refusals;  // of this round, by server
};

struct Name {
  std::array<Question, 2> questions;  // A, AAAA
  std::string problem;                // as told last
  bool resolved = false;

  [[nodiscard]] Question& sibling(const Question& question) { return questions[question.family == Family::kA ? 1 : 0]; }
};

// One sentence about what keeps the name from being known, empty when it is known or not answered yet.
std::string problem_of(const Name& name);

}  // namespace casa::dns

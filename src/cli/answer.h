// What the client commands share: asking, and turning an answer that is no success into words and an exit code.
#pragma once

#include <cstdio>
#include <string>

#include "cli/http_client.h"

namespace casa::cli {

inline constexpr int kExitDone = 0;
inline constexpr int kExitNo = 1;
inline constexpr int kExitUsage = 2;

// The sentence of a problem document, or one made of the status. Safe to print.
std::string problem_sentence(const Response& response);
// Prints it; returns the exit code.
int report_problem(std::FILE* err, const Response& response);
int report_error(std::FILE* err, const Error& error);
// The daemon is there and what it says is not what this program knows.
Error not_understood(const char* what);

}  // namespace casa::cli

// The subcommands that ask the running daemon over its Unix socket: status, flows, tokens, alerts, explain. They print for people, or
// pass the API's JSON on. What the daemon says is not trusted with the terminal: process names are the attacker's
// words. Exit codes: 0 done (explain: it may pass; status: ready), 1 failed or answered "no", 2 the question was
// wrong.
#pragma once

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdio>
#include <string>

namespace casa::cli {

inline constexpr const char* kDefaultApiSocket = "/run/casad/casad.sock";

struct StatusOptions {
  std::string api_socket = kDefaultApiSocket;
  bool json = false;
  bool alive = false;  // only whether the daemon answers, ready or not
  std::FILE* out = stdout;
  std::FILE* err = stderr;
};
int run_status(const StatusOptions& options);

struct FlowsOptions {
  std::string api_socket = kDefaultApiSocket;
  bool json = false;    // one JSON object a line, as the API has it
  bool follow = false;  // go on with each new row, and each row that changed (for people: in more than its counters)
  // Filters as the API takes them; empty: all.
  std::string ns, workload, verdict, reason, direction, since;
  std::size_t limit = 0;  // newest rows to show; 0: 100, or 10 to begin with when following
  std::chrono::milliseconds interval{500};
  const std::atomic<bool>* stop = nullptr;  // ends following when it becomes true
  std::FILE* out = stdout;
  std::FILE* err = stderr;
};
int run_flows(const FlowsOptions& options);

// `tokens` and `alerts`.
struct TokensOptions {
  std::string api_socket = kDefaultApiSocket;
  bool json = false;    // one JSON object a line, as the API has it
  bool follow = false;  // tokens: each sighting from now on; alerts: the newest, then each that is new or found again
  std::string sha256;   // tokens: this one, with its path
  // Filters as the API takes them; empty: all.
  std::string ns, workload, since;
  std::string kind;                          // alerts
  std::size_t limit = 0;                     // newest rows to show; 0: 100, or 10 to begin with when following
  std::chrono::milliseconds interval{2000};  // between attempts to reach a daemon that is away
  const std::atomic<bool>* stop = nullptr;   // ends following when it becomes true
  std::FILE* out = stdout;
  std::FILE* err = stderr;
};
int run_tokens(const TokensOptions& options);
int run_alerts(const TokensOptions& options);

struct ExplainOptions {
  std::string api_socket = kDefaultApiSocket;
  std::string from, to;
  std::string protocol = "tcp";
  bool baseline = false;  // instead of from and to
  bool json = false;
  std::FILE* out = stdout;
  std::FILE* err = stderr;
};
int run_explain(const ExplainOptions& options);

}  // namespace casa::cli

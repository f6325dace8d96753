// The command line: flags to a Config or a query, subcommands to the rooms that do the work. Exit codes: 0 done, 1 failed
// or answered "no", 2 wrong usage.
#include <CLI/CLI.hpp>
#include <fmt/format.h>

#include <cstdio>
#include <exception>
#include <string>
#include <vector>

#include "app/config.h"
#include "app/daemon.h"
#include "base/json.h"
#include "base/log.h"
#include "casa_version.h"
#include "cli/check.h"
#include "cli/client.h"
#include "compile/explain.h"
#include "datapath/datapath.h"

namespace {

using casa::app::Config;

constexpr int kExitFailed = 1;
constexpr int kExitUsage = 2;

int report(const casa::Error& error) {
  fmt::print(stderr, "casad: {}\n", error.context);
  return error.code == casa::ErrorCode::kInvalidArgument ? kExitUsage : kExitFailed;
}

// Flags win over the config file: they are kept apart until the file is read.
struct RunFlags {
  std::string config_path = casa::app::kDefaultConfigPath;
  std::string policy_dir, api_socket, cgroup_root, bpffs, state_dir, log_level, enforcement;
};

void add_run_flags(CLI::App& app, RunFlags& flags) {
  app.add_option("--config", flags.config_path, "configuration file")->capture_default_str();
  app.add_option("--policy-dir", flags.policy_dir, "directory with policy files (policyDir)");
  app.add_option("--api-socket", flags.api_socket, "Unix socket of the REST API (apiSocket)");
  app.add_option("--cgroup-root", flags.cgroup_root, "cgroup2 directory to enforce below (cgroupRoot); default: the cgroup2 mount");
  app.add_option("--bpffs", flags.bpffs, "directory for pins in a bpf file system (bpffs)");
  app.add_option("--state-dir", flags.state_dir, "directory for state (stateDir)");
  app.add_option("--log-level", flags.log_level, "trace, debug, info, warning or error (logLevel)");
  app.add_option("--enforcement", flags.enforcement, "enforce, or audit for the whole node (enforcement)")->check(CLI::IsMember({"enforce", "audit"}));
}

casa::Result<Config> make_config(const CLI::App& app, const RunFlags& flags) {
  Config config;
  TRY(casa::app::read_config(flags.config_path, app.count("--config") != 0, config));
  auto take = [](const std::string& flag, std::string& into) {
    if (!flag.empty()) into = flag;
  };
  take(flags.policy_dir, config.policy_dir);
  take(flags.api_socket, config.api_socket);
  take(flags.cgroup_root, config.cgroup_root);
  take(flags.bpffs, config.bpffs);
  take(flags.state_dir, config.state_dir);
  take(flags.log_level, config.log_level);
  if (!flags.enforcement.empty()) config.audit = flags.enforcement == "audit";
  return config;
}

int run_daemon(const CLI::App& app, const RunFlags& flags) {
  auto config = make_config(app, flags);
  if (!config) return report(config.error());
  if (!casa::init_log(config->log_level.c_str())) return report({casa::ErrorCode::kInvalidArgument, fmt::format("log level '{}' is unknown; write trace, debug, info, warning or error", config->log_level)});
  casa::app::Daemon daemon(*config);
  if (auto done = daemon.run(); !done) return report(done.error());
  return 0;
}

int run_detach(const CLI::App& app, const RunFlags& flags) {
  auto config = make_config(app, flags);
  if (!config) return report(config.error());
  if (auto done = casa::datapath::detach(config->bpffs); !done) return report(done.error());
  fmt::print("enforcement has ended: nothing is pinned under {} any more\n", config->bpffs);
  return 0;
}

int run_doctor(bool json) {
  bool healthy = true;
  auto probes = casa::datapath::probe_kernel();
  auto costs = casa::datapath::verifier_costs();
  casa::JsonWriter out;
  out.begin_object().key("features").begin_array();
  for (const auto& probe : probes) {
    healthy = healthy && (probe.works || !probe.required);
    out.begin_object().field("name", probe.feature).field("works", probe.works).field("required", probe.required).field("detail", probe.detail).end_object();
    if (!json) fmt::print("{:<10} {}{}{}\n", probe.works ? "ok" : probe.required ? "MISSING" : "off", probe.feature, probe.detail.empty() ? "" : ": ", probe.detail);
  }
  out.end_array().key("programs").begin_array();
  if (costs) {
    for (const auto& cost : *costs) {
      out.begin_object().field("name", cost.program).field("verifiedInstructions", cost.verified_instructions).end_object();
      if (!json) fmt::print("program    {:<16} {:>8} instructions verified\n", cost.program, cost.verified_instructions);
    }
  }
  out.end_array().field("healthy", healthy).end_object();
  if (json) fmt::print("{}\n", out.str());
  else fmt::print("{}\n", healthy ? "this kernel can enforce" : "this kernel, or these rights, cannot enforce: see above");
  return healthy ? 0 : kExitFailed;
}

int run_baseline(bool json) {
  casa::JsonWriter out;
  out.begin_object().key("baseline").begin_array();
  for (const auto& rule : casa::compile::baseline()) {
    if (!json) fmt::print("{}\n", rule);
    out.value(rule);
  }
  out.end_array().end_object();
  if (json) fmt::print("{}\n", out.str());
  return 0;
}

}  // namespace

// The command line: flags to a Config or a query, subcommands to the rooms that do the work. Exit codes: 0 done, 1 failed
// or answered "no", 2 wrong usage.
#include <fmt/format.h>
#include <CLI/CLI.hpp>

#include <cstdio>
#include <exception>
#include <string>
#include <vector>

#include "app/config.h"
#include "app/daemon.h"
#include "base/json.h"
#include "base/log.h"
#include "casa/abi/limits.h"
#include "casa_version.h"
#include "cli/check.h"
#include "cli/client.h"
#include "cli/render.h"
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
  std::string policy_dir, api_socket, cgroup_root, bpffs, state_dir, log_level, enforcement, resolv_conf;
  std::string jwks, jwks_ca, node_name, kubeconfig;
  bool strict = false, in_cluster = false;
};

void add_run_flags(CLI::App& app, RunFlags& flags) {
  app.add_option("--config", flags.config_path, "configuration file")->capture_default_str();
  app.add_option("--policy-dir", flags.policy_dir, "directory with policy files (policyDir)");
  app.add_option("--api-socket", flags.api_socket, "Unix socket of the REST API (apiSocket)");
  app.add_option("--cgroup-root", flags.cgroup_root,
                 "cgroup2 directory to enforce below (cgroupRoot); default: the cgroup2 mount");
  app.add_option("--bpffs", flags.bpffs, "directory for pins in a bpf file system (bpffs)");
  app.add_option("--state-dir", flags.state_dir, "directory for state (stateDir)");
  app.add_option("--log-level", flags.log_level, "trace, debug, info, warning or error (logLevel)");
  app.add_option("--resolv-conf", flags.resolv_conf,
                 "names the trusted resolvers and the search list (dns.resolvConf)");
  app.add_option("--jwks", flags.jwks,
                 "checks the signatures of tokens: file or https URL of the keys (tokens.signature.jwks, enabled)");
  app.add_option("--jwks-ca", flags.jwks_ca, "PEM file of that URL's certificate authorities (tokens.signature.ca)");
  app.add_option("--enforcement", flags.enforcement, "enforce, or audit for the whole node (enforcement)")
      ->check(CLI::IsMember({"enforce", "audit"}));
  app.add_option("--node-name", flags.node_name,
                 "this node of a Kubernetes cluster, as in spec.nodeName of its Pods (kubernetes.nodeName)");
  app.add_flag("--strict", flags.strict, "denies everything to a Pod that is not known yet (kubernetes.strict)");
  app.add_option("--kubeconfig", flags.kubeconfig,
                 "takes objects from the API server that this file names, too (kubernetes.kubeconfig)");
  app.add_flag("--in-cluster", flags.in_cluster, "the same as the Pod's service account says (kubernetes.inCluster)");
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
  take(flags.resolv_conf, config.resolv_conf);
  take(flags.jwks, config.tokens.signature.jwks);
  take(flags.jwks_ca, config.tokens.signature.ca);
  if (!flags.jwks.empty()) config.tokens.signature.enabled = true;
  if (!flags.enforcement.empty()) config.audit = flags.enforcement == "audit";
  take(flags.node_name, config.kubernetes.node_name);
  take(flags.kubeconfig, config.kubernetes.kubeconfig);
  config.kubernetes.in_cluster = config.kubernetes.in_cluster || flags.in_cluster;
  config.kubernetes.strict = config.kubernetes.strict || flags.strict;
  TRY(casa::app::check_config(config));
  return config;
}

int run_daemon(const CLI::App& app, const RunFlags& flags) {
  auto config = make_config(app, flags);
  if (!config) return report(config.error());
  if (!casa::init_log(config->log_level.c_str()))
    return report(
        {casa::ErrorCode::kInvalidArgument,
         fmt::format("log level '{}' is unknown; write trace, debug, info, warning or error", config->log_level)});
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
  const auto [probes, costs] = casa::datapath::probe_kernel();
  casa::JsonWriter out;
  out.begin_object().key("features").begin_array();
  for (const auto& probe : probes) {
    healthy = healthy && (probe.works || !probe.required);
    out.begin_object()
        .field("name", probe.feature)
        .field("works", probe.works)
        .field("required", probe.required)
        .field("detail", probe.detail)
        .end_object();
    if (!json)
      fmt::print("{:<10} {}{}{}\n",
                 probe.works      ? "ok"
                 : probe.required ? "MISSING"
                                  : "off",
                 probe.feature, probe.detail.empty() ? "" : ": ", probe.detail);
  }
  out.end_array().key("programs").begin_array();
  for (const auto& cost : costs) {
    out.begin_object()
        .field("name", cost.program)
        .field("verifiedInstructions", cost.verified_instructions)
        .end_object();
    if (!json) fmt::print("program    {:<16} {:>8} instructions verified\n", cost.program, cost.verified_instructions);
  }
  out.end_array().field("healthy", healthy).end_object();
  if (json) fmt::print("{}\n", out.str());
  else
    fmt::print("{}\n", healthy ? "this kernel can enforce" : "this kernel, or these rights, cannot enforce: see above");
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

struct Choices {
  RunFlags run;
  std::vector<std::string> check_paths;
  casa::cli::RenderCommand render;
  casa::cli::StatusOptions status;
  casa::cli::FlowsOptions flows;
  casa::cli::TokensOptions tokens, alerts;
  casa::cli::ExplainOptions explain;
  bool doctor_json = false;
};

void add_api_socket(CLI::App& app, std::string& socket) {
  app.add_option("--api-socket", socket, "Unix socket of the daemon")->capture_default_str();
}

void add_flows(CLI::App& app, casa::cli::FlowsOptions& flows) {
  add_api_socket(app, flows.api_socket);
  app.add_flag("--follow", flows.follow, "go on with new flows");
  app.add_flag("--json", flows.json, "one JSON object a line");
  app.add_option("--namespace", flows.ns, "of either end");
  app.add_option("--workload", flows.workload, "of either end: NAME or NAMESPACE/NAME");
  app.add_option("--verdict", flows.verdict, "ALLOWED, DENIED or AUDIT");
  app.add_option("--reason", flows.reason, "as in docs/reasons.md");
  app.add_option("--direction", flows.direction, "egress or ingress");
  app.add_option("--since", flows.since, "RFC 3339, or back from now: 90s, 15m, 2h, 1d");
  app.add_option("--limit", flows.limit, "newest rows to show (default 100; with --follow, 10 to begin with)");
}

// What `tokens` and `alerts` have in common.
void add_tokens(CLI::App& app, casa::cli::TokensOptions& options, const char* follow) {
  add_api_socket(app, options.api_socket);
  app.add_flag("--follow", options.follow, follow);
  app.add_flag("--json", options.json, "one JSON object a line");
  app.add_option("--namespace", options.ns, "of either end");
  app.add_option("--workload", options.workload, "of either end: NAME or NAMESPACE/NAME");
  app.add_option("--since", options.since, "RFC 3339, or back from now: 90s, 15m, 2h, 1d");
  app.add_option("--limit", options.limit, "newest rows to show (default 100; alerts --follow: 10 to begin with)");
}

CLI::App* add_render(CLI::App& render, const char* name, const char* what, casa::cli::RenderCommand& command) {
  auto* app = render.add_subcommand(name, what);
  app->add_option("paths", command.paths, "files and directories, as casad check takes them")->required();
  app->add_option("--cluster-domain", command.cluster_domain, "of the cluster's DNS")->capture_default_str();
  app->add_option("--search", command.search, "a domain that the nodes add to the Pods' search list; may be repeated");
  app->add_flag("--beside-casad", command.beside_casad,
                "casad enforces on the same nodes: leave to it what only it can hold");
  return app;
}

int dispatch(int argc, char** argv) {
  CLI::App app{"casad holds AI agents to their CASAPolicies, in the kernel."};
  app.require_subcommand(1);
  Choices choices;
  auto* run = app.add_subcommand("run", "run the daemon");
  add_run_flags(*run, choices.run);
  auto* check = app.add_subcommand("check", "validate policy files: FILE|DIR..., - for standard input");
  check->add_option("paths", choices.check_paths, "files and directories")->required();
  auto* render = app.add_subcommand("render", "write policies in the words of a CNI, as YAML");
  render->require_subcommand(1);
  auto* cilium = add_render(*render, "cilium", "CiliumNetworkPolicies", choices.render);
  auto* network_policy = add_render(*render, "networkpolicy", "NetworkPolicies of Kubernetes", choices.render);
  network_policy->add_flag("--any-dns-name", choices.render.any_dns_name,
                           "let workloads that need DNS ask for every name, which can carry data out");
  auto* explain = app.add_subcommand("explain", "say whether, and by which policy, a call may pass");
  add_api_socket(*explain, choices.explain.api_socket);
  explain->add_option("--from", choices.explain.from, "NAMESPACE/NAME, host, or an address");
  explain->add_option("--to", choices.explain.to, "NAMESPACE/NAME:PORT or HOST:PORT");
  explain->add_option("--protocol", choices.explain.protocol, "tcp or udp")->capture_default_str();
  explain->add_flag("--baseline", choices.explain.baseline, "list what is always allowed");
  explain->add_flag("--json", choices.explain.json, "JSON");
  auto* status = app.add_subcommand("status", "say how the daemon is");
  add_api_socket(*status, choices.status.api_socket);
  status->add_flag("--json", choices.status.json, "JSON");
  status->add_flag("--alive", choices.status.alive, "print nothing; exit 0 if the daemon answers, ready or not");
  auto* flows = app.add_subcommand("flows", "list flows, newest last");
  add_flows(*flows, choices.flows);
  auto* tokens = app.add_subcommand("tokens", "list tokens by their SHA-256, or one with its path");
  tokens->add_option("sha256", choices.tokens.sha256, "64 hexadecimal digits: printf %s \"$TOKEN\" | sha256sum");
  add_tokens(*tokens, choices.tokens, "show each sighting from now on");
  auto* alerts = app.add_subcommand("alerts", "list alerts, newest last");
  alerts->add_option("--kind", choices.alerts.kind, "as in docs/tokens.md, such as token_replay");
  add_tokens(*alerts, choices.alerts, "go on with new alerts");
  auto* doctor = app.add_subcommand("doctor", "find out, by loading, what this kernel can do");
  doctor->add_flag("--json", choices.doctor_json, "JSON");
  auto* detach = app.add_subcommand("detach", "end enforcement: the only way to do it");
  add_run_flags(*detach, choices.run);
  auto* version = app.add_subcommand("version", "print the version");

  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : kExitUsage;
  }
  if (*run) return run_daemon(*run, choices.run);
  if (*check) return casa::cli::run_check(choices.check_paths, stdout);
  if (*cilium) return casa::cli::run_render_cilium(choices.render, stdout, stderr);
  if (*network_policy) return casa::cli::run_render_network_policy(choices.render, stdout, stderr);
  if (*explain)
    return choices.explain.baseline ? run_baseline(choices.explain.json) : casa::cli::run_explain(choices.explain);
  if (*status) return casa::cli::run_status(choices.status);
  if (*flows) return casa::cli::run_flows(choices.flows);
  if (*tokens) return casa::cli::run_tokens(choices.tokens);
  if (*alerts) return casa::cli::run_alerts(choices.alerts);
  if (*doctor) return run_doctor(choices.doctor_json);
  if (*detach) return run_detach(*detach, choices.run);
  if (*version) fmt::print("casad {} (ABI {})\n", CASA_VERSION, CASA_ABI_VERSION);
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    return dispatch(argc, argv);
  } catch (const std::exception& error) {
    fmt::print(stderr, "casad: internal error: {}\n", error.what());
    return kExitFailed;
  }
}

// Where objects come from: the policy directory, and on a node of a cluster the API server too.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include "app/daemon.h"
#include "base/log.h"
#include "policy/api_pruned.h"

namespace casa::app {

Status Daemon::start_sources() {
  Inlet::Callbacks callbacks{
      .on_synced = [this] { schedule_rebuild(Scope::kObjects); },
      .on_problem = [this](const std::string& key, std::string problem) { on_source_problem(key, std::move(problem)); },
      .on_document = {},
      .on_remove = {}};
  files_ = std::make_unique<Inlet>("policy directory", documents_, callbacks);
  directory_ = std::make_unique<source::DirectorySource>(io_, config_.policy_dir, *files_);
  TRY(directory_->start());
  const KubernetesConfig& kubernetes = config_.kubernetes;
  if (!kubernetes.has_server()) return {};
  TRY_ASSIGN(auto access,
             kubernetes.in_cluster ? source::read_service_account() : source::read_kubeconfig(kubernetes.kubeconfig));
  if (access.server.needs_name()) api_host_ = access.server.host;
  callbacks.on_document = [this](const source::Document& document) { return on_api_document(document); };
  callbacks.on_remove = [this](const std::string& origin) { on_api_remove(origin); };
  api_ = std::make_unique<Inlet>("API server", documents_, callbacks);
  status_writer_ = std::make_unique<StatusWriter>(io_, access, kubernetes.node_name, [this](std::string problem) {
    note_problem("policy status", std::move(problem));
  });
  kubernetes_ = std::make_unique<source::KubernetesSource>(
      io_, std::move(access), *api_,
      source::KubernetesOptions{.node_name = kubernetes.node_name,
                                .on_note = [](const std::string& note) { spdlog::info("API server: {}", note); }});
  kubernetes_->start();
  return {};
}

// A status that somebody wrote, this node maybe, is nothing that could change what is enforced.
bool Daemon::on_api_document(const source::Document& document) {
  if (document.kind != policy::to_string(policy::Kind::kCasaPolicy)) return true;
  auto status = policy::read_api_status(document.bytes);
  if (status && !status_writer_->learn(*status)) return false;
  tell_pruned(document);
  return true;
}

// Once for each policy and what is missing of it: the CRD that is installed does not have these fields.
void Daemon::tell_pruned(const source::Document& document) {
  std::string fields = fmt::format("{}", fmt::join(policy::pruned_fields(document.bytes), ", "));
  std::string& told = pruned_[document.origin];
  if (fields.empty()) pruned_.erase(document.origin);
  else if (told != fields) {
    told = fields;
    spdlog::warn("{}: the cluster's CRD took out {}, so nothing of that is in force; apply kubernetes/crds",
                 document.path, fields);
  }
}

void Daemon::on_api_remove(const std::string& origin) {
  pruned_.erase(origin);
  std::string_view rest = origin;
  constexpr std::string_view kPolicies = "kubernetes:CASAPolicy/";
  if (!rest.starts_with(kPolicies)) return;
  rest.remove_prefix(kPolicies.size());
  auto slash = rest.find('/');
  if (slash != std::string_view::npos)
    status_writer_->forget({std::string(rest.substr(0, slash)), std::string(rest.substr(slash + 1))});
}

// A Pod whose object went while no daemon ran may still be there: the kernel knows whose its cgroup is.
void Daemon::recall_pods() {
  if (config_.kubernetes.node_name.empty()) return;
  for (auto& cgroup : identity::find_pod_cgroups(mount_, identity::find_kubepods(mount_))) {
    auto row = datapath_->cgroups().find(cgroup.id);
    if (row == datapath_->cgroups().end() || (row->second & CASA_CGROUP_SLICE) != 0) continue;
    auto name = allocator_.workload_of(row->second);
    if (!name) continue;
    auto subject = datapath_->subjects().find(row->second);
    bool in_pods = subject != datapath_->subjects().end() && (subject->second & CASA_SUBJECT_POD) != 0;
    snapshot_.pod_places.push_back({std::move(*name), "Pod", in_pods, std::move(cgroup)});
  }
}

bool Daemon::is_synced() const { return files_->is_synced() && (!api_ || api_->is_synced()); }

void Daemon::on_source_problem(const std::string& key, std::string problem) {
  note_problem(key, std::move(problem));
  // Nothing is known yet, and it can take long: until then what an earlier run left in the kernel is held by this run's programs.
  if (api_ && !api_->is_synced() && !api_->problem().empty() && datapath_->generation() != 0) attach();
}

void Daemon::tell_conflicts() {
  auto conflicts = documents_.conflicts();
  for (const auto& [key, message] : conflicts) {
    if (auto known = conflicts_.find(key); known != conflicts_.end() && known->second == message) continue;
    for (const auto* alert : tracker_.conflict(key.ns, message, std::chrono::system_clock::now())) tell(*alert);
  }
  conflicts_ = std::move(conflicts);
}

std::vector<api::SourceView> Daemon::source_views() const {
  auto files = documents_.count(false);
  std::vector<api::SourceView> views{{"directory",
                                      config_.policy_dir,
                                      files_->problem(),
                                      files.documents,
                                      files.objects,
                                      files.bad,
                                      files_->last_change(),
                                      {}}};
  if (!api_) return views;
  auto objects = documents_.count(true);
  const KubernetesConfig& kubernetes = config_.kubernetes;
  views.push_back({"kubernetes",
                   kubernetes.in_cluster ? "in-cluster" : kubernetes.kubeconfig,
                   api_->problem(),
                   objects.documents,
                   objects.objects,
                   objects.bad,
                   api_->last_change(),
                   {}});
  if (auto contact = kubernetes_->last_contact())
    views.back().last_contact = std::chrono::system_clock::now() - (std::chrono::steady_clock::now() - *contact);
  for (auto& resource : kubernetes_->resources())
    views.back().resources.push_back(
        {std::move(resource.name), source::to_string(resource.state), resource.objects, std::move(resource.problem)});
  return views;
}

}  // namespace casa::app

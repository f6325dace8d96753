// Attachment: one pinned link a program. A link that is pinned already gets the new program by an atomic update, so that
// there is no moment without one.
#pragma once

#include <chrono>
#include <string>

#include "base/error.h"
#include "datapath/objects.h"

namespace casa::datapath {

// Attaches every program of `enforce` at the cgroup directory `root`: casa_ingress first, and the others after `listen`. What
// answers a UDP question is known by the question having come in, so nobody's answer is refused that takes no longer.
Status attach_enforce(const EnforceObject& enforce, const std::string& root, const std::string& link_dir,
                      std::chrono::milliseconds listen);
Status attach_cgroup_watch(const WatchObject& watch, const std::string& link_dir);

// True when `link_dir` holds links that are alive (their cgroup still exists).
bool has_live_links(const std::string& link_dir);
// True when it holds links, and to another cgroup than `root` is: an earlier one of that name, as a rule.
bool has_links_elsewhere(const std::string& link_dir, const std::string& root);

}  // namespace casa::datapath

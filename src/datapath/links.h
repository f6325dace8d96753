// Attachment: one pinned link a program. A link that is pinned already gets the new program by an atomic update, so that
// there is no moment without one.
#pragma once

#include <string>

#include "base/error.h"
#include "datapath/objects.h"

namespace casa::datapath {

// Attaches every program of `enforce` at the cgroup directory `root`.
Status attach_enforce(const EnforceObject& enforce, const std::string& root, const std::string& link_dir);
Status attach_cgroup_watch(const WatchObject& watch, const std::string& link_dir);

// True when `link_dir` holds links that are alive (their cgroup still exists).
bool has_live_links(const std::string& link_dir);
// True when it holds links, and to another cgroup than `root` is: an earlier one of that name, as a rule.
bool has_links_elsewhere(const std::string& link_dir, const std::string& root);

}  // namespace casa::datapath

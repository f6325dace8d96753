// How each view is written as JSON. The fields and their meaning stand in openapi.cpp, and a test holds both
// together. What is not known is left out, never written as empty or zero.
#pragma once

#include "api/feed.h"
#include "api/state.h"
#include "base/json.h"
#include "store/flow_history.h"
#include "token/alerts.h"
#include "token/ledger.h"

namespace casa::api {

void write(JsonWriter& out, const StatusView& status);
void write(JsonWriter& out, const PolicyView& policy);
void write(JsonWriter& out, const WorkloadView& workload, const token::Activity& activity);
void write(JsonWriter& out, const EndpointView& endpoint);
// With the counts of tokens; perMinute is as of `now`.
void write(JsonWriter& out, const StatsView& stats, const token::Tracker& tracker, Time now);
void write(JsonWriter& out, const ExplainView& explain);
void write(JsonWriter& out, const store::FlowRow& row);
void write_who(JsonWriter& out, const event::PeerName& who);  // members of an object
void write_party(JsonWriter& out, std::string_view name, const event::Party& party);
void write(JsonWriter& out, const token::TokenRow& row);
void write_token_with_path(JsonWriter& out, const token::TokenRow& row);
void write(JsonWriter& out, const token::Alert& alert);
void write(JsonWriter& out, const SightingNews& news);
void write_coverage(JsonWriter& out, const token::Coverage& coverage);             // a member
void write_token_stats(JsonWriter& out, const token::Tracker& tracker, Time now);  // members
void write_strings(JsonWriter& out, std::string_view name, const std::vector<std::string>& values);

}  // namespace casa::api

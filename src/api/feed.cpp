// See feed.h. An event's text is made when a client reads it: without clients, news cost a copy.
#include "api/feed.h"

#include <fmt/format.h>

#include <algorithm>

#include "api/json.h"
#include "api/query.h"
#include "base/text.h"

namespace casa::api {
namespace {

bool ends_match(const EventQuery& query, const event::PeerName* a, const event::PeerName* b) {
  auto either = [&](auto&& fits) { return (a != nullptr && fits(*a)) || (b != nullptr && fits(*b)); };
  if (!query.ns.empty() && !either([&](const event::PeerName& who) { return who.ns == query.ns; })) return false;
  return query.workload.empty() || either([&](const event::PeerName& who) {
           return who.kind == event::PeerName::Kind::kWorkload && means_workload(query.workload, who.ns, who.name);
         });
}

bool matches(const EventQuery& query, const event::Flow& flow) {
  return ends_match(query, flow.source.who.get(), flow.destination.who.get());
}
bool matches(const EventQuery& query, const store::FlowRow& row) { return matches(query, row.flow); }
bool matches(const EventQuery& query, const SightingNews& news) { return matches(query, news.sighting.flow); }
bool matches(const EventQuery& query, const token::Alert& alert) {
  return ends_match(query, alert.workload.who.get(), alert.destination.who.get());
}

void append_event(std::string& out, std::string_view id, std::string_view kind, std::string_view json) {
  fmt::format_to(std::back_inserter(out), "id: {}\nevent: {}\ndata: {}\n\n", id, kind, json);
}

}  // namespace

Feed::Feed(std::string run, std::size_t capacity)
    : run_(std::move(run)), capacity_(std::max<std::size_t>(capacity, 1)) {}

void Feed::add(Item item) {
  if (items_.size() == capacity_) items_.pop_front();
  items_.push_back(std::move(item));
  ++end_;
  if (listeners_.empty()) return;
  for (const auto& waiting : std::exchange(listeners_, {}))
    if (auto listener = waiting.lock()) listener->wake();
}

// On a quiet node clients come back with every heartbeat: each stands here once.
void Feed::wake_once(const std::shared_ptr<Listener>& listener) const {
  std::erase_if(listeners_, [&](const std::weak_ptr<Listener>& other) {
    auto waiting = other.lock();
    return !waiting || waiting == listener;
  });
  listeners_.push_back(listener);
}

Feed::Reader::Reader(const Feed& feed, EventQuery query, std::string_view last_id)
    : feed_(feed), query_(std::move(query)), next_(feed.end_) {
  if (last_id.empty()) return;
  auto dash = last_id.rfind('-');
  auto number = dash == std::string_view::npos ? std::nullopt : parse_number(last_id.substr(dash + 1), UINT64_MAX - 1);
  if (number && last_id.substr(0, dash) == feed.run_ && *number < feed.end_) {
    next_ = *number + 1;
    return;
  }
  of_another_run_ = true;
  next_ = feed.first();
}

std::string Feed::Reader::id_of(std::uint64_t number) const { return fmt::format("{}-{}", feed_.run_, number); }

std::string Feed::Reader::read(std::size_t bytes) {
  std::string out;
  if (of_another_run_) {
    append_event(out, id_of(next_ - 1), "lost", "{}");
    of_another_run_ = false;
  }
  if (next_ < feed_.first()) {
    append_event(out, id_of(feed_.first() - 1), "lost", fmt::format("{{\"count\":{}}}", feed_.first() - next_));
    next_ = feed_.first();
  }
  for (; next_ != feed_.end_ && out.size() < bytes; ++next_) {
    const Item& item = feed_.items_[next_ - feed_.first()];
    if (((query_.kinds >> item.index()) & 1) == 0) continue;
    if (!std::visit([&](const auto& news) { return matches(query_, news); }, item)) continue;
    JsonWriter json;
    std::visit([&](const auto& news) { write(json, news); }, item);
    append_event(out, id_of(next_), kKinds[item.index()], json.str());
  }
  return out;
}

std::string Feed::Reader::heartbeat() const { return fmt::format(": heartbeat\nid: {}\n\n", id_of(next_ - 1)); }

}  // namespace casa::api

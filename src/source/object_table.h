// Which objects of a kind have been announced, and in what state: enough to tell news from what is known, and to find what vanished between
// two lists. No object is kept.
//
// More than one stream can bring objects of a kind: the pods of this node, and those of all others. One pod is never in both, as its node does not
// change once it has one; but one name can wander (a StatefulSet's agent-0, deleted here and made anew there), and the two streams are
// not ordered among each other. So the newer resourceVersion has the name, and a stream can only take away what it brought itself.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "source/kube_json.h"

namespace casa::source {

class ObjectTable {
 public:
  explicit ObjectTable(std::string kind) : kind_(std::move(kind)) {}

  // The stream's number for the calls below.
  unsigned add_stream();
  // "kubernetes:Pod/team-a/agent-0"
  [[nodiscard]] std::string origin_of(const ObjectHead& head) const;
  [[nodiscard]] const std::string& kind() const { return kind_; }

  // The stream takes a new list: what it does not note until then is in vanished().
  void begin_list(unsigned stream) { ++streams_[stream].list; }
  // True: it is news.
  bool note(unsigned stream, const std::string& origin, const ObjectHead& head);
  // What was noted last could not be announced: it is news again when it comes again.
  void doubt(const std::string& origin);
  // Whether it is this stream's.
  [[nodiscard]] bool has(unsigned stream, const std::string& origin) const;
  void remove(const std::string& origin);
  // The origins that the list did not have any more, in their order.
  [[nodiscard]] std::vector<std::string> vanished(unsigned stream) const;
  // Objects of the stream.
  [[nodiscard]] std::size_t size(unsigned stream) const { return streams_[stream].objects; }

 private:
  struct Known {
    std::uint64_t uid = 0,
                  version = 0;  // the uid's hash: it only tells apart what a restored etcd may give one version
    std::uint32_t stream = 0, list = 0;
  };
  struct Stream {
    std::uint32_t list = 0;
    std::size_t objects = 0;
  };
  const std::string kind_;
  std::unordered_map<std::string, Known> known_;
  std::vector<Stream> streams_;
};

}  // namespace casa::source

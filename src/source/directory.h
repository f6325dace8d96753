// The policy directory as a source: reads it, then follows it through inotify, and scans it now and then for what
// inotify cannot show. Everything happens on the io_context's one thread; start(), stop() and the destructor belong to
// it too.
//
// What it promises: a file being written is not read before it is closed (or has been left alone for `safety`); changes
// are gathered until it is quiet, then announced in the order of their origins and closed with one on_synced(); when
// the directory as a whole is away, nothing is removed.
#pragma once

#include <boost/asio/io_context.hpp>
#include <chrono>
#include <cstddef>
#include <memory>
#include <string>

#include "base/error.h"
#include "source/source.h"

namespace casa::source {

// The defaults are what casad runs with; tests shorten the waits.
struct DirectoryOptions {
  std::chrono::milliseconds quiet{20};     // no event for so long ends a burst
  std::chrono::milliseconds longest{200};  // or so long after its first event
  // The same for bursts in which documents or directories are deleted: it may be the whole directory that goes, and
  // then its documents are to stay.
  std::chrono::milliseconds quiet_delete{100};
  std::chrono::milliseconds longest_delete{1000};
  std::chrono::milliseconds safety{30'000};  // between scans for what inotify does not show
  std::chrono::milliseconds away{1000};      // between looks for a directory that is away
  std::chrono::milliseconds settle{1000};    // quiet after it came back, before anything of it counts
  std::chrono::milliseconds longest_settle{10'000};
  std::size_t max_bytes = kMaxDocumentBytes;
  std::size_t max_documents = 100'000;
  std::size_t max_directories = 20'000;
  unsigned max_depth = 16;
};

class DirectorySource {
 public:
  DirectorySource(boost::asio::io_context& io, std::string path, Handler& handler, DirectoryOptions options = {});
  ~DirectorySource();
  DirectorySource(const DirectorySource&) = delete;
  DirectorySource& operator=(const DirectorySource&) = delete;

  // Fails only when the kernel gives no inotify instance. The first read happens on the executor, after start().
  Status start();
  // No call reaches the handler after it, also when the handler calls it.
  void stop();

 private:
  class Impl;
  std::shared_ptr<Impl> impl_;  // shared with pending operations, which may outlive this object
};

}  // namespace casa::source

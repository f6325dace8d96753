// Tokens that the kernel hands over for the check of their signatures, and what was found about them: casa_raw_ring, casa_token. The ring is
// mapped read-only here; what was read is overwritten by the kernel, on demand (casa_wipe).
#pragma once

#include <functional>
#include <memory>
#include <string_view>

#include "base/error.h"
#include "casa/abi/token.h"
#include "datapath/bpf_map.h"
#include "datapath/objects.h"

struct ring_buffer;

namespace casa::datapath {

class RawTokens {
 public:
  using Handler = std::function<void(const casa_token_key& key, std::string_view token)>;

  RawTokens();
  ~RawTokens();
  RawTokens(const RawTokens&) = delete;
  RawTokens& operator=(const RawTokens&) = delete;

  // The object outlives this.
  Status open(const RequestsObject& requests);
  [[nodiscard]] int fd() const;
  std::size_t drain(const Handler& handle);
  // Overwrites all that was read. What the kernel hands over meanwhile is given to `handle`.
  Status wipe(const Handler& handle);
  Status set(const casa_token_key& key, casa_signature signature, std::uint32_t expires) const;
  Status forget_all() const;

 private:
  static int on_record(void* self, void* data, std::size_t size);

  struct Closer {
    void operator()(ring_buffer* ring) const;
  };
  std::unique_ptr<ring_buffer, Closer> ring_;
  int wipe_program_ = -1;
  BpfMap<casa_token_key, casa_token> tokens_;
  const Handler* handler_ = nullptr;
  std::size_t handled_ = 0;
};

}  // namespace casa::datapath

#include "datapath/raw_tokens.h"

#include <bpf/libbpf.h>

namespace casa::datapath {
namespace {

// One record's room each; what does not fit at the ring's end is overwritten in the next turn.
constexpr int kWipes = 2 * CASA_RAW_RING_BYTES / static_cast<int>(sizeof(casa_raw_token)) + 2;

}  // namespace

RawTokens::RawTokens() = default;
RawTokens::~RawTokens() = default;
void RawTokens::Closer::operator()(ring_buffer* ring) const { ring_buffer__free(ring); }

Status RawTokens::open(const RequestsObject& requests) {
  ring_.reset(ring_buffer__new(bpf_map__fd(requests->maps.casa_raw_ring), on_record, this, nullptr));
  if (!ring_) return fail_errno(errno, "cannot read casa_raw_ring");
  wipe_program_ = bpf_program__fd(requests->progs.casa_wipe);
  tokens_ = {bpf_map__fd(requests->maps.casa_token), "casa_token"};
  return {};
}

int RawTokens::fd() const { return ring_buffer__epoll_fd(ring_.get()); }

int RawTokens::on_record(void* self, void* data, std::size_t size) {
  auto* that = static_cast<RawTokens*>(self);
  const auto* raw = static_cast<const casa_raw_token*>(data);
  if (size < sizeof(casa_raw_token) || raw->length == 0 || raw->length > sizeof raw->token) return 0;
  casa_token_key key;
  std::copy(std::begin(raw->sha256), std::end(raw->sha256), key.sha256);
  (*that->handler_)(key, {raw->token, raw->length});
  ++that->handled_;
  return 0;
}

std::size_t RawTokens::drain(const Handler& handle) {
  handler_ = &handle;
  handled_ = 0;
  ring_buffer__consume(ring_.get());
  handler_ = nullptr;
  return handled_;
}

Status RawTokens::wipe(const Handler& handle) {
  for (int i = 0; i < kWipes; ++i) {
    LIBBPF_OPTS(bpf_test_run_opts, options);
    if (int err = bpf_prog_test_run_opts(wipe_program_, &options); err != 0)
      return fail_errno(err, "cannot run casa_wipe");
    if (options.retval != 0 || i + 1 == kWipes) drain(handle);
  }
  return {};
}

Status RawTokens::set(const casa_token_key& key, casa_signature signature, std::uint32_t expires) const {
  if (signature == CASA_SIGNATURE_UNVERIFIED) return tokens_.erase(key);
  return tokens_.put(key, {static_cast<casa_u32>(signature), expires});
}

Status RawTokens::forget_all() const {
  std::vector<casa_token_key> keys;
  tokens_.each([&](const casa_token_key& key, const casa_token&) { keys.push_back(key); });
  for (const auto& key : keys) TRY(tokens_.erase(key));
  return {};
}

}  // namespace casa::datapath

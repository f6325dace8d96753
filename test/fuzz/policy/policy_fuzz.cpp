// libFuzzer target of the policy room: any bytes, as YAML and as JSON, give a result that keeps the room's promises.
//   build/test/fuzz/policy/policy_fuzz -max_total_time=60 test/fuzz/policy/corpus
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "policy/parse.h"

namespace {

void require(bool condition) {
  if (!condition) std::abort();
}

void check(std::string_view bytes, casa::policy::Syntax syntax) {
  using namespace casa::policy;
  auto result = parse_text("fuzz", bytes, syntax);
  require(result.diagnostics.size() <= kMaxDiagnostics + 1);
  require(result.syntax_ok || (!result.ok() && result.objects.empty()));
  require(result.invalid.empty() || !result.ok());
  Location last;
  for (std::size_t i = 0; i < result.diagnostics.size(); ++i) {
    const auto& d = result.diagnostics[i];
    require(d.where.line >= 1 && d.where.column >= 1 && !d.message.empty() &&
            d.message.find("; ") != std::string::npos);
    if (i < kMaxDiagnostics) require(std::pair(d.where.line, d.where.column) >= std::pair(last.line, last.column));
    last = d.where;
    for (char c : to_string(d)) require(static_cast<unsigned char>(c) >= 0x20);
  }
  for (const auto& object : result.objects) {
    require(!key_of(object).name.empty());
    if (const auto* policy = std::get_if<CasaPolicy>(&object)) {
      require(!policy->target_name.empty() && !policy->meta.ns.empty());
      for (const auto& endpoint : policy->allowed_endpoints)
        require(endpoint.port != 0 && !endpoint.service.name.empty());
      if (policy->llm_endpoint)
        require(policy->llm_endpoint->fqdn.find('.') != std::string::npos && policy->llm_endpoint->port != 0);
    }
  }
  for (const auto& invalid : result.invalid) require(!invalid.message.empty());
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  std::string_view bytes(reinterpret_cast<const char*>(data), size);
  check(bytes, casa::policy::Syntax::kYaml);
  check(bytes, casa::policy::Syntax::kJson);
  return 0;
}

#include "observe/go_code.h"

#include <Zydis/Decoder.h>

#include <algorithm>
#include <array>
#include <cstring>

namespace casa::observe {
namespace {

constexpr std::size_t kMaxCode = 64u << 10, kMaxReturns = 64;
constexpr std::size_t kCheckWithin = 6;  // instructions, up to the jump of the check

enum class Kind { kOther, kReturn, kJump, kJumpIfBelow, kPadding };

struct Instruction {
  std::uint64_t at = 0, length = 0;
  Kind kind = Kind::kOther;
  bool compares_stack = false;  // with the goroutine's bound
  bool is_relative = false;
  std::uint64_t target = 0;  // of a jump or call; what wraps around is outside
};

// cmp rsp, [r14+16] and cmp r12, [r14+16]: r14 is the goroutine since 1.17.
constexpr std::array<std::string_view, 2> kCompares = {"\x49\x3b\x66\x10", "\x4d\x3b\x66\x10"};

Kind kind_of(const ZydisDecodedInstruction& decoded) {
  if (decoded.encoding != ZYDIS_INSTRUCTION_ENCODING_LEGACY) return Kind::kOther;
  if (decoded.opcode_map == ZYDIS_OPCODE_MAP_0F) return decoded.opcode == 0x86 ? Kind::kJumpIfBelow : Kind::kOther;
  if (decoded.opcode_map != ZYDIS_OPCODE_MAP_DEFAULT) return Kind::kOther;
  switch (decoded.opcode) {
    case 0xc3: return Kind::kReturn;
    case 0xeb:
    case 0xe9: return Kind::kJump;
    case 0x76: return Kind::kJumpIfBelow;
    case 0xcc: return Kind::kPadding;
    default: return Kind::kOther;
  }
}

std::optional<std::vector<Instruction>> decode_amd64(std::string_view code) {
  ZydisDecoder decoder;
  if (ZYAN_FAILED(ZydisDecoderInit(&decoder, ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64))) return std::nullopt;
  std::vector<Instruction> all;
  for (std::uint64_t at = 0; at < code.size();) {
    ZydisDecodedInstruction decoded;
    std::string_view rest = code.substr(at);
    if (ZYAN_FAILED(ZydisDecoderDecodeInstruction(&decoder, nullptr, rest.data(), rest.size(), &decoded)))
      return std::nullopt;
    Instruction one{at, decoded.length, kind_of(decoded), false, decoded.raw.imm[0].is_relative != 0};
    one.compares_stack = std::ranges::find(kCompares, rest.substr(0, decoded.length)) != kCompares.end();
    at += decoded.length;
    if (one.is_relative) one.target = at + static_cast<std::uint64_t>(decoded.raw.imm[0].value.s);
    all.push_back(one);
  }
  return all;
}

// Sign-extends the `bits` low bits, and counts in instructions.
std::uint64_t distance(std::uint32_t word, unsigned bits) {
  auto value = static_cast<std::int64_t>(std::uint64_t{word} << (64 - bits)) >> (64 - bits);
  return static_cast<std::uint64_t>(value * 4);
}

std::optional<std::vector<Instruction>> decode_arm64(std::string_view code) {
  if (code.size() % 4 != 0) return std::nullopt;
  std::vector<Instruction> all;
  for (std::uint64_t at = 0; at < code.size(); at += 4) {
    std::uint32_t word = 0;
    std::memcpy(&word, code.data() + at, 4);
    Instruction one{at, 4};
    if (word == 0xd65f03c0) one.kind = Kind::kReturn;
    if (word == 0) one.kind = Kind::kPadding;
    one.compares_stack = word == 0xf9400b90;  // ldr x16, [x28, #16], which is compared then: x28 is the goroutine
    if (word >> 26 == 5) {                    // b
      one.kind = Kind::kJump;
      one.target = at + distance(word, 26);
    } else if ((word & 0xff00001f) == 0x54000009) {  // b.ls
      one.kind = Kind::kJumpIfBelow;
      one.target = at + distance(word >> 5 & 0x7ffff, 19);
    }
    one.is_relative = one.kind == Kind::kJump || one.kind == Kind::kJumpIfBelow;
    all.push_back(one);
  }
  return all;
}

}  // namespace

// A function begins with the check, whose jump leads to where the runtime is called for more stack; from there, which is the end of the
// code, it jumps to the beginning. Code of which that is not so, or that was decoded from a wrong byte on, is not believed.
std::optional<GoPlaces> find_go_places(std::string_view code, Machine machine) {
  if (code.size() > kMaxCode) return std::nullopt;
  auto decoded = machine == Machine::kAmd64 ? decode_amd64(code) : decode_arm64(code);
  if (!decoded) return std::nullopt;
  while (!decoded->empty() && decoded->back().kind == Kind::kPadding) decoded->pop_back();
  if (decoded->empty()) return std::nullopt;
  const std::uint64_t end = decoded->back().at + decoded->back().length;
  auto begins = [&](std::uint64_t at) { return std::ranges::binary_search(*decoded, at, {}, &Instruction::at); };
  for (const auto& one : *decoded)
    if (one.is_relative && one.target < end && !begins(one.target)) return std::nullopt;

  const auto check_ends = decoded->begin() + static_cast<std::ptrdiff_t>(std::min(kCheckWithin, decoded->size()));
  auto compare = std::find_if(decoded->begin(), check_ends, [](const auto& one) { return one.compares_stack; });
  auto jump = std::find_if(compare, check_ends, [](const auto& one) { return one.kind == Kind::kJumpIfBelow; });
  if (jump == check_ends || jump->target <= jump->at || jump->target >= end) return std::nullopt;
  if (decoded->back().kind != Kind::kJump || decoded->back().target != 0) return std::nullopt;

  GoPlaces places{jump->at + jump->length, {}};
  for (const auto& one : *decoded)
    if (one.kind == Kind::kReturn) places.returns.push_back(one.at);
  if (places.returns.size() > kMaxReturns) return std::nullopt;
  return places;
}

}  // namespace casa::observe

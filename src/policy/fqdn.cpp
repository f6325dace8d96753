// See names.h: host names by RFC 1123, IDNA in punycode only. First what people write by mistake where a name belongs
// (URLs, patterns, addresses, ports), each with its own advice, then the rules label by label. Resolves nothing and
// decodes no punycode.
#include <algorithm>

#include "base/ip.h"
#include "policy/names.h"
#include "policy/report.h"

namespace casa::policy {
namespace {

constexpr std::size_t kMaxLabel = 63, kMaxName = 253;

bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool is_letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }

// What people write where a host name belongs.
std::string check_mistakes(std::string_view text) {
  if (text.empty()) return "the host name is empty; write the whole name, such as api.example.com";
  if (auto scheme = text.find("://"); scheme != std::string_view::npos) {
    auto rest = text.substr(scheme + 3);
    rest = rest.substr(0, rest.find_first_of(":/?#"));
    return fmt::format("{} is a URL; write only its host name{}{}", Quoted{text}, rest.empty() ? "" : ": ", Raw{rest});
  }
  if (text.find('*') != std::string_view::npos) {
    return fmt::format(
        "{} is a pattern, and casad allows exactly one name; write the whole host name that the agent calls, such as "
        "api.example.com",
        Quoted{text});
  }
  std::string_view bare = text;
  if (bare.size() > 2 && bare.front() == '[' && bare.back() == ']') bare = bare.substr(1, bare.size() - 2);
  if (parse_ip(bare))
    return fmt::format("{} is an address, not a name; write the host name that the agent calls", Quoted{text});
  if (auto colon = text.find(':'); colon != std::string_view::npos) {
    return fmt::format("{} contains ':'; write only the name ({}), and the port in port", Quoted{text},
                       Raw{text.substr(0, colon)});
  }
  if (auto slash = text.find('/'); slash != std::string_view::npos) {
    return fmt::format("{} contains a path; write only the name: {}", Quoted{text}, Raw{text.substr(0, slash)});
  }
  if (std::ranges::any_of(text, [](char c) { return static_cast<unsigned char>(c) >= 0x80; })) {
    return fmt::format(
        "{} is not ASCII; write its punycode form, as xn--bcher-kva.example stands for b\xC3\xBC"
        "cher.example",
        Quoted{text});
  }
  return {};
}

std::string check_dns_label(std::string_view label, std::string_view text) {
  if (label.empty()) return fmt::format("{} has an empty part between dots; write single dots only", Quoted{text});
  if (label.size() > kMaxLabel) {
    return fmt::format("{} has a part longer than {} characters; write the name as DNS knows it", Quoted{text},
                       kMaxLabel);
  }
  for (char c : label) {
    if (!is_letter(c) && !is_digit(c) && c != '-') {
      return fmt::format("{} contains {}; write letters, digits, '-' and dots only", Quoted{text}, Quoted{{&c, 1}});
    }
  }
  if (label.front() == '-' || label.back() == '-') {
    return fmt::format("{} has a part that begins or ends with '-'; write the name as DNS knows it", Quoted{text});
  }
  return {};
}

std::string check_name(std::string_view text, unsigned min_labels, std::string& out) {
  if (std::string bad = check_mistakes(text); !bad.empty()) return bad;
  std::string_view name = text;
  if (name.ends_with('.')) name.remove_suffix(1);
  if (name.size() > kMaxName) {
    return fmt::format("{} is longer than {} characters; write the name as DNS knows it", Quoted{text}, kMaxName);
  }
  unsigned labels = 0;
  std::string_view label;
  for (std::size_t begin = 0; begin <= name.size();) {
    auto end = std::min(name.find('.', begin), name.size());
    label = name.substr(begin, end - begin);
    if (std::string bad = check_dns_label(label, text); !bad.empty()) return bad;
    ++labels;
    begin = end + 1;
  }
  if (labels < min_labels) {
    return fmt::format("{} has no dot; write the whole host name, such as api.example.com", Quoted{text});
  }
  if (std::ranges::all_of(label, is_digit)) {
    return fmt::format("{} ends in a number like an address; write the host name that the agent calls", Quoted{text});
  }
  out.assign(name);
  for (char& c : out) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  }
  return {};
}

}  // namespace

std::string check_fqdn(std::string_view text, std::string& out) { return check_name(text, 2, out); }
std::string check_host(std::string_view text, std::string& out) { return check_name(text, 1, out); }

}  // namespace casa::policy

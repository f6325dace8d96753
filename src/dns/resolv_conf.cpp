#include "dns/resolv_conf.h"

#include <algorithm>
#include <optional>

#include "base/text.h"

namespace casa::dns {
namespace {

constexpr std::string_view kBlanks = " \t\r\f\v";
constexpr std::size_t kMaxNameBytes = 253;

// The next word of `line`, which is shortened by it; empty at the end.
std::string_view take_word(std::string_view& line) {
  auto begin = line.find_first_not_of(kBlanks);
  line.remove_prefix(std::min(begin, line.size()));
  auto word = line.substr(0, line.find_first_of(kBlanks));
  line.remove_prefix(word.size());
  return word;
}

bool is_name_byte(char c) {
  return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '_' || c == '.';
}

// Nothing for what is no domain, the root among it: a search there is none.
std::optional<std::string> parse_domain(std::string_view word) {
  if (word.ends_with('.')) word.remove_suffix(1);
  std::string name(word);
  for (char& c : name)
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  if (name.empty() || name.size() > kMaxNameBytes || name.front() == '.' || name.back() == '.') return std::nullopt;
  if (!std::ranges::all_of(name, is_name_byte) || name.find("..") != std::string::npos) return std::nullopt;
  return name;
}

void parse_domains(std::string_view words, std::size_t most, std::vector<std::string>& search) {
  search.clear();
  for (auto word = take_word(words); !word.empty() && search.size() < most; word = take_word(words)) {
    auto domain = parse_domain(word);
    if (domain && std::ranges::find(search, *domain) == search.end()) search.push_back(*std::move(domain));
  }
}

void parse_options(std::string_view words, ResolvConf& conf) {
  constexpr std::string_view kNdots = "ndots:";
  for (auto word = take_word(words); !word.empty(); word = take_word(words)) {
    if (!word.starts_with(kNdots)) continue;
    auto n = parse_number(word.substr(kNdots.size()), UINT64_MAX);
    if (n) conf.ndots = static_cast<unsigned>(std::min<std::uint64_t>(*n, kMaxNdots));
  }
}

void parse_line(std::string_view line, ResolvConf& conf) {
  // glibc takes a comment at the start of a line only; elsewhere ; and # can be in no address and no name.
  line = line.substr(0, line.find_first_of(";#"));
  auto keyword = take_word(line);
  if (keyword == "nameserver") {
    auto address = parse_ip(take_word(line));
    if (!address || conf.nameservers.size() >= kMaxNameservers) return;
    Nameserver server{*address};
    if (std::ranges::find(conf.nameservers, server) == conf.nameservers.end()) conf.nameservers.push_back(server);
  } else if (keyword == "search") {
    parse_domains(line, kMaxSearchDomains, conf.search);
  } else if (keyword == "domain") {
    parse_domains(line, 1, conf.search);
  } else if (keyword == "options") {
    parse_options(line, conf);
  }
}

}  // namespace

std::string to_string(const Nameserver& server) {
  return server.port == 53 ? to_string(server.address) : with_port(server.address, server.port);
}

ResolvConf parse_resolv_conf(std::string_view text) {
  ResolvConf conf;
  if (text.size() > kMaxResolvConfBytes) {
    // The line that is cut would say something else than it says.
    text = text.substr(0, kMaxResolvConfBytes);
    auto last = text.rfind('\n');
    text = text.substr(0, last == std::string_view::npos ? 0 : last);
  }
  while (!text.empty()) {
    auto line = text.substr(0, text.find('\n'));
    text.remove_prefix(std::min(text.size(), line.size() + 1));
    parse_line(line, conf);
  }
  return conf;
}

Result<Nameserver> parse_nameserver(std::string_view text) {
  auto refuse = [&](std::string_view why) {
    return fail(ErrorCode::kInvalidArgument,
                "\"{}\" {}; a name server is written as 10.0.0.2, 10.0.0.2:5353, fd00::2 or [fd00::2]:5353", text, why);
  };
  std::string_view address = text, port;
  bool has_port = false;
  if (text.starts_with('[')) {
    auto end = text.find(']');
    if (end == std::string_view::npos) return refuse("has no closing bracket");
    address = text.substr(1, end - 1);
    auto rest = text.substr(end + 1);
    if (address.find(':') == std::string_view::npos || (!rest.empty() && rest.front() != ':'))
      return refuse("is no name server's address");
    has_port = !rest.empty();
    port = rest.substr(has_port ? 1 : 0);
  } else if (std::ranges::count(text, ':') == 1) {
    address = text.substr(0, text.find(':'));
    port = text.substr(address.size() + 1);
    has_port = true;
  }
  if (address.find('%') != std::string_view::npos) return refuse("has a scope, which casad does not take");
  auto ip = parse_ip(address);
  if (!ip || to_string(*ip) == "::" || to_string(*ip) == "0.0.0.0") return refuse("is no name server's address");
  Nameserver server{*ip};
  if (has_port) {
    auto number = parse_number(port, 65535);
    if (!number || *number == 0) return refuse("has no port from 1 to 65535");
    server.port = static_cast<std::uint16_t>(*number);
  }
  return server;
}

}  // namespace casa::dns

#include "http1_made.h"

#include <algorithm>

namespace casa::inspect {
namespace {

constexpr std::string_view kBase64 = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
constexpr std::string_view kSymbols =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~+/=!#$%&'()*:<>?@[]^`{|}\\";

std::string encode(std::string_view bytes) {
  std::string out;
  unsigned bits = 0, count = 0;
  for (char c : bytes) {
    bits = bits << 8 | static_cast<std::uint8_t>(c);
    for (count += 8; count >= 6; count -= 6) out += kBase64[bits >> (count - 6) & 63];
  }
  if (count != 0) out += kBase64[bits << (6 - count) & 63];
  return out;
}

}  // namespace

std::string Http1Maker::letters(std::size_t n, std::string_view alphabet) {
  std::string out(n, ' ');
  for (char& c : out) c = alphabet[below(alphabet.size())];
  return out;
}

std::string Http1Maker::space() {
  std::string out(1 + below(3), ' ');
  for (char& c : out)
    if (chance(4)) c = '\t';
  return out;
}

std::string Http1Maker::cased(std::string text) {
  if (chance(2)) return text;
  for (char& c : text)
    if (chance(2) && std::isalpha(static_cast<unsigned char>(c))) c = static_cast<char>(c ^ 32);
  return text;
}

std::string Http1Maker::json() {
  static const char* const kAlgs[] = {"\"HS256\"",   "\"RS256\"", "\"none\"",  "\"None\"",       "\"nOnE\"",
                                      "\"NONE\"",    "\"non\"",   "\"nonee\"", "\"n\\u006fne\"", "\"no\\/ne\"",
                                      "\"\"",        "null",      "0",         "[\"none\"]",     "{\"alg\":\"none\"}",
                                      "\"\\\"none\""};
  static const char* const kKeys[] = {"alg", "alg", "alg", "alg", "a\\u006cg", "Alg", "algo", "al", "\\u0061lg"};
  static const char* const kOthers[] = {"\"typ\":\"JWT\"",
                                        "\"kid\":\"a1\"",
                                        "\"kid\":\"none\"",
                                        "\"x5c\":[\"alg\",\"none\"]",
                                        "\"jwk\":{\"alg\":\"none\",\"x\":{\"alg\":\"none\"}}",
                                        "\"kid\":\"a\\\\\"",
                                        "\"kid\":\"\\\",\\\"alg\\\":\\\"none\"",
                                        "\"exp\":17",
                                        "\"b64\":false",
                                        "\"n\":\"a:b,c}\""};
  std::string out = chance(12) ? " " : "", comma;
  out += chance(30) ? "[" : "{";
  for (std::size_t n = 1 + below(4); n > 0; --n) {
    std::string blank = chance(5) ? "\t\n\r " : "";
    out += comma + blank;
    if (chance(2)) out += std::string("\"") + one_of(kKeys) + "\"" + blank + ":" + blank + one_of(kAlgs);
    else out += one_of(kOthers);
    comma = blank + ",";
  }
  out += chance(30) ? "]" : chance(40) ? "" : "}";
  if (chance(40)) out += "x";
  if (chance(20)) out.resize(below(out.size() + 1));
  if (chance(20)) out.insert(below(out.size() + 1), 1, static_cast<char>(below(256)));
  return out;
}

std::string Http1Maker::jwt() {
  std::string out = encode(json());
  static const std::size_t kParts[] = {3, 3, 3, 3, 3, 3, 3, 3, 2, 4, 5, 1};
  for (std::size_t n = kParts[below(12)]; n > 1; --n) {
    out += '.';
    if (!chance(15)) out += letters(1 + below(chance(8) ? 900 : 90), kBase64);
  }
  if (chance(15)) out += "=";
  if (chance(20)) out.insert(below(out.size() + 1), 1, kSymbols[below(kSymbols.size())]);
  return out;
}

std::string Http1Maker::token() {
  std::size_t which = below(100);
  if (which < 25 && !pool_[which % 3].empty()) return pool_[which % 3];
  std::string out = which < 60   ? jwt()
                    : which < 95 ? letters(1 + below(chance(3) ? 300 : 80), kSymbols)
                    : which < 98 ? letters(1 + below(8), kSymbols)
                                 : letters(CASA_TOKEN_MAX - 3 + below(6), kSymbols);
  if (out.empty()) out = "x";
  return pool_[below(3)] = out;
}

std::string Http1Maker::target() {
  static const char* const kPaths[] = {"/",
                                       "/token",
                                       "/oauth2/token",
                                       "/v1/introspect",
                                       "*",
                                       "/mcp",
                                       "/a/b/c",
                                       "//x//token",
                                       "http://auth.example/realms/x/token",
                                       "http://h",
                                       "example.com:443",
                                       "/a;b=c/token",
                                       "/%74oken",
                                       "/token#x",
                                       "?x=/token",
                                       "/tokens",
                                       "http:/x/token",
                                       "/*x/y"};
  std::string out = one_of(kPaths);
  if (chance(8)) out += "/" + letters(20 + below(10), kBase64);
  if (chance(10))
    for (std::size_t n = below(10); n > 0; --n) out += "/" + letters(below(26), kBase64);
  if (chance(6)) out += "?access_token=" + letters(below(chance(5) ? 3000 : 60), kSymbols);
  if (chance(40)) out += static_cast<char>(128 + below(128));
  return out;
}

std::string Http1Maker::authorization() {
  static const char* const kSchemes[] = {
      "Basic dXNlcjpwYXNz", "Digest a=b", "Bearertoken",  "Bear er x",   "Bearer:x", "", "Bearer",
      "Negotiate YII=",     "DPoP eyJh",  "\"Bearer x\"", "Bearer \"x\""};
  std::string out = cased("Authorization") + ":" + (chance(4) ? "" : space()) + fold();
  if (chance(5)) return out + one_of(kSchemes);
  out += cased("Bearer") + fold() + space() + fold() + token();
  if (chance(8)) out += one_of({" ", "\t", ", x", ";x", "\"", "  \t ", " Bearer y"});
  if (chance(60)) out += static_cast<char>(below(256));
  return out;
}

// What looks like a request, where none is read.
std::string Http1Maker::fake() {
  return "GET /fake HTTP/1.1\r\nAuthorization: Bearer FAKE" + letters(below(40), kBase64) + "\r\n\r\n";
}

std::string Http1Maker::field() {
  static const char* const kFields[] = {"Host: example.com",
                                        "User-Agent: curl/8",
                                        "Accept: */*",
                                        "Expect: 100-continue",
                                        "Proxy-Authorization: Bearer no",
                                        "X-Authorization: Bearer no",
                                        "Authorization-X: Bearer no",
                                        "AuthorizationX: Bearer no",
                                        "Auth: Bearer no",
                                        "Cookie: a=Bearer no",
                                        "X:",
                                        "Connection: keep-alive",
                                        "no colon at all",
                                        ": Bearer no",
                                        "Authorizatio"};
  std::size_t which = below(100);
  if (which < 30) return authorization();
  if (which < 33) return cased("Upgrade") + ": " + one_of({"websocket", "h2c", "TLS/1.0"});
  if (which < 34) return cased("Authorization") + one_of({" :", "\t:", "\v:", "\0:", "\x80:", "\x7f:"}) + " Bearer x";
  if (which < 35)
    return cased("Authorization") + ":" + one_of({"\v", "\f", "\x1c", "\xa0", "\x85", " \v", "\x7f"}) + "Bearer x";
  if (which < 36) return "Authorization: Bearer" + std::string(one_of({"\v", "\xa0", "\x1f", " \v"})) + "x";
  std::string out = one_of(kFields);
  if (chance(20)) out += letters(below(chance(10) ? 5000 : 300), kSymbols);
  if (chance(15)) out += eol() + space() + one_of({"folded", "Authorization: Bearer no", ""});
  if (chance(100)) out += '\r';
  if (chance(100)) out += std::string(1, '\0') + "x";
  return out;
}

std::string Http1Maker::chunks() {
  std::string out;
  char size[40];
  for (std::size_t n = below(chance(10) ? 40 : 5); n > 0; --n) {
    std::string bytes = chance(2) ? fake() : letters(1 + below(chance(10) ? 3000 : 60), kSymbols);
    std::snprintf(size, sizeof size, chance(2) ? "%zx" : chance(2) ? "%zX" : "%08zx", bytes.size());
    out += size;
    if (chance(8)) out += space();
    if (chance(8)) out += ";a=\"b\";" + letters(below(30), kSymbols);
    out += "\r\n" + bytes + "\r\n";
  }
  out += chance(4) ? "000" : "0";
  out += "\r\n";
  if (chance(5)) out += "Authorization: Bearer no" + eol();
  return out + eol();
}

std::string Http1Maker::request() {
  static const char* const kMethods[] = {"GET",
                                         "GET",
                                         "POST",
                                         "POST",
                                         "POST",
                                         "PUT",
                                         "OPTIONS",
                                         "DELETE",
                                         "M-SEARCH",
                                         "post",
                                         "AVERYLONGMETHODNAMEINDEED"};
  static const char* const kVersions[] = {"HTTP/1.0", "HTTP/1.9", "HTTP/1.1 ", "HTTP/2.0",
                                          "HTTP/0.9", "http/1.1", "HTTP/1.10", ""};
  std::string out = chance(12) ? one_of({"\r\n", "\n", "\r\n\r\n", "\r"}) : "";
  out += chance(60) ? "CONNECT" : one_of(kMethods);
  out += (chance(20) ? space() : " ") + target() + (chance(20) ? space() : " ");
  out += (chance(15) ? one_of(kVersions) : "HTTP/1.1") + eol();
  if (chance(150)) out += " Authorization: Bearer no\r\n";
  for (std::size_t n = below(6); n > 0; --n) out += field() + eol();
  if (chance(400))
    out += "X: " + letters(CASA_HEAD_MAX - out.size() - 200 + below(400), kSymbols) + eol() + field() + eol();
  std::size_t which = below(100);
  std::string body;
  if (which < 30) {
    body = chance(2) ? fake() : letters(below(chance(8) ? 20000 : 200), kSymbols);
    out += cased("Content-Length") + ":" + space() + fold() + (chance(10) ? "00" : "") + std::to_string(body.size()) +
           (chance(8) ? space() : "") + fold() + eol();
  } else if (which < 55) {
    body = chunks();
    out += cased("Transfer-Encoding") + ":" + space() + fold() + cased("chunked") + (chance(8) ? space() : "") +
           fold() + eol();
  } else if (which < 59) {
    static const char* const kBroken[] = {"Content-Length: 5, 5",
                                          "Content-Length: +5",
                                          "Content-Length: ",
                                          "Content-Length: 5x",
                                          "Content-Length: 99999999999999999999",
                                          "Content-Length: 5\r\nContent-Length: 5",
                                          "Transfer-Encoding: gzip, chunked",
                                          "Transfer-Encoding: chunked\r\nContent-Length: 5",
                                          "Content-Length: 5\nTransfer-Encoding: chunked",
                                          "Transfer-Encoding: identity",
                                          "Transfer-Encoding : chunked",
                                          "Content-Length : 5",
                                          "Content-Length: 0x5",
                                          "Content-Length: 72057594037927936",
                                          "Transfer-Encoding:",
                                          "Content-Length: -1"};
    out += one_of(kBroken) + eol();
    body = letters(5, kSymbols);
  }
  if (chance(3)) out += field() + eol();
  out += eol() + body;
  if (which < 55 && which >= 30 && chance(10)) spoil(out);
  return out;
}

std::string Http1Maker::other_protocol() {
  static const char* const kOthers[] = {"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
                                        "SSH-2.0-OpenSSH_9.2p1\r\n",
                                        "*1\r\n$4\r\nPING\r\n",
                                        "EHLO example.com\r\n",
                                        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
                                        "\x81\x05hello",
                                        "GET /\r\n",
                                        " GET / HTTP/1.1\r\nAuthorization: Bearer x\r\n\r\n",
                                        "HTTP/1.1 200 OK\r\nAuthorization: Bearer x\r\n\r\n",
                                        "\x17\x03\x03",
                                        "{\"jsonrpc\":\"2.0\"}\n"};
  std::string out = one_of(kOthers);
  for (std::size_t n = below(60); n > 0; --n) out += static_cast<char>(below(256));
  return out;
}

void Http1Maker::spoil(std::string& text) {
  if (text.empty()) return;
  std::size_t at = below(text.size());
  switch (below(4)) {
    case 0: text[at] = static_cast<char>(below(256)); break;
    case 1: text.erase(at, 1 + below(3)); break;
    case 2: text.insert(at, 1, "\r\n \t:,;\0\x7f/"[below(10)]); break;
    default: text.insert(at, letters(1 + below(5), kSymbols));
  }
}

std::string Http1Maker::stream() {
  if (chance(25)) return other_protocol();
  std::string out;
  for (std::size_t n = 1 + below(chance(10) ? 30 : 4); n > 0; --n) out += request();
  if (chance(12)) out += other_protocol();
  if (chance(6)) spoil(out);
  if (chance(8)) out.resize(below(out.size() + 1));
  return out;
}

Http1Way Http1Maker::way(std::size_t length) {
  Http1Way way = Http1Way::of(static_cast<std::uint8_t>(below(64)));
  way.seed = static_cast<std::uint32_t>(random_());
  way.sequence = chance(2) ? static_cast<std::uint32_t>(random_()) : 0u - static_cast<std::uint32_t>(below(length + 2));
  static const std::size_t kLongest[] = {0, 0, 0, 0, 1448, 300, 50, 7, 2, 1};
  way.longest = kLongest[below(10)];
  if (length > 3000 && way.longest != 0) way.longest = std::max<std::size_t>(way.longest, length / 300);
  way.watch = chance(16);
  way.used_before = chance(8);
  return way;
}

}  // namespace casa::inspect

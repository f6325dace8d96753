#include "source/kube_login.h"

#include <openssl/err.h>
#include <openssl/ssl.h>

#include <algorithm>
#include <boost/asio/buffer.hpp>

#include "base/tls_client.h"
#include "source/small_file.h"

namespace casa::source {
namespace {

namespace asio = boost::asio;
namespace ssl = boost::asio::ssl;
using boost::system::error_code;

constexpr std::size_t kMaxTokenFile = 64 * 1024;
constexpr std::size_t kMaxPem = 1u << 20;

Result<std::string> read_pem(const PemSource& pem) {
  if (pem.file.empty()) return pem.text;
  return read_small_file(pem.file, kMaxPem);
}

}  // namespace

KubeLogin::KubeLogin(KubeAccess access, std::chrono::milliseconds token_period)
    : access_(std::move(access)), token_period_(token_period), token_(access_.token) {
  if (access_.server.address) addresses_ = {*access_.server.address};
  else if (!access_.server.needs_name()) addresses_ = {*parse_ip("127.0.0.1"), *parse_ip("::1")};
}

const std::string& KubeLogin::name() const {
  return access_.tls_server_name.empty() ? access_.server.host : access_.tls_server_name;
}

Status KubeLogin::prepare(ssl::context& context) const {
  TRY(trust_authorities(context, access_.authorities.file, access_.authorities.text));
  if (access_.certificate.empty()) return {};
  TRY_ASSIGN(std::string certificate, read_pem(access_.certificate));
  TRY_ASSIGN(std::string key, read_pem(access_.key));
  error_code ec;
  context.use_certificate_chain(asio::buffer(certificate), ec);
  if (!ec) context.use_private_key(asio::buffer(key), ssl::context::pem, ec);
  OPENSSL_cleanse(key.data(), key.size());
  ERR_clear_error();
  if (ec)
    return fail(ErrorCode::kInvalidArgument, "the client's certificate and key of {} are not usable: {}", access_.from,
                ec.message());
  return {};
}

Status KubeLogin::read_token() {
  token_read_ = Clock::now();
  TRY_ASSIGN(std::string text, read_small_file(access_.token_file, kMaxTokenFile));
  auto begin = text.find_first_not_of(" \t\r\n");
  auto end = text.find_last_not_of(" \t\r\n");
  std::string token = begin == std::string::npos ? std::string() : text.substr(begin, end - begin + 1);
  OPENSSL_cleanse(text.data(), text.size());
  if (token.empty()) return fail(ErrorCode::kInvalidArgument, "the token's file {} is empty", access_.token_file);
  if (std::ranges::any_of(token, [](char c) { return c <= ' ' || c > '~'; }))
    return fail(ErrorCode::kInvalidArgument, "the token in {} has a character that no token has", access_.token_file);
  token_ = std::move(token);
  return {};
}

Result<std::string> KubeLogin::authorization() {
  bool due = token_.empty() || !token_read_ || Clock::now() - *token_read_ >= token_period_;
  if (!access_.token_file.empty() && due) {
    Status read = read_token();
    if (!read && token_.empty()) return std::unexpected(std::move(read).error());
  }
  return token_.empty() ? std::string() : "Bearer " + token_;
}

bool KubeLogin::renewed(const std::string& refused) {
  if (access_.token_file.empty()) return false;
  // Another connection may have found it renewed before this one.
  if (refused != "Bearer " + token_) return true;
  return read_token() && refused != "Bearer " + token_;
}

}  // namespace casa::source

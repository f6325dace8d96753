// A small API server on 127.0.0.1 over TLS: it keeps objects, revisions and events, lists in pages, watches, and is ill in all the ways that a test
// wants. It shares the test's io_context, and speaks HTTP/1.1 by itself, byte by byte where that is asked for.
#pragma once

#include <zlib.h>

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/read.hpp>
#include <boost/asio/read_until.hpp>
#include <boost/asio/ssl.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/asio/write.hpp>
#include <chrono>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "../certificate.h"

namespace casa::source::test {

namespace asio = boost::asio;
using casa::test::Certificate;

inline const std::string kPods = "/api/v1/pods", kNamespaces = "/api/v1/namespaces", kServices = "/api/v1/services",
                         kNodes = "/api/v1/nodes", kPolicies = "/apis/casa.io/v1alpha1/casapolicies",
                         kSystems = "/apis/casa.io/v1alpha1/multiagentsystems",
                         kSlices = "/apis/discovery.k8s.io/v1/endpointslices",
                         kOldSlices = "/apis/discovery.k8s.io/v1beta1/endpointslices";

inline std::string gzip(const std::string& text) {
  z_stream stream{};
  REQUIRE(deflateInit2(&stream, Z_DEFAULT_COMPRESSION, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY) == Z_OK);
  std::string packed(deflateBound(&stream, text.size()) + 64, '\0');
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(text.data()));
  stream.avail_in = static_cast<uInt>(text.size());
  stream.next_out = reinterpret_cast<Bytef*>(packed.data());
  stream.avail_out = static_cast<uInt>(packed.size());
  REQUIRE(deflate(&stream, Z_FINISH) == Z_STREAM_END);
  packed.resize(stream.total_out);
  deflateEnd(&stream);
  return packed;
}

class KubeApi {
 public:
  struct Object {
    std::string ns, name, uid;
    std::uint64_t version = 0;
    std::string more;  // members beside metadata, with a leading comma
    std::string node;
    bool finished = false;
  };
  struct Request {
    std::string method, path, token, head, body;
    std::map<std::string, std::string> query;
  };

  KubeApi(asio::io_context& io, const Certificate& certificate, const Certificate* clients = nullptr)
      : io_(io), context_(asio::ssl::context::tls_server), port_holder_(io, asio::ip::tcp::v4()) {
    port_holder_.set_option(asio::socket_base::reuse_address(true));
    port_holder_.bind({asio::ip::make_address("127.0.0.1"), 0});
    std::string chain = certificate.pem(), key = certificate.key_pem();
    context_.use_certificate_chain(asio::buffer(chain));
    context_.use_private_key(asio::buffer(key), asio::ssl::context::pem);
    if (clients != nullptr) {
      std::string pem = clients->pem();
      context_.add_certificate_authority(asio::buffer(pem));
      context_.set_verify_mode(asio::ssl::verify_peer | asio::ssl::verify_fail_if_no_peer_cert);
    }
    for (const auto& path : {kPods, kNamespaces, kServices, kNodes, kPolicies, kSystems, kSlices}) resources_[path];
    open();
  }

  // The objects.
  Object& put(const std::string& path, const std::string& ns, const std::string& name, const std::string& more = "",
              const std::string& node = "other", bool finished = false) {
    auto [it, fresh] = resources_[path].try_emplace(ns + "/" + name);
    Object& object = it->second;
    if (fresh) object.uid = "uid-" + std::to_string(++uids_);
    object.ns = ns, object.name = name, object.more = more, object.node = node, object.finished = finished;
    object.version = ++revision;
    event(path, fresh ? "ADDED" : "MODIFIED", object);
    return object;
  }
  void remove(const std::string& path, const std::string& ns, const std::string& name) {
    auto found = resources_[path].extract(ns + "/" + name);
    REQUIRE(!found.empty());
    found.mapped().version = ++revision;
    event(path, "DELETED", found.mapped());
  }
  void send_line(const std::string& path, const std::string& line) {
    events_.push_back({path, ++revision, "raw", {}, line});
    wake();
  }
  void bookmark(const std::string& path) {
    ++revision;
    send_line(path, R"({"type":"BOOKMARK","object":{"kind":"X","metadata":{"resourceVersion":")" +
                        std::to_string(revision + 1) + R"("}}})");
  }
  // Nothing before now can be watched from any more.
  void compact() { compacted_ = revision; }

  // The server as a whole.
  [[nodiscard]] unsigned short port() const { return port_holder_.local_endpoint().port(); }
  void away() {
    acceptor_->close();
    drop();
  }
  void back() { open(); }
  void drop() {
    ++era_;
    for (auto& socket : sockets_)
      if (auto alive = socket.lock()) alive->lowest_layer().close();
    sockets_.clear();
    wake();
  }

  std::uint64_t revision = 100;
  std::size_t chunk = 0;      // bytes in a chunk; 0: all at once
  bool packed = false;        // lists
  bool frozen = false;        // the kernel acknowledges, and nobody answers
  bool expire_pages = false;  // a continued list: 410
  bool error_events = true;   // 410 for a watch as an event under HTTP 200; false: as HTTP 410
  bool end_watches = false;   // each at once
  std::string retry_after;
  unsigned failing = 0;         // answer all with this status
  bool holds_writes = false;    // their answers wait
  unsigned write_status = 200;  // of PATCH, POST and the like
  std::set<std::string> absent, forbidden, tokens;
  std::vector<Request> requests;
  unsigned connections = 0, watches = 0;

  [[nodiscard]] std::size_t asked(const std::string& path, const std::string& with = "") const {
    std::size_t count = 0;
    for (const auto& request : requests)
      if (request.path == path && (with.empty() || request.query.contains(with))) ++count;
    return count;
  }

 private:
  using Stream = asio::ssl::stream<asio::ip::tcp::socket>;
  struct Event {
    std::string path;
    std::uint64_t version;
    std::string type;
    Object object;
    std::string raw;
  };

  void open() {
    acceptor_ = std::make_shared<asio::ip::tcp::acceptor>(io_, port_holder_.local_endpoint());
    asio::co_spawn(io_, accept(acceptor_), asio::detached);
  }
  void event(const std::string& path, const std::string& type, const Object& object) {
    events_.push_back({path, object.version, type, object, {}});
    wake();
  }
  void wake() {
    for (auto* timer : waiting_) timer->cancel();
  }

  asio::awaitable<void> accept(std::shared_ptr<asio::ip::tcp::acceptor> acceptor) {
    for (;;) {
      auto [ec, socket] = co_await acceptor->async_accept(asio::as_tuple(asio::use_awaitable));
      if (ec) co_return;
      ++connections;
      auto stream = std::make_shared<Stream>(std::move(socket), context_);
      sockets_.push_back(stream);
      asio::co_spawn(io_, serve(stream), asio::detached);
    }
  }

  asio::awaitable<void> thaw() {
    asio::steady_timer timer(io_);
    while (frozen) {
      timer.expires_after(std::chrono::milliseconds{5});
      co_await timer.async_wait(asio::use_awaitable);
    }
  }

  asio::awaitable<void> serve(std::shared_ptr<Stream> stream) {
    try {
      co_await thaw();
      co_await stream->async_handshake(asio::ssl::stream_base::server, asio::use_awaitable);
      std::string buffer;
      for (;;) {
        std::size_t length =
            co_await asio::async_read_until(*stream, asio::dynamic_buffer(buffer), "\r\n\r\n", asio::use_awaitable);
        co_await thaw();
        Request request = parse(buffer.substr(0, length));
        buffer.erase(0, length);
        std::size_t more = body_length(request.head);
        if (buffer.size() < more)
          co_await asio::async_read(*stream, asio::dynamic_buffer(buffer), asio::transfer_exactly(more - buffer.size()),
                                    asio::use_awaitable);
        request.body = buffer.substr(0, more);
        buffer.erase(0, more);
        requests.push_back(request);
        co_await answer(*stream, request);
      }
    } catch (const std::exception&) {
      // The client went away, or the server did.
    }
  }

  static std::string decode(const std::string& text) {
    std::string plain;
    for (std::size_t i = 0; i < text.size(); ++i) {
      if (text[i] != '%') plain += text[i];
      else plain += static_cast<char>(std::stoi(text.substr(i + 1, 2), nullptr, 16)), i += 2;
    }
    return plain;
  }
  static Request parse(const std::string& head) {
    Request request;
    request.head = head;
    auto space = head.find(' '), end = head.find(' ', space + 1);
    request.method = head.substr(0, space);
    std::string target = head.substr(space + 1, end - space - 1), query;
    if (auto mark = target.find('?'); mark != std::string::npos) query = target.substr(mark + 1), target.resize(mark);
    request.path = target;
    for (std::size_t at = 0; at < query.size();) {
      auto stop = std::min(query.find('&', at), query.size());
      std::string pair = query.substr(at, stop - at);
      auto equals = pair.find('=');
      request.query[pair.substr(0, equals)] = decode(pair.substr(equals + 1));
      at = stop + 1;
    }
    constexpr std::string_view kBearer = "Authorization: Bearer ";
    if (auto at = head.find(kBearer); at != std::string::npos)
      request.token = head.substr(at + kBearer.size(), head.find("\r\n", at) - at - kBearer.size());
    return request;
  }

  static std::size_t body_length(const std::string& head) {
    constexpr std::string_view kLength = "Content-Length: ";
    auto at = head.find(kLength);
    return at == std::string::npos ? 0 : std::stoul(head.substr(at + kLength.size()));
  }

  static asio::awaitable<void> write(Stream& stream, std::string text) {
    co_await asio::async_write(stream, asio::buffer(text), asio::use_awaitable);
  }
  asio::awaitable<void> reply(Stream& stream, const std::string& status, std::string body,
                              const std::string& more = "") {
    std::string text = "HTTP/1.1 " + status + "\r\nContent-Type: application/json\r\n" + more;
    if (chunk == 0) {
      text += "Content-Length: " + std::to_string(body.size()) + "\r\n\r\n" + body;
    } else {
      text += "Transfer-Encoding: chunked\r\n\r\n" + chunks(body) + "0\r\n\r\n";
    }
    co_await write(stream, std::move(text));
  }
  [[nodiscard]] std::string chunks(const std::string& body) const {
    std::string text;
    std::size_t step = chunk == 0 ? body.size() : chunk;
    for (std::size_t at = 0; at < body.size(); at += step) {
      std::string part = body.substr(at, step);
      char size[20];
      std::snprintf(size, sizeof size, "%zx\r\n", part.size());
      text += size + part + "\r\n";
    }
    return text;
  }
  static std::string status_text(unsigned code, const std::string& message) {
    return R"({"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","message":")" + message +
           R"(","reason":"x","code":)" + std::to_string(code) + "}";
  }

  asio::awaitable<void> answer(Stream& stream, const Request& request) {
    std::string more = retry_after.empty() ? "" : "Retry-After: " + retry_after + "\r\n";
    auto resource = resources_.find(request.path);
    if (failing != 0) {
      co_await reply(stream, std::to_string(failing) + " x", status_text(failing, "etcd is away"), more);
    } else if (!tokens.empty() && !tokens.contains(request.token)) {
      co_await reply(stream, "401 Unauthorized", status_text(401, "Unauthorized"));
    } else if (request.method != "GET") {
      co_await take(stream);
    } else if (request.path == "/version") {
      co_await reply(stream, "200 OK", R"({"major":"1"})");
    } else if (resource == resources_.end() || absent.contains(request.path)) {
      co_await reply(stream, "404 Not Found", "404 page not found\n");
    } else if (forbidden.contains(request.path)) {
      co_await reply(stream, "403 Forbidden", status_text(403, "pods is forbidden: User \\\"x\\\" cannot list it"));
    } else if (request.query.contains("watch")) {
      co_await watch(stream, request);
    } else {
      co_await list(stream, request);
    }
  }

  // What was sent stands in `requests`; nothing of it becomes an object.
  asio::awaitable<void> take(Stream& stream) {
    asio::steady_timer timer(io_);
    while (holds_writes) {
      timer.expires_after(std::chrono::milliseconds{5});
      co_await timer.async_wait(asio::use_awaitable);
    }
    std::string answer = write_status == 200 ? "{}" : status_text(write_status, "not this time");
    co_await reply(stream, std::to_string(write_status) + " x", std::move(answer));
  }

  // The selectors that a source may use.
  static bool fits(const Object& object, const Request& request) {
    auto it = request.query.find("fieldSelector");
    std::string all = it == request.query.end() ? "" : it->second;
    for (std::size_t at = 0; at < all.size();) {
      auto stop = std::min(all.find(',', at), all.size());
      std::string term = all.substr(at, stop - at);
      at = stop + 1;
      bool negative = term.find("!=") != std::string::npos;
      std::string field = term.substr(0, term.find(negative ? "!=" : "="));
      std::string value = term.substr(term.find('=') + 1);
      std::string have = field == "spec.nodeName"   ? object.node
                         : field == "metadata.name" ? object.name
                         : object.finished          ? "Succeeded"
                                                    : "Running";
      if ((have == value) == negative) return false;
    }
    return true;
  }
  static std::string json(const Object& object) {
    return R"({"metadata":{"name":")" + object.name + "\"," +
           (object.ns.empty() ? "" : R"("namespace":")" + object.ns + "\",") + R"("uid":")" + object.uid +
           R"(","resourceVersion":")" + std::to_string(object.version) + "\"}" + object.more + "}";
  }

  asio::awaitable<void> list(Stream& stream, const Request& request) {
    const auto& objects = resources_[request.path];
    auto limit = std::stoul(request.query.at("limit"));
    auto from = request.query.find("continue");
    if (from != request.query.end() && expire_pages) {
      co_await reply(stream, "410 Gone", status_text(410, "The provided continue parameter is too old"));
      co_return;
    }
    std::string items, next, last = from == request.query.end() ? "" : from->second;
    std::size_t count = 0;
    for (const auto& [key, object] : objects) {
      if ((!last.empty() && key <= last) || !fits(object, request)) continue;
      if (limit != 0 && count == limit) {
        next = R"(,"continue":")" + previous_ + "\"";
        break;
      }
      items += (count++ == 0 ? "" : ",") + json(object);
      previous_ = key;
    }
    std::string body = R"({"kind":"List","apiVersion":"v1","metadata":{"resourceVersion":")" +
                       std::to_string(revision) + "\"" + next + R"(},"items":[)" + items + "]}\n";
    bool pack = packed && request.head.find("gzip") != std::string::npos;
    co_await reply(stream, "200 OK", pack ? gzip(body) : body, pack ? "Content-Encoding: gzip\r\n" : "");
  }

  asio::awaitable<void> watch(Stream& stream, const Request& request) {
    std::uint64_t from = std::stoull(request.query.at("resourceVersion"));
    if (from < compacted_ && !error_events) {
      co_await reply(stream, "410 Gone", status_text(410, "too old resource version"));
      co_return;
    }
    ++watches;
    co_await write(stream, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
    unsigned era = era_;
    if (from < compacted_) {
      std::string line = R"({"type":"ERROR","object":)" + status_text(410, "too old resource version") + "}\n";
      co_await write(stream, chunks(line) + "0\r\n\r\n");
      co_return;
    }
    std::size_t at = 0;
    asio::steady_timer timer(io_);
    while (!end_watches && era == era_) {
      std::string lines;
      for (; at < events_.size() && !frozen; ++at) {
        const Event& event = events_[at];
        if (event.path != request.path || event.version <= from) continue;
        if (!event.raw.empty()) lines += event.raw + "\n";
        else if (std::string type = seen_as(event, at, request); !type.empty())
          lines += R"({"type":")" + type + R"(","object":)" + json(event.object) + "}\n";
      }
      if (!lines.empty()) co_await write(stream, chunks(lines));
      timer.expires_after(std::chrono::milliseconds{20});
      waiting_.insert(&timer);
      co_await timer.async_wait(asio::as_tuple(asio::use_awaitable));
      waiting_.erase(&timer);
    }
    co_await write(stream, "0\r\n\r\n");
  }
  // Through a selector an object appears and vanishes as it begins and ceases to fit.
  std::string seen_as(const Event& event, std::size_t at, const Request& request) {
    bool before = false;
    for (std::size_t i = at; i-- > 0;) {
      const Event& older = events_[i];
      if (older.path != event.path || older.object.uid != event.object.uid) continue;
      before = older.type != "DELETED" && fits(older.object, request);
      break;
    }
    bool now = event.type != "DELETED" && fits(event.object, request);
    return now ? (before ? "MODIFIED" : "ADDED") : before ? "DELETED" : "";
  }

  asio::io_context& io_;
  asio::ssl::context context_;
  asio::ip::tcp::socket port_holder_;  // bound, never listening: while the server is away, nobody else gets its port
  std::shared_ptr<asio::ip::tcp::acceptor> acceptor_;  // shared with its coroutine
  std::vector<std::weak_ptr<Stream>> sockets_;
  std::set<asio::steady_timer*> waiting_;
  std::map<std::string, std::map<std::string, Object>> resources_;
  std::vector<Event> events_;
  std::string previous_;
  std::uint64_t compacted_ = 0;
  unsigned uids_ = 0, era_ = 0;
};

}  // namespace casa::source::test

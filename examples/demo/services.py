#!/usr/bin/env python3
"""The honest processes of the demo, each in a cgroup of its own:

    services.py mcp | auth | outside | resolver     servers; print "ready" when they listen
    services.py agent TOKEN_FILE         the agent's daily work, until it is ended

They know nothing of casad. The MCP server speaks JSON-RPC over HTTP, and asks the auth service about each token, with a token of its own.
"""
import base64
import http.client
import json
import os
import socket
import socketserver
import struct
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import lab
import probe

MCP, AUTH, STATSD = 8080, 8000, 8125
TOOLS = [{"name": "search", "description": "searches documents", "inputSchema": {"type": "object"}}]


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, host, port, handler):
        self.address_family = probe.family_of(host)
        super().__init__((host, port), handler)

    def server_bind(self):
        socketserver.TCPServer.server_bind(self)  # HTTPServer's asks DNS for the host's name
        self.server_name, self.server_port = self.server_address[:2]

    def handle_error(self, request, client_address):
        pass  # callers that vanish are the demo's daily bread


def post(port, path, body, token=None):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        headers = {"Content-Type": "application/json", **({"Authorization": f"Bearer {token}"} if token else {})}
        connection.request("POST", path, json.dumps(body), headers)
        response = connection.getresponse()
        return response.status, json.loads(response.read())
    finally:
        connection.close()


class Handler(BaseHTTPRequestHandler):
    server_name = "somewhere"

    def answer(self, status, body):
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def body(self):
        return json.loads(self.rfile.read(int(self.headers.get("Content-Length") or 0)) or b"{}")

    def parse_request(self):
        """Besides HTTP a bare line "ping" is echoed: that is how probe.py knows that it got through."""
        if self.raw_requestline == b"ping\n":
            self.wfile.write(b"ping\n")
            self.close_connection = False
            return False
        return super().parse_request()

    def do_GET(self):
        self.answer(200, {"service": self.server_name})

    def do_POST(self):
        self.body()
        self.do_GET()

    def log_message(self, format, *arguments):
        pass


class Mcp(Handler):
    server_name = "mcp-server"
    own_token = None

    def do_POST(self):
        call = self.body()
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        if not Mcp.own_token:
            Mcp.own_token = ask_token("tools-mcp-server")
        status, verdict = post(AUTH, "/oauth2/introspect", {"token": token}, Mcp.own_token)
        if status != 200 or not verdict.get("active"):
            return self.answer(401, {"error": "token not active"})
        results = {"tools/list": {"tools": TOOLS},
                   "tools/call": {"content": [{"type": "text", "text": "42 documents"}]}}
        self.answer(200, {"jsonrpc": "2.0", "id": call.get("id"), "result": results.get(call.get("method"), {})})


def ask_token(client):
    return post(AUTH, f"/{client}/oauth2/token", {"grant_type": "client_credentials"})[1]["access_token"]


def make_token(subject):
    """In the shape of a JWT. Nobody signed it: the standard library has no RSA, so random bytes stand where the signature would, and the
    auth service knows its tokens by heart instead. casad tells shapes; signatures are checked only where tokens.signature says so."""
    def part(data):
        return base64.urlsafe_b64encode(data if isinstance(data, bytes) else json.dumps(data).encode()).rstrip(b"=").decode()
    claims = {"iss": "https://auth.example", "sub": subject, "exp": int(time.time()) + 3600, "jti": os.urandom(8).hex()}
    return ".".join([part({"alg": "RS256", "typ": "JWT", "kid": "demo"}), part(claims), part(os.urandom(256))])


class Auth(Handler):
    server_name = "auth"
    issued = set()

    def do_POST(self):
        asked = self.body()
        if self.path == "/oauth2/introspect":
            return self.answer(200, {"active": asked.get("token") in self.issued})
        if not self.path.endswith("/oauth2/token"):
            return self.answer(200, {"service": self.server_name})
        token = make_token(self.path.split("/")[1])
        self.issued.add(token)
        self.answer(200, {"access_token": token, "token_type": "Bearer"})


def echo_udp(host, port):
    s = socket.socket(probe.family_of(host), socket.SOCK_DGRAM)
    s.bind((host, port))

    def loop():
        while True:
            data, caller = s.recvfrom(4096)
            try:
                s.sendto(data, caller)
            except OSError:
                pass
    threading.Thread(target=loop, daemon=True).start()


def resolver():
    """A DNS server of this host at 127.0.0.1:53: all names of the outside are one address, as behind a CDN."""
    names = dict.fromkeys(("api.llm.example", "gateway.llm.example", "files.other.example"), lab.PARTNER4)
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.bind(("127.0.0.1", 53))
    print("ready", flush=True)
    while True:
        query, caller = s.recvfrom(4096)
        labels, at = [], 12
        while at < len(query) and query[at]:
            labels.append(query[at + 1:at + 1 + query[at]].decode("latin1"))
            at += 1 + query[at]
        question, address = query[12:at + 5], names.get(".".join(labels).lower())
        is_a = question[-4:-2] == b"\0\1"
        record = b"\xc0\x0c" + struct.pack(">2HIH", 1, 1, 30, 4) + socket.inet_aton(address) if address and is_a else b""
        header = query[:2] + struct.pack(">5H", 0x8180 if address else 0x8183, 1, bool(record), 0, 0)
        s.sendto(header + question + record, caller)


def serve(handler, tcp, udp=()):
    for host, port in udp:
        echo_udp(host, port)
    for host, port in tcp:
        threading.Thread(target=Server(host, port, handler).serve_forever, daemon=True).start()
    print("ready", flush=True)
    threading.Event().wait()


def agent(token_file):
    """A token, the list of tools, one call; again and again. It keeps the token in a file that others can read, as agents do."""
    print("ready", flush=True)
    while True:
        try:
            token = ask_token("agents-agent")
            post(MCP, "/mcp", {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}, token)
            status, _ = post(MCP, "/mcp", {"jsonrpc": "2.0", "id": 2, "method": "tools/call"}, token)
            print("ok" if status == 200 else f"status {status}", flush=True)
            lab.write_file(token_file, token)
        except OSError as e:
            print(f"failed: {e}", flush=True)
        time.sleep(5)


def main():
    role = sys.argv[1]
    probe.set_comm({"mcp": "mcp-server", "outside": "internet"}.get(role, role))
    local = ("127.0.0.1", "::1")
    if role == "mcp":
        serve(Mcp, [(h, MCP) for h in local], [(h, MCP) for h in local])
    elif role == "auth":
        serve(Auth, [(h, p) for h in local for p in (AUTH, AUTH + 1)], [(h, STATSD) for h in local])
    elif role == "outside":
        serve(Handler, [(h, 443) for h in (lab.OUTSIDE4, lab.OUTSIDE6, lab.PARTNER4)] + [(lab.PARTNER4, 80)],
              [(h, 53) for h in (lab.OUTSIDE4, lab.OUTSIDE6)] + [(lab.PARTNER4, 443)])
    elif role == "resolver":
        resolver()
    elif role == "agent":
        agent(sys.argv[2])


if __name__ == "__main__":
    main()

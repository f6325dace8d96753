"""A small transparent proxy, as Istio's: what the pod's rules redirect to it goes on to where it was meant to go.

15001: what the pod's application sends. With routes (--routes: JSON, "ip:port" of a Service to the list of its endpoints "ip:port") it goes to an
endpoint; with --originate PORT:CA what else was meant for port 80 goes to the same address at PORT over TLS, with the name of the Host field.
15006: what comes to the pod; it goes to the application from 127.0.0.6, or ::6. The program runs as the user that the rules let through.
"""
import argparse
import encodings.idna  # noqa: F401  what a first connection would load, when the proxy's user may not read it
import json
import os
import random
import socket
import ssl
import struct
import threading

SO_ORIGINAL_DST, OUTBOUND, INBOUND = 80, 15001, 15006
SOL_IPV6 = 41


def original(connection):
    if connection.family == socket.AF_INET:
        port, packed = struct.unpack("!2xH4s8x", connection.getsockopt(socket.IPPROTO_IP, SO_ORIGINAL_DST, 16))
        return socket.inet_ntoa(packed), port
    port, packed = struct.unpack("!2xH4x16s4x", connection.getsockopt(SOL_IPV6, SO_ORIGINAL_DST, 28))
    return socket.inet_ntop(socket.AF_INET6, packed), port


def pump(source, sink):
    try:
        while data := source.recv(65536):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)
    except OSError:
        for s in (source, sink):
            try:
                s.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass


def head(connection):
    data = b""
    while b"\r\n\r\n" not in data:
        piece = connection.recv(65536)
        if not piece:
            break
        data += piece
    return data


def open_outbound(connection, options):
    """-> (the connection that it goes on in, what was read already)"""
    host, port = original(connection)
    endpoints = options.routes.get(f"{host}:{port}")
    if endpoints:
        host, port = random.choice(endpoints).rsplit(":", 1)
    elif options.originate and port == 80:
        data = head(connection)
        name = next(line.split(b":", 1)[1].strip().decode() for line in data.split(b"\r\n") if line.lower().startswith(b"host:"))
        plain = socket.create_connection((host, int(options.originate.split(":")[0])), 5)
        return options.tls.wrap_socket(plain, server_hostname=name), data
    return socket.create_connection((host, int(port)), 5), b""


def open_inbound(connection, _options):
    host, port = original(connection)
    # What comes from there is not redirected again.
    passthrough = "127.0.0.6" if connection.family == socket.AF_INET else "::6"
    return socket.create_connection((host, port), 5, source_address=(passthrough, 0)), b""


def carry(connection, opener, options):
    try:
        there, data = opener(connection, options)
    except (OSError, StopIteration):
        # As a proxy that has no upstream: the application's connection ends with a reset.
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.close()
        return
    there.settimeout(None)
    there.sendall(data)
    back = threading.Thread(target=pump, args=(there, connection), daemon=True)
    back.start()
    pump(connection, there)
    back.join()
    connection.close()
    there.close()


def listen(family, port, opener, options):
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if family == socket.AF_INET6:
        listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    listener.bind(("::" if family == socket.AF_INET6 else "0.0.0.0", port))
    listener.listen(128)

    def serve():
        while True:
            connection, _ = listener.accept()
            threading.Thread(target=carry, args=(connection, opener, options), daemon=True).start()

    threading.Thread(target=serve, daemon=True).start()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--user", type=int, default=1337)
    parser.add_argument("--routes", type=json.loads, default={})
    parser.add_argument("--originate")
    options = parser.parse_args()
    if options.originate:  # with the files that the proxy's user may not read
        options.tls = ssl.create_default_context(cafile=options.originate.split(":", 1)[1])
    os.setgid(options.user)
    os.setuid(options.user)
    for family in (socket.AF_INET, socket.AF_INET6):
        listen(family, OUTBOUND, open_outbound, options)
        listen(family, INBOUND, open_inbound, options)
    print("ready", flush=True)
    threading.Event().wait()


if __name__ == "__main__":
    main()

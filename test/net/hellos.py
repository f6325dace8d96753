"""ClientHellos made by hand, and one from a real library."""
import os
import ssl
import struct

from naming import LLM

SERVER_NAME, PADDING, KEY_SHARE, ECH = 0, 21, 51, 0xFE0D


def extension(kind, body):
    return struct.pack(">HH", kind, len(body)) + body


def server_name(name, kind=0):
    """name: text or bytes"""
    name = name.encode("latin1") if isinstance(name, str) else name
    entry = struct.pack(">BH", kind, len(name)) + name
    return extension(SERVER_NAME, struct.pack(">H", len(entry)) + entry)


def record(handshake, version=0x0301):
    return struct.pack(">BHH", 22, version, len(handshake)) + handshake


def handshake(*extensions, session=b"s" * 32, ciphers=b"\x13\x01\x13\x02\xc0\x2f", compression=b"\0", kind=1):
    body = b"\x03\x03" + b"r" * 32 + bytes([len(session)]) + session + struct.pack(">H", len(ciphers)) + ciphers
    body += bytes([len(compression)]) + compression
    if extensions:
        rest = b"".join(extensions)
        body += struct.pack(">H", len(rest)) + rest
    return bytes([kind]) + struct.pack(">I", len(body))[1:] + body


def hello(*extensions, **options):
    return record(handshake(*extensions, **options))


GROUPS = extension(10, bytes.fromhex("0004001d0017"))
VERSIONS = extension(43, bytes.fromhex("0403040303"))


def usual(name=LLM):
    return hello(GROUPS, server_name(name), VERSIONS)


def key_shares(number, size=1216):
    """As post-quantum groups have them: more than a kilobyte each."""
    shares = b"".join(struct.pack(">HH", 0x11EC + i, size) + os.urandom(size) for i in range(number))
    return extension(KEY_SHARE, struct.pack(">H", len(shares)) + shares)


def real(name=LLM):
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    context = ssl.create_default_context()
    tls = context.wrap_bio(incoming, outgoing, server_hostname=name)
    try:
        tls.do_handshake()
    except ssl.SSLWantReadError:
        pass
    return outgoing.read()


def fields(data):
    """Where a hello's fields end, from the first byte on, for one that has a session id, ciphers, and extensions."""
    ends = [1, 3, 5, 6, 9, 11, 43, 44]
    at = 44 + data[43]
    for size in (2, 1):
        length = int.from_bytes(data[at:at + size], "big")
        ends += [at, at + size, at + size + length]
        at += size + length
    ends.append(at + 2)
    at += 2
    while at < len(data):
        kind, length = struct.unpack(">HH", data[at:at + 4])
        ends += [at + 2, at + 4, at + 4 + length]
        if kind == SERVER_NAME:
            ends += [at + 6, at + 7, at + 9, at + 10]
        at += 4 + length
    return sorted(set(e for e in ends if 0 < e < len(data)))

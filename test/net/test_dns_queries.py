"""Which DNS queries may leave: for the names that the policy needs, saying nothing else. The resolver sees what arrives."""
import socket
import struct

import pytest

from naming import A, AAAA, ANY, HTTPS, LLM, NULL, OPT, OTHER, PTR, TXT, query, wire_name
from spoof import FakeResolver
import lab

MESSAGES = {  # name: (bytes, reason)
    "another name": (query(OTHER), "dns_name_not_allowed"),
    "the parent": (query("llm.example"), "dns_name_not_allowed"),
    "a subdomain": (query("x." + LLM), "dns_name_not_allowed"),
    "the root": (query(b"\0"), "dns_name_not_allowed"),
    "long labels": (query(".".join(["d" * 63] * 3) + "." + LLM), "dns_name_not_allowed"),
    "the longest name": (query(".".join(["d" * 63] * 3 + ["d" * 61])), "dns_name_not_allowed"),
    "a dot inside a label": (query(b"\x07api.llm\x07example\0"), "dns_name_not_allowed"),
    "a NUL inside a label": (query(b"\x04api\0\x03llm\x07example\0"), "dns_name_not_allowed"),
    "a binary label": (query(b"\x03\xff\x80\x01\x03llm\x07example\0"), "dns_name_not_allowed"),
    "PTR of a stranger": (query("10.113.0.203.in-addr.arpa", PTR), "dns_name_not_allowed"),
    "TXT": (query(LLM, TXT), "dns_type_not_allowed"),
    "NULL": (query(LLM, NULL), "dns_type_not_allowed"),
    "ANY": (query(LLM, ANY), "dns_type_not_allowed"),
    "HTTPS": (query(LLM, HTTPS), "dns_type_not_allowed"),
    "PTR of the name": (query(LLM, PTR), "dns_type_not_allowed"),
    "AXFR": (query(LLM, 252), "dns_type_not_allowed"),
    "a type of one's own": (query(LLM, 65399), "dns_type_not_allowed"),
    "class CHAOS": (query(LLM, klass=3), "dns_malformed"),
    "trailing bytes": (query(LLM, extra=b"secret"), "dns_malformed"),
    "one trailing byte": (query(LLM, extra=b"s"), "dns_malformed"),
    "a second question": (query(LLM, counts=(2, 0, 0, 0), extra=wire_name(OTHER) + struct.pack(">2H", A, 1)), "dns_malformed"),
    "no question": (query(LLM, counts=(0, 0, 0, 0)), "dns_malformed"),
    "an answer section": (query(LLM, counts=(1, 1, 0, 0), extra=b"\xc0\x0c\0\x10\0\1\0\0\0\0\0\7\6secret"), "dns_malformed"),
    "an authority section": (query(LLM, counts=(1, 0, 1, 0), extra=b"\xc0\x0c\0\x10\0\1\0\0\0\0\0\7\6secret"), "dns_malformed"),
    "two additional records": (query(LLM, counts=(1, 0, 0, 2), extra=b"\0\0\x29\x04\xd0\0\0\0\0\0\0" * 2), "dns_malformed"),
    "another additional record": (query(LLM, counts=(1, 0, 0, 1), extra=b"\0\0\x10\0\1\0\0\0\0\0\7\6secret"), "dns_malformed"),
    "a private EDNS option": (query(LLM, counts=(1, 0, 0, 1), extra=b"\0" + struct.pack(">HHIHHH", OPT, 1232, 0, 12, 65001, 8) + b"secretss"),
                              "dns_malformed"),
    "client subnet": (query(LLM, counts=(1, 0, 0, 1), extra=b"\0" + struct.pack(">HHIHHH", OPT, 1232, 0, 11, 8, 7) + b"\0\1\x18\0abc"),
                      "dns_malformed"),
    "padding": (query(LLM, counts=(1, 0, 0, 1), extra=b"\0" + struct.pack(">HHIHHH", OPT, 1232, 0, 12, 12, 8) + b"secretss"), "dns_malformed"),
    "a cookie and more": (query(LLM, counts=(1, 0, 0, 1), extra=b"\0" + struct.pack(">HHIHHH", OPT, 1232, 0, 18, 10, 8) +
                                b"cookie42\xfd\xe9\0\2ab"), "dns_malformed"),
    "EDNS with an owner": (query(LLM, counts=(1, 0, 0, 1), extra=b"\1x\0" + struct.pack(">HHIH", OPT, 1232, 0, 0)), "dns_malformed"),
    "EDNS that is cut": (query(LLM, counts=(1, 0, 0, 1), extra=b"\0" + struct.pack(">HHI", OPT, 1232, 0)), "dns_malformed"),
    "a response": (query(LLM, flags=0x8180), "dns_malformed"),
    "opcode UPDATE": (query(LLM, flags=0x2800), "dns_malformed"),
    "the Z bit": (query(LLM, flags=0x0140), "dns_malformed"),
    "a compressed name": (query(b"\3api\xc0\x0c"), "dns_malformed"),
    "a loop": (query(b"\xc0\x0c"), "dns_malformed"),
    "a name that is cut": (query(LLM)[:20], "dns_malformed"),
    "a header that is cut": (query(LLM)[:11], "dns_malformed"),
    "text": (b"secret: 0123456789abcdef", "dns_malformed"),
    "nothing": (b"", "dns_malformed"),
}
ALLOWED = {
    "A": query(LLM),
    "AAAA": query(LLM, AAAA),
    "mixed case": query("aPi.LLm.ExamPLe"),
    "upper case": query(LLM.upper(), AAAA),
    "without recursion": query(LLM, flags=0),
    "AD and CD": query(LLM, flags=0x0130),
    "EDNS": query(LLM, counts=(1, 0, 0, 1), extra=b"\0" + struct.pack(">HHIH", OPT, 1232, 0, 0)),
    "EDNS with DO": query(LLM, counts=(1, 0, 0, 1), extra=b"\0" + struct.pack(">HHIH", OPT, 4096, 0x8000, 0)),
    "a client's cookie": query(LLM, counts=(1, 0, 0, 1), extra=b"\0" + struct.pack(">HHIHHH", OPT, 1232, 0, 12, 10, 8) + b"cookie42"),
    "a full cookie": query(LLM, counts=(1, 0, 0, 1), extra=b"\0" + struct.pack(">HHIHHH", OPT, 1232, 0, 28, 10, 24) + b"c" * 24),
}


@pytest.fixture(scope="module")
def dns(shared_world):
    f = shared_world.keep(FakeResolver(shared_world))
    return f


def framed(*messages):
    return b"".join(struct.pack(">H", len(m)) + m for m in messages)


def dial(dns):
    """TCP to the resolver: the agent's end and the resolver's."""
    s = dns.asker("SOCK_STREAM", 2.0)
    out = s.call("connect", [dns.address, 53])
    assert out.ok, out
    dns.tcp.settimeout(2)
    while True:
        connection, peer = dns.tcp.accept()
        if peer[1] < 20000:  # the daemon's resolver may come by TCP too
            return s, connection
        connection.close()


def arrived(connection, wait=0.15):
    connection.settimeout(wait)
    data = b""
    try:
        while piece := connection.recv(65536):
            data += piece
    except OSError:
        pass
    return data


@pytest.mark.parametrize("what", ALLOWED)
def test_allowed(dns, what):
    s, _ = dns.ask(ALLOWED[what])
    s.call("close")
    s, connection = dial(dns)
    with connection:
        assert s.call("sendall", framed(ALLOWED[what]).decode("latin1")).ok
        assert arrived(connection) == framed(ALLOWED[what])
        s.call("close")


@pytest.mark.parametrize("what", MESSAGES)
def test_refused_by_udp(dns, what):
    message, reason = MESSAGES[what]
    before = dns.denied(reason)
    s = dns.asker()
    out = s.call("sendto", message.decode("latin1"), [dns.address, 53])
    assert (out.ok, out.error) == (False, "EPERM"), out
    assert dns.queries(0.05) == []
    assert dns.denied(reason) == before + 1
    s.call("connect", [dns.address, 53])
    out = s.call("send", message.decode("latin1"))
    assert (out.ok, out.error) == (False, "EPERM"), out
    assert dns.queries(0.05) == []
    s.call("close")


@pytest.mark.parametrize("what", MESSAGES)
def test_refused_by_tcp(dns, what):
    message, reason = MESSAGES[what]
    before = dns.denied(reason)
    s, connection = dial(dns)
    with connection:
        s.call("sendall", framed(message).decode("latin1"))
        assert arrived(connection) == b""
        out = s.call("recv", 10)
        assert not out.ok and out.error in ("ECONNABORTED", "EPERM"), out
        s.call("close")
    assert dns.denied(reason) > before  # sent again, it is refused again


def test_an_allowed_query_and_more_behind_it(dns):
    """Several messages in one segment: the first that is refused takes its segment along."""
    s, connection = dial(dns)
    with connection:
        s.call("sendall", framed(query(LLM), query(OTHER)).decode("latin1"))
        assert arrived(connection) == b""
        s.call("close")


def test_two_queries_in_one_segment(dns):
    both = framed(query(LLM, A, 1), query(LLM, AAAA, 2))
    s, connection = dial(dns)
    with connection:
        assert s.call("sendall", both.decode("latin1")).ok
        assert arrived(connection) == both
        assert s.call("sendall", framed(query(LLM, A, 3)).decode("latin1")).ok
        assert arrived(connection) == framed(query(LLM, A, 3))
        s.call("close")


def test_a_query_in_two_segments(dns):
    """What cannot be read whole does not leave."""
    whole = framed(query(LLM))
    for cut in (1, 2, 3, 14, 20, len(whole) - 1):
        before = dns.denied("dns_not_whole")
        s, connection = dial(dns)
        with connection:
            s.call("setsockopt", socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for piece in (whole[:cut], whole[cut:]):
                s.call("sendall", piece.decode("latin1"))
            assert arrived(connection) == b""
            s.call("close")
        assert dns.denied("dns_not_whole") > before
    dns.world.wait_flow(verdict="DENIED", reason="dns_not_whole", dst_port=53, protocol="tcp")


def test_an_urgent_byte(dns):
    """A resolver reads past TCP's urgent byte: the query would be another than the one that was read here."""
    whole = framed(query(LLM))
    before = dns.denied("dns_malformed")
    s, connection = dial(dns)
    with connection:
        s.call("send", whole.decode("latin1"), socket.MSG_OOB)
        assert arrived(connection) == b""
        s.call("close")
    assert dns.denied("dns_malformed") > before


def test_a_hundred_subdomains(dns):
    """A tunnel by names: nothing of it leaves."""
    s = dns.asker()
    for i in range(100):
        data = f"{i:x}" + "abcdefghijklmnop"
        out = s.call("sendto", query(f"{data}.{LLM}", ident=i).decode("latin1"), [dns.address, 53])
        assert (out.ok, out.error) == (False, "EPERM"), out
    assert dns.queries(0.1) == []


def test_the_row_tells_the_name(new_world):
    dns = FakeResolver(new_world(), address=lab.PARTNER4)
    try:
        dns.asker().call("sendto", query(OTHER).decode("latin1"), [dns.address, 53])
        row = dns.world.wait_flow(verdict="DENIED", reason="dns_name_not_allowed")
        assert (row["askedName"], row["dst_port"], row["src_comm"]) == (OTHER, 53, "agent")
        dns.asker().call("sendto", query(LLM, TXT).decode("latin1"), [dns.address, 53])
        assert dns.world.wait_flow(verdict="DENIED", reason="dns_type_not_allowed")["askedName"] == LLM
        s, connection = dial(dns)
        s.call("sendall", framed(query("t" * 40 + ".tcp.example")).decode("latin1"))
        connection.close()
        row = dns.world.wait_flow(verdict="DENIED", reason="dns_name_not_allowed", protocol="tcp")
        assert row["askedName"] == "(40).tcp.example"
    finally:
        dns.close()

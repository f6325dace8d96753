"""Which DNS answers teach, and what comes in: only what was asked, of whom it was asked, once, and well-formed."""
import struct

import pytest

from naming import AAAA, LLM, OTHER, PORT, answer, query, wire_name
from spoof import FakeResolver
import lab

REBINDING4 = ["127.0.0.1", "127.9.9.9", "0.0.0.0", "0.1.2.3", "169.254.169.254", "224.0.0.1", "239.1.2.3", "240.0.0.1", "255.255.255.255"]
REBINDING6 = ["::1", "::", "fe80::1", "febf::1", "ff02::fb", "ff05::1", "::ffff:127.0.0.1", "::ffff:169.254.169.254"]


@pytest.fixture(scope="module")
def dns(shared_world):
    f = shared_world.keep(FakeResolver(shared_world))
    f.next = 0
    return f


def fresh(dns):
    """An address that nothing has taught yet."""
    dns.next += 1
    return f"198.19.{dns.next >> 8}.{dns.next & 255}"


def teaches(dns, addresses, replies, data=None):
    assert dns.exchange(replies, data, expect=1) == [replies[0]]
    assert set(addresses) <= dns.learnt()


def teaches_nothing(dns, replies, data=None, comes_in=0, sender=None):
    before = dns.learnt()
    assert len(dns.exchange(replies, data, expect=comes_in or None, sender=sender)) == comes_in
    assert dns.learnt() == before


def record(kind, data, owner=b"\xc0\x0c", ttl=60, klass=1):
    return owner + struct.pack(">2HIH", kind, klass, ttl, len(data)) + data


def records(*parts, count=None, **options):
    return answer(LLM, [], count=len(parts) if count is None else count, extra=b"".join(parts), **options)


def v4(address):
    return bytes(map(int, address.split(".")))


def test_an_answer_teaches(dns):
    a = fresh(dns)
    teaches(dns, [a], [answer(LLM, [a])])
    endpoint = next(e for e in dns.world.daemon.api.get("/v1/endpoints")["items"] if e.get("fqdn") == LLM)
    entry = next(x for x in endpoint["resolved"] if x["address"] == a)
    assert entry["sources"] == ["answer"] and 50 <= entry["secondsLeft"] <= 60
    assert endpoint["lastError"], "the daemon's own resolver got SERVFAIL only"


def test_lifetimes(dns):
    """As the answer says, but at least 30 s and at most a day."""
    for ttl, least, most in ((0, 25, 30), (5, 25, 30), (31, 26, 31), (3600, 3590, 3600), (86400 * 2, 86390, 86400), (0xFFFFFFFF, 86390, 86400)):
        a = fresh(dns)
        teaches(dns, [a], [answer(LLM, [a], ttl=ttl)])
        endpoint = next(e for e in dns.world.daemon.api.get("/v1/endpoints")["items"] if e.get("fqdn") == LLM)
        assert least <= next(x for x in endpoint["resolved"] if x["address"] == a)["secondsLeft"] <= most, ttl


def test_six(dns):
    teaches(dns, ["2001:db8:9::1", "2001:db8:9::2"], [answer(LLM, ["2001:db8:9::1", "2001:db8:9::2"], kind=AAAA)], query(LLM, AAAA))


def test_mixed_case(dns):
    a = fresh(dns)
    teaches(dns, [a], [answer("aPi.lLM.eXample", [a])], query("aPi.lLM.eXample"))


def test_many_records(dns):
    for n in (2, 20, 32):
        them = [fresh(dns) for _ in range(n)]
        teaches(dns, them, [answer(LLM, them)])
    them = [fresh(dns) for _ in range(40)]
    reply = answer(LLM, them)
    assert dns.exchange([reply], expect=1) == [reply]
    assert set(them[:32]) <= dns.learnt()


def test_chains_of_aliases(dns):
    a, target, last = fresh(dns), wire_name("edge.cdn.example"), wire_name("pop.edge.cdn.example")
    teaches(dns, [a], [records(record(5, target), record(1, v4(a), owner=target))])
    b = fresh(dns)
    compressed = b"\4edge\3cdn\xc0\x18"
    at = 12 + len(wire_name(LLM)) + 4 + 12
    teaches(dns, [b], [records(record(5, compressed), record(1, v4(b), owner=struct.pack(">H", 0xC000 | at)))])
    c = fresh(dns)
    chain = [record(5, target)] + [record(5, last, owner=target)] * 6
    teaches(dns, [c], [records(*chain, record(1, v4(c), owner=last), record(1, v4(fresh(dns)), owner=last))])


def test_with_edns_and_authority(dns):
    a = fresh(dns)
    opt = b"\0" + struct.pack(">HHIH", 41, 1232, 0, 0)
    reply = struct.pack(">6H", 0x1234, 0x8180, 1, 1, 0, 1) + query(LLM)[12:] + record(1, v4(a)) + opt
    teaches(dns, [a], [reply])


def test_addresses_behind_the_answers_teach_nothing(dns):
    """What stands in the authority and additional sections was not asked."""
    a, glue = fresh(dns), fresh(dns)
    reply = struct.pack(">6H", 0x1234, 0x8180, 1, 1, 1, 1) + query(LLM)[12:] + record(1, v4(a)) + record(1, v4(glue)) * 2
    teaches(dns, [a], [reply])
    assert glue not in dns.learnt()


def test_the_right_addresses_only(dns):
    """Records of other types and classes stand between."""
    a = fresh(dns)
    odd = [record(16, b"\3txt"), record(46, b"s" * 80), record(1, b"\x01\x02\x03\x04", klass=3), record(65, b"\0\1\0")]
    before = dns.learnt()
    teaches(dns, [a], [records(*odd, record(1, v4(a)), *odd)])
    assert dns.learnt() == before | {a}


WRONG = {
    "another id": lambda a: answer(LLM, [a], ident=0x1235),
    "another name": lambda a: answer(OTHER, [a]),
    "a name that is no peer": lambda a: answer("www.example", [a]),
    "another type": lambda a: answer(LLM, ["2001:db8:66::6"], kind=AAAA),
    "no name": lambda a: answer("", [a], question=b"\0"),
}


@pytest.mark.parametrize("what", WRONG)
def test_answers_to_something_else(dns, what):
    before = dns.denied("dns_answer_unexpected")
    teaches_nothing(dns, [WRONG[what](fresh(dns))])
    assert dns.denied("dns_answer_unexpected") == before + 1


BROKEN = {
    "a query": lambda a: query(LLM),
    "opcode NOTIFY": lambda a: answer(LLM, [a], flags=0xA180),
    "no question": lambda a: struct.pack(">6H", 0x1234, 0x8180, 0, 1, 0, 0) + record(1, v4(a), owner=wire_name(LLM)),
    "two questions": lambda a: struct.pack(">6H", 0x1234, 0x8180, 2, 1, 0, 0) + query(LLM)[12:] * 2 + record(1, v4(a)),
    "class CHAOS": lambda a: struct.pack(">6H", 0x1234, 0x8180, 1, 1, 0, 0) + query(LLM, klass=3)[12:] + record(1, v4(a)),
    "question loops": lambda a: answer(LLM, [a], question=b"\xc0\x0c"),
    "question points on": lambda a: answer(LLM, [a], question=b"\3api\xc0\x0c"),
    "A of 5 bytes": lambda a: records(record(1, v4(a) + b"\1")),
    "A of 3 bytes": lambda a: records(record(1, v4(a)[:3])),
    "A of 16 bytes": lambda a: records(record(1, bytes(16))),
    "AAAA of 4 bytes": lambda a: records(record(28, v4(a))),
    "a length beyond the end": lambda a: records(b"\xc0\x0c" + struct.pack(">2HIH", 1, 1, 60, 4000) + v4(a)),
    "fewer records than it says": lambda a: answer(LLM, [a], count=2),
    "65535 records": lambda a: answer(LLM, [a], count=65535),
    "a label of 64 bytes": lambda a: records(record(1, v4(a), owner=b"\x40" + b"x" * 64 + b"\0")),
    "an owner without end": lambda a: records(b"\3abc" * 20),
    "a good record before a broken one": lambda a: records(record(1, v4(a)), record(1, b"\1")),
}


@pytest.mark.parametrize("what", BROKEN)
def test_broken_answers(dns, what):
    """Dropped with a reason; a good record in a broken message teaches nothing either."""
    before = dns.denied("dns_malformed")
    teaches_nothing(dns, [BROKEN[what](fresh(dns))])
    assert dns.denied("dns_malformed") == before + 1


def test_compression_loops(dns):
    """Pointers that lead in circles, or at nothing: nobody follows them, so they cost nothing and name nobody else."""
    at = 12 + len(wire_name(LLM)) + 4
    for pointer in (at, at + 2, at + 12, 0, 0x3FFF):
        a = fresh(dns)
        teaches(dns, [a], [records(record(1, v4(a), owner=struct.pack(">H", 0xC000 | pointer)))])
    teaches_nothing(dns, [answer("x", [fresh(dns)], question=struct.pack(">H", 0xC00C))])


def test_truncated_at_every_byte(dns):
    a = fresh(dns)
    whole = records(record(5, wire_name("edge.cdn.example")), record(1, v4(a), owner=wire_name("edge.cdn.example")))
    before = dns.learnt()
    for length in range(len(whole)):
        assert dns.exchange([whole[:length]], expect=0) == []
    assert dns.learnt() == before


def test_the_truncation_flag(dns):
    """Half an answer comes in, so that the client asks again by TCP; it teaches nothing."""
    a = fresh(dns)
    teaches_nothing(dns, [answer(LLM, [a], flags=0x8380)], comes_in=1)


@pytest.mark.parametrize("flags", [0x8182, 0x8183, 0x8185], ids=["SERVFAIL", "NXDOMAIN", "REFUSED"])
def test_errors_teach_nothing(dns, flags):
    teaches_nothing(dns, [answer(LLM, [fresh(dns)], flags=flags)], comes_in=1)


def test_twice(dns):
    """The first answer is the answer."""
    a, b = fresh(dns), fresh(dns)
    first, second = answer(LLM, [a]), answer(LLM, [b])
    assert dns.exchange([first, second, second]) == [first]
    assert a in dns.learnt() and b not in dns.learnt()


def test_unasked(dns):
    before = dns.learnt()
    s, peer = dns.ask()
    good = answer(LLM, [fresh(dns)])
    dns.udp.sendto(good, peer)
    assert s.call("recv", 4096).ok
    quiet = dns.asker(timeout=0.2)
    dns.udp.sendto(answer(LLM, [fresh(dns)]), (lab.NODE4, quiet.port()))
    dns.udp.sendto(answer(LLM, [fresh(dns)]), peer)
    for one in (s, quiet):
        one.call("settimeout", 0.2)
        assert one.call("recv", 4096).error == "timeout"
        one.call("close")
    assert len(dns.learnt() - before) == 1


def test_another_socket_asked(dns):
    """An answer belongs to the socket that asked, not to the workload."""
    before = dns.learnt()
    s, _ = dns.ask()
    other, peer = dns.ask(query(LLM, ident=0x4321))
    dns.udp.sendto(answer(LLM, [fresh(dns)]), peer)
    other.call("settimeout", 0.2)
    assert other.call("recv", 4096).error == "timeout"
    assert dns.learnt() == before
    s.call("close")
    other.call("close")


def test_from_elsewhere(dns):
    """Answers from another address, another port, or both: nobody asked those."""
    elsewhere = [dns.at(lab.PARTNER4), dns.at(dns.address, 5353), dns.at(lab.PARTNER4, 5353), dns.at(lab.GATEWAY4)]
    for sender in elsewhere:
        with sender:
            teaches_nothing(dns, [answer(LLM, [fresh(dns)])], sender=sender)


def test_rebinding(dns):
    """A name that says this host, the link, or everybody teaches nothing, alone or among good ones."""
    for address in REBINDING4:
        teaches_nothing(dns, [answer(LLM, [address])], comes_in=1)
    for address in REBINDING6:
        teaches_nothing(dns, [answer(LLM, [address], kind=AAAA)], query(LLM, AAAA), comes_in=1)
    a = fresh(dns)
    teaches(dns, [a], [answer(LLM, [*REBINDING4, a])])
    assert not {"127.0.0.1", "0.0.0.0", "169.254.169.254"} & dns.learnt()
    out = dns.agent.attempt("tcp", ("169.254.169.254", PORT), timeout=1.0)
    assert (out.ok, out.error) == (False, "EPERM"), out


def test_addresses_of_this_host_stay_its_own(dns):
    """An answer that names the node's own address does not make the node the LLM."""
    dns.exchange([answer(LLM, [lab.NODE4])], expect=1)
    served = dns.world.host_puppet("node-server").serve(tcp=[(lab.NODE4, PORT)])
    out = dns.agent.attempt("tcp", (lab.NODE4, PORT), timeout=1.0)
    assert not out.ok and out.error in ("EPERM", "ECONNABORTED"), out
    assert served.report()["tcp"] == 0


def test_by_tcp(dns):
    """Whole answers teach; one that comes in pieces is read by the client all the same, and teaches nothing."""
    for pieces in (1, 2):
        a = fresh(dns)
        s = dns.asker("SOCK_STREAM", 2.0)
        assert s.call("connect", [dns.address, 53]).ok
        dns.tcp.settimeout(2)
        connection, peer = dns.tcp.accept()
        while peer[1] >= 20000:
            connection.close()
            connection, peer = dns.tcp.accept()
        with connection:
            asked = query(LLM)
            assert s.call("sendall", (struct.pack(">H", len(asked)) + asked).decode("latin1")).ok
            assert connection.recv(4096)
            reply = answer(LLM, [a])
            framed = struct.pack(">H", len(reply)) + reply
            connection.setsockopt(6, 1, 1)
            got = ""
            for piece in ([framed] if pieces == 1 else [framed[:15], framed[15:]]):
                connection.sendall(piece)
                out = s.call("recv", 4096)
                assert out.ok, out
                got += out.detail
            assert got.encode("latin1") == framed
            s.call("close")
        assert (a in dns.learnt()) == (pieces == 1)

"""What a kube-proxy of eBPF does (Cilium's, Calico's): the destination of connect() itself becomes an endpoint, before there is a packet. One
program of a few instructions, put together here, and attached to a cgroup beside whatever else is attached there."""
import ctypes
import os
import socket
import struct

_libc = ctypes.CDLL(None, use_errno=True)
_NUMBER = {"x86_64": 321, "aarch64": 280}
_PROG_LOAD, _PROG_ATTACH, _PROG_DETACH = 5, 8, 9
_SOCK_ADDR, _CONNECT4, _ALLOW_MULTI = 18, 10, 2
# struct bpf_sock_addr
_USER_IP4, _USER_PORT = 4, 24


def _bpf(command, attributes):
    buffer = ctypes.create_string_buffer(attributes, len(attributes))
    found = _libc.syscall(_NUMBER[os.uname().machine], command, buffer, len(attributes))
    if found < 0:
        raise OSError(ctypes.get_errno(), f"bpf({command})")
    return found


def _instruction(code, destination=0, source=0, offset=0, value=0):
    return struct.pack("<BBhi", code, source << 4 | destination, offset, value)


def _signed(number):
    return number - (1 << 32) if number >= 1 << 31 else number


def _program(service, endpoint):
    """if (ip == service's && port == service's) { ip = endpoint's; port = endpoint's; } return 1"""
    (from_ip, from_port), (to_ip, to_port) = ((_signed(struct.unpack("<I", socket.inet_aton(a))[0]), socket.htons(p)) for a, p in (service, endpoint))
    load, store, move, jump, leave = 0x61, 0x63, 0xb4, 0x56, 0x95
    body = [_instruction(load, 2, 1, _USER_IP4), _instruction(jump, 2, 0, 6, from_ip),
            _instruction(load, 2, 1, _USER_PORT), _instruction(jump, 2, 0, 4, from_port),
            _instruction(move, 2, 0, 0, to_ip), _instruction(store, 1, 2, _USER_IP4),
            _instruction(move, 2, 0, 0, to_port), _instruction(store, 1, 2, _USER_PORT),
            _instruction(move, 0, 0, 0, 1), _instruction(leave)]
    return b"".join(body)


class Rewriter:
    """service and endpoint: (IPv4 address, port), for whoever calls from below this cgroup. Programs of one cgroup run in the order in which
    they were attached."""

    def __init__(self, cgroup, service, endpoint):
        code, licence = ctypes.create_string_buffer(_program(service, endpoint)), ctypes.create_string_buffer(b"GPL")
        load = struct.pack("<IIQQIIQII16sII", _SOCK_ADDR, (len(code) - 1) // 8, ctypes.addressof(code), ctypes.addressof(licence), 0, 0, 0, 0, 0,
                           b"rewriter", 0, _CONNECT4)
        self.program = _bpf(_PROG_LOAD, load)
        self.cgroup = os.open(cgroup, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        _bpf(_PROG_ATTACH, struct.pack("<IIIII", self.cgroup, self.program, _CONNECT4, _ALLOW_MULTI, 0))

    def close(self):
        _bpf(_PROG_DETACH, struct.pack("<IIIII", self.cgroup, self.program, _CONNECT4, 0, 0))
        os.close(self.cgroup)
        os.close(self.program)

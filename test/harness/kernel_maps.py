"""What is in force in the kernel, read from a casad's pinned maps by the bpf system call, without asking casad or starting a program: for
measurements, which must not wait for either.
"""
import ctypes
import ipaddress
import mmap
import os
import struct
import sys
import time

_BPF_MAP_LOOKUP_ELEM, _BPF_OBJ_GET, _BPF_MAP_LOOKUP_BATCH = 1, 7, 24
_NUMBER = 321 if os.uname().machine == "x86_64" else 280
_ENOENT = 2
_HERE = 0x80000000  # CASA_ADDR_HERE (casa/abi/policy.h)
_libc = ctypes.CDLL(None, use_errno=True)


def _bpf(command, attributes):
    """0, or the error's number"""
    done = _libc.syscall(_NUMBER, command, attributes, len(attributes))
    return done if done >= 0 else -ctypes.get_errno()


def _open(pin):
    name = ctypes.create_string_buffer(str(pin).encode())
    fd = _bpf(_BPF_OBJ_GET, ctypes.create_string_buffer(ctypes.addressof(name).to_bytes(8, sys.byteorder), 128))
    if fd < 0:
        raise OSError(-fd, f"{pin}: {os.strerror(-fd)}")
    return fd


def key_of(address):
    """Of an address row: IPv4 in its IPv6 form."""
    ip = ipaddress.ip_address(address)
    return ip.packed if ip.version == 6 else b"\0" * 10 + b"\xff\xff" + ip.packed


class Addresses:
    """casa_addr, under the generation that is in force."""

    def __init__(self, bpffs):
        """bpffs: what casad was told as --bpffs. FileNotFoundError, StopIteration: it has not pinned its maps yet."""
        pins = next(p.parent for p in bpffs.rglob("casa_config") if p.is_file())
        self._fd = _open(pins / "casa_addr")
        config = _open(pins / "casa_config")
        self._config = mmap.mmap(config, mmap.PAGESIZE, mmap.MAP_SHARED, mmap.PROT_READ)
        os.close(config)
        self._key, self._row = ctypes.create_string_buffer(16), ctypes.create_string_buffer(12)
        self._look_up = ctypes.create_string_buffer(struct.pack("@IIQQQ", self._fd, 0, ctypes.addressof(self._key), ctypes.addressof(self._row), 0), 32)

    @property
    def generation(self):
        return struct.unpack_from("@I", self._config)[0]

    def _in_force(self, since, now, before):
        return now if self.generation >= since else before

    def identity(self, key):
        """0: no row. The generation is read after the row, so a row that is half staged is never taken for one in force."""
        self._key.raw = key
        error = _bpf(_BPF_MAP_LOOKUP_ELEM, self._look_up)
        if error == 0:
            return self._in_force(*struct.unpack_from("@III", self._row)) & ~_HERE
        if error != -_ENOENT:
            raise OSError(-error, f"casa_addr: {os.strerror(-error)}")
        return 0

    def wait(self, key, there, seconds=30.0):
        """Until it is so: (the moment, of time.monotonic_ns; ns between the last two looks). None: not within the time. Looks ten times per ms, and
        after 10 ms at every hundredth of the time that has passed, since it takes a CPU from those who are waited for."""
        began = before = time.monotonic_ns()
        end = began + int(seconds * 1e9)
        while True:
            found, now = (self.identity(key) != 0) == there, time.monotonic_ns()
            if found:
                return now, now - before
            if now > end:
                return None
            before = now
            time.sleep(max(1e-4, (now - began) / 1e11))

    def all(self):
        """{key: identity} of every row in force"""
        room, found = 8192, {}
        keys, rows = ctypes.create_string_buffer(16 * room), ctypes.create_string_buffer(12 * room)
        place = ctypes.create_string_buffer(8)
        first = 0
        while True:
            attributes = ctypes.create_string_buffer(struct.pack("@QQQQIIQQ", first, ctypes.addressof(place), ctypes.addressof(keys), ctypes.addressof(rows),
                                                                 room, self._fd, 0, 0), 56)
            error = _bpf(_BPF_MAP_LOOKUP_BATCH, attributes)
            if error not in (0, -_ENOENT):
                raise OSError(-error, f"casa_addr: {os.strerror(-error)}")
            count = struct.unpack_from("@I", attributes, 32)[0]
            for i in range(count):
                identity = self._in_force(*struct.unpack_from("@III", rows, 12 * i)) & ~_HERE
                if identity:
                    found[keys[16 * i:16 * i + 16]] = identity
            if error:  # the end
                return found
            first = ctypes.addressof(place)

    def close(self):
        os.close(self._fd)
        self._config.close()

#!/usr/bin/env python3
"""Writes the table by which bpf/lib/hpack.h reads HPACK's Huffman code four bits at a time. The code is that of RFC 7541,
appendix B. It is canonical: within one length the codes count up with the symbols, so that the lengths say all.

usage: huffman.py > huffman_table.h"""

EOS = 256
# Appendix B, last column: bits of the code of each byte, and of EOS.
LENGTHS = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28,
    28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 28,
    6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6,
    5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10,
    13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7,
    7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6,
    15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5,
    6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28,
    20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23,
    24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24,
    22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23,
    21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,
    26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25,
    19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27,
    20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23,
    26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26,
    30,
]
# What an entry says, from bit 0 on: the place in the tree behind the nibble (8 bits), the symbol that ended in it (8 bits), and:
EMIT, FAIL = 1 << 16, 1 << 17


def tree():
    """-> {bits as text: symbol}"""
    leaves, code, before = {}, 0, 0
    for length, symbol in sorted((length, symbol) for symbol, length in enumerate(LENGTHS)):
        code <<= length - before
        leaves[format(code, f"0{length}b")] = symbol
        code, before = code + 1, length
    assert code == 1 << before, "the code does not fill the tree"
    return leaves


def places(leaves):
    """-> {bits of an inner node: its number}: those that may stand at the end, up to seven ones of padding, are 0 to 7"""
    inner = {leaf[:i] for leaf in leaves for i in range(len(leaf))}
    padding = ["1" * i for i in range(8)]
    order = padding + sorted(inner - set(padding), key=lambda bits: (len(bits), bits))
    assert len(order) == 256 and set(order) == inner
    return {bits: number for number, bits in enumerate(order)}


def entry(leaves, numbers, place, nibble):
    bits, symbol = place, None
    for bit in format(nibble, "04b"):
        bits += bit
        if bits in leaves:
            if leaves[bits] == EOS:
                return FAIL
            assert symbol is None, "two symbols in one nibble"
            symbol, bits = leaves[bits], ""
    return numbers[bits] | (0 if symbol is None else symbol << 8 | EMIT)


def main():
    leaves = tree()
    numbers = places(leaves)
    print("/* Made by bpf/gen/huffman.py. */\n#ifndef CASA_BPF_HUFFMAN_TABLE_H\n#define CASA_BPF_HUFFMAN_TABLE_H\n")
    print(f"#define CASA_HUFFMAN_EMIT {EMIT:#x}\n#define CASA_HUFFMAN_FAIL {FAIL:#x}\n")
    print("static const unsigned int casa_huffman[4096] = {")
    for place in numbers:
        print(", ".join(f"{entry(leaves, numbers, place, nibble):#x}" for nibble in range(16)) + ",")
    print("};\n\n#endif")


if __name__ == "__main__":
    main()

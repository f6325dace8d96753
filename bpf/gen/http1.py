#!/usr/bin/env python3
"""Writes the table of the HTTP/1.x request reader (bpf/lib/http1.h): a deterministic automaton over bytes. Each step is one look-up, whatever the
byte: the verifier walks it once, and it costs the same for everybody.

The grammar is RFC 9112's, as lenient as servers are where all of them read the same (bare line feeds, folded lines, spaces around values, empty
lines before a request), and AMBIGUOUS where they differ. States with the mark of a run are those in which most bytes change nothing: the
reader passes over them by words.

usage: http1.py > http1_table.h"""

CR, LF, SP, HT = 13, 10, 32, 9
SPACE = [SP, HT]
DIGITS = range(48, 58)
HEX = [*range(48, 58), *range(65, 71), *range(97, 103)]
TCHAR = [c for c in range(33, 127) if chr(c) not in '"(),/:;<=>?@[\\]{}']
VISIBLE = range(33, 127)
# May stand in no name and no value. Programs strip some of these as spaces (Python: VT, FF, 0x1c to 0x1f, 0x85, 0xa0), or cut there.
ODD = [c for c in [*range(32), *range(127, 256)] if c not in (CR, LF, HT)]
# RFC 6750's b64token is narrower; what ends a token is what no server takes for a part of it.
TOKEN = [c for c in VISIBLE if chr(c) not in ',;"']

ACTIONS = ["NONE", "METHOD", "PATH", "HTTP10", "HTTP2", "AUTHORIZATION", "TOKEN", "LENGTH", "LENGTH_DIGIT", "ENCODING", "CHUNKED", "UPGRADE",
           "HEAD_END", "CHUNK_DIGIT", "CHUNK", "MESSAGE_END", "AMBIGUOUS", "FOREIGN", "SKIP"]
ACT = {name: number for number, name in enumerate(ACTIONS)}

numbers = {}
rows = {}


def number(state):
    return numbers.setdefault(state, len(numbers))


def state(name, otherwise, action="NONE"):
    number(name)
    rows[name] = [(otherwise, action)] * 256


def on(name, chars, to, action="NONE"):
    for c in chars:
        rows[name][c] = (to, action)


def end_of_line(name, action="NONE"):
    """The line's end, with or without a carriage return; a carriage return alone is read differently by different servers."""
    on(name, [LF], "LINE", action)
    on(name, [CR], "LINE_CR", action)


# The request line. FOREIGN: this is no HTTP/1 request.
state("START", "FOREIGN", "FOREIGN")
state("FOREIGN", "FOREIGN", "FOREIGN")
state("AMBIGUOUS", "AMBIGUOUS", "AMBIGUOUS")
on("START", [CR, LF], "START")
on("START", TCHAR, "METHOD", "METHOD")
state("METHOD", "FOREIGN", "FOREIGN")
on("METHOD", TCHAR, "METHOD", "METHOD")
on("METHOD", SPACE, "BEFORE_TARGET")
state("BEFORE_TARGET", "FOREIGN", "FOREIGN")
on("BEFORE_TARGET", SPACE, "BEFORE_TARGET")
on("BEFORE_TARGET", range(33, 256), "TARGET", "PATH")
state("TARGET", "FOREIGN", "FOREIGN")
on("TARGET", range(33, 256), "TARGET", "PATH")
state("QUERY", "FOREIGN", "FOREIGN")
on("QUERY", range(33, 256), "QUERY")
for name in ("TARGET", "QUERY"):
    on(name, SPACE, "VERSION_")
on("TARGET", b"?#;", "QUERY")
on("BEFORE_TARGET", b"?#;", "QUERY")
previous = "VERSION_"
state(previous, "FOREIGN", "FOREIGN")
on(previous, SPACE, previous)
for i, c in enumerate(b"HTTP/"):
    name = "VERSION_" + "HTTP/"[:i + 1]
    state(name, "FOREIGN", "FOREIGN")
    on(previous, [c], name)
    previous = name
for major in "12":
    state("VERSION_" + major, "FOREIGN", "FOREIGN")
    state("VERSION_" + major + ".", "FOREIGN", "FOREIGN")
    on(previous, [ord(major)], "VERSION_" + major)
    on("VERSION_" + major, b".", "VERSION_" + major + ".")
state("VERSION_END", "FOREIGN", "FOREIGN")
on("VERSION_1.", DIGITS, "VERSION_END")
on("VERSION_1.", b"0", "VERSION_END", "HTTP10")
on("VERSION_2.", b"0", "VERSION_END", "HTTP2")
on("VERSION_END", SPACE, "VERSION_END")
on("VERSION_END", [LF], "FIRST_LINE")
on("VERSION_END", [CR], "VERSION_CR")
state("VERSION_CR", "AMBIGUOUS", "AMBIGUOUS")
on("VERSION_CR", [LF], "FIRST_LINE")

# Header lines. SKIP: a value of no interest, passed over up to its end of line.
state("SKIP", "SKIP")
end_of_line("SKIP")
state("LINE_CR", "AMBIGUOUS", "AMBIGUOUS")
on("LINE_CR", [LF], "LINE")
state("HEAD_CR", "AMBIGUOUS", "AMBIGUOUS")
on("HEAD_CR", [LF], "START", "HEAD_END")


def line_start(name, fold):
    """A line begins: a header, the end of the head, or a folded line, which goes on with the value before it. None: nothing is before it."""
    state(name, "SKIP", "SKIP")
    on(name, [CR], "HEAD_CR")
    on(name, [LF], "START", "HEAD_END")
    on(name, SPACE, fold or "AMBIGUOUS", "NONE" if fold else "AMBIGUOUS")


HEADERS = {"authorization": ("AUTH", "AUTHORIZATION"), "content-length": ("LENGTH", "LENGTH"),
           "transfer-encoding": ("ENCODING", "ENCODING"), "upgrade": ("SKIP", "UPGRADE")}
line_start("LINE", "SKIP")
for header, (value, action) in HEADERS.items():
    previous = "LINE"
    for i, c in enumerate(header):
        name = "NAME_" + header[:i + 1]
        if name not in rows:
            state(name, "SKIP", "SKIP")
            end_of_line(name)
        on(previous, {ord(c), ord(c.upper())}, name)
        previous = name
    on(previous, b":", value, action)
    on(previous, SPACE + ODD, "AMBIGUOUS", "AMBIGUOUS")  # a space before the colon: some take the header, some refuse, some drop it


def value(name, otherwise, action):
    """A value that means something; its line may be folded, so what follows its end of line is looked at first."""
    state(name, otherwise, action)


def fold(name, back):
    """The line of a value that means something is over: name_FOLD goes back to it when the next line begins with a space."""
    after = name + "_FOLD"
    state(after + "_CR", "AMBIGUOUS", "AMBIGUOUS")
    on(after + "_CR", [LF], after)
    number(after)
    rows[after] = list(rows["LINE"])
    on(after, SPACE, back)
    return after


def folds(name, after, action="NONE"):
    on(name, [LF], after, action)
    on(name, [CR], after + "_CR", action)


# Authorization: Bearer <token>; any other scheme is of no interest.
value("AUTH", "SKIP", "SKIP")
on("AUTH", ODD, "AMBIGUOUS", "AMBIGUOUS")
on("AUTH", SPACE, "AUTH")
after = fold("AUTH", "AUTH")
folds("AUTH", after)
previous = "AUTH"
for i, c in enumerate("bearer"):
    name = "SCHEME_" + "bearer"[:i + 1]
    state(name, "SKIP", "SKIP")
    on(name, ODD, "AMBIGUOUS", "AMBIGUOUS")
    end_of_line(name)
    on(previous, {ord(c), ord(c.upper())}, name)
    previous = name
state("BEARER", "AMBIGUOUS", "AMBIGUOUS")
on("SCHEME_bearer", SPACE, "BEARER")
on("BEARER", SPACE, "BEARER")
after = fold("BEARER", "BEARER")
folds("BEARER", after)
folds("SCHEME_bearer", after)
on("BEARER", TOKEN, "TOKEN", "TOKEN")
# The reader passes over the token by words (casa_scan_token) and comes back with the byte behind it.
state("TOKEN", "AMBIGUOUS", "AMBIGUOUS")
on("TOKEN", [*SPACE, *b',;"'], "SKIP", "SKIP")
end_of_line("TOKEN")

def folds_empty(name):
    """The same for a value that is still empty, and must not stay so."""
    after = fold(name, name)
    state(after, "AMBIGUOUS", "AMBIGUOUS")
    on(after, SPACE, name)
    folds(name, after)


value("LENGTH", "AMBIGUOUS", "AMBIGUOUS")
on("LENGTH", SPACE, "LENGTH")
folds_empty("LENGTH")
on("LENGTH", DIGITS, "LENGTH_DIGITS", "LENGTH_DIGIT")
state("LENGTH_DIGITS", "AMBIGUOUS", "AMBIGUOUS")
on("LENGTH_DIGITS", DIGITS, "LENGTH_DIGITS", "LENGTH_DIGIT")
state("LENGTH_END", "AMBIGUOUS", "AMBIGUOUS")
on("LENGTH_DIGITS", SPACE, "LENGTH_END")
on("LENGTH_END", SPACE, "LENGTH_END")
after = fold("LENGTH_END", "LENGTH_END")
folds("LENGTH_DIGITS", after)
folds("LENGTH_END", after)

value("ENCODING", "AMBIGUOUS", "AMBIGUOUS")
on("ENCODING", SPACE, "ENCODING")
folds_empty("ENCODING")
previous = "ENCODING"
for i, c in enumerate("chunked"):
    name = "ENCODING_" + "chunked"[:i + 1]
    state(name, "AMBIGUOUS", "AMBIGUOUS")
    on(previous, {ord(c), ord(c.upper())}, name)
    previous = name
state("ENCODING_END", "AMBIGUOUS", "AMBIGUOUS")
after = fold("ENCODING_END", "ENCODING_END")
on("ENCODING_chunked", SPACE, "ENCODING_END", "CHUNKED")
folds("ENCODING_chunked", after, "CHUNKED")
on("ENCODING_END", SPACE, "ENCODING_END")
folds("ENCODING_END", after)

line_start("FIRST_LINE", None)
rows["FIRST_LINE"] = list(rows["LINE"])
on("FIRST_LINE", SPACE, "AMBIGUOUS", "AMBIGUOUS")

# Chunks. Strict: each line ends in CR LF, and a size is a hexadecimal number.
state("CHUNK_START", "AMBIGUOUS", "AMBIGUOUS")
on("CHUNK_START", HEX, "CHUNK_SIZE", "CHUNK_DIGIT")
state("CHUNK_SIZE", "AMBIGUOUS", "AMBIGUOUS")
on("CHUNK_SIZE", HEX, "CHUNK_SIZE", "CHUNK_DIGIT")
on("CHUNK_SIZE", SPACE, "CHUNK_SPACE")
state("CHUNK_SPACE", "AMBIGUOUS", "AMBIGUOUS")
on("CHUNK_SPACE", SPACE, "CHUNK_SPACE")
state("CHUNK_EXTENSION", "CHUNK_EXTENSION")
on("CHUNK_EXTENSION", [LF], "AMBIGUOUS", "AMBIGUOUS")
state("CHUNK_CR", "AMBIGUOUS", "AMBIGUOUS")
for name in ("CHUNK_SIZE", "CHUNK_SPACE"):
    on(name, b";", "CHUNK_EXTENSION")
for name in ("CHUNK_SIZE", "CHUNK_SPACE", "CHUNK_EXTENSION"):
    on(name, [CR], "CHUNK_CR")
on("CHUNK_CR", [LF], "CHUNK_END", "CHUNK")  # the reader skips the chunk's bytes; after the last one it goes to TRAILER
state("CHUNK_END", "AMBIGUOUS", "AMBIGUOUS")
on("CHUNK_END", [CR], "CHUNK_END_CR")
state("CHUNK_END_CR", "AMBIGUOUS", "AMBIGUOUS")
on("CHUNK_END_CR", [LF], "CHUNK_START")
state("TRAILER", "TRAILER_LINE")
on("TRAILER", [CR], "TRAILER_CR")
on("TRAILER", [LF], "START", "MESSAGE_END")
state("TRAILER_LINE", "TRAILER_LINE")
on("TRAILER_LINE", [LF], "TRAILER")
state("TRAILER_CR", "AMBIGUOUS", "AMBIGUOUS")
on("TRAILER_CR", [LF], "START", "MESSAGE_END")


def main():
    names = sorted(numbers, key=numbers.get)
    assert len(names) <= 128 and set(names) == set(rows), set(names) ^ set(rows)
    encoded = {name: [numbers[to] | ACT[action] << 8 for to, action in rows[name]] for name in names}
    columns = [tuple(encoded[name][c] for name in names) for c in range(256)]
    classes = sorted(set(columns), key=columns.index)
    assert len(classes) <= 64, len(classes)
    print("/* Made by bpf/gen/http1.py. */")
    print("#ifndef CASA_BPF_HTTP1_TABLE_H\n#define CASA_BPF_HTTP1_TABLE_H\n")
    for name in ACTIONS:
        print(f"#define CASA_H1_DO_{name} {ACT[name]}")
    for name in ("START", "SKIP", "LINE", "TOKEN", "CHUNK_START", "CHUNK_END", "TRAILER", "TRAILER_LINE", "QUERY", "FOREIGN", "AMBIGUOUS", "METHOD", "VERSION_END"):
        print(f"#define CASA_H1_{name} {numbers[name]}")
    print(f"#define CASA_H1_STATES {len(names)}")
    print("#define CASA_H1_CLASS_BITS 6")
    print("#define CASA_H1_CELLS (128 << CASA_H1_CLASS_BITS)\n")
    print("static const unsigned char casa_h1_class[256] = {")
    print(",".join(str(classes.index(column)) for column in columns) + "};")
    print("/* Next state, and above it what to do; by state and class of the byte. */")
    print("static const unsigned short casa_h1_table[CASA_H1_CELLS] = {")
    foreign = numbers["FOREIGN"] | ACT["FOREIGN"] << 8
    for s in range(128):
        row = [classes[k][s] if s < len(names) and k < len(classes) else foreign for k in range(64)]
        print(",".join(map(str, row)) + ",")
    print("};\n")
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    print("/* What a byte is worth in base64url; 64: a dot; 255: it does not belong there. */")
    print("static const unsigned char casa_base64url[256] = {")
    print(",".join(str(letters.index(chr(c)) if chr(c) in letters else 64 if c == 46 else 255) for c in range(256)) + "};\n\n#endif")


if __name__ == "__main__":
    main()

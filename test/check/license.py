#!/usr/bin/env python3
"""The project is Apache-2.0 (LICENSE); what is loaded into the kernel, and the ABI it shares, is GPL-2.0-only OR
BSD-2-Clause, said by the first line of each file."""
from cases import TOP, Cases, files, relative

LINE = "SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)"
cases = Cases("license")
text = (TOP / "LICENSE").read_text() if (TOP / "LICENSE").exists() else ""
cases.case("LICENSE", [] if "Apache License" in text and "Version 2.0" in text else ["LICENSE is not the Apache License 2.0"])
cases.case("meson.build", [] if "license: 'Apache-2.0'" in (TOP / "meson.build").read_text() else ["meson.build names another licence"])
kernel_side = files("bpf", "include/casa/abi", suffixes={".h", ".c"})
kernel_side += [p for p in files("test", suffixes={".c"}) if p.name.endswith(".bpf.c")]
cases.case("kernel side", [f"{relative(p)}: the first line does not say {LINE}" for p in kernel_side
                           if LINE not in p.read_text().partition("\n")[0]] if kernel_side else ["no file found"])
cases.case("programs", [f"{relative(p)}: the licence the kernel is told is not 'Dual BSD/GPL'" for p in kernel_side
                        if p.parent == TOP / "bpf" and p.name.endswith(".bpf.c") and '"Dual BSD/GPL"' not in p.read_text()])
cases.end()

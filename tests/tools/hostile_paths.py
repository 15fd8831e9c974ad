"""Names that somebody might send to reach what is not his, and odd ones that are harmless: one table for all tests."""

import re

HOSTILE = [
    "", ".", "..", "/", "//", "a//b", "a/", "/a", "./a", "a/.", "a/..", "../a", "a/../b", "a/../../b", "....//",
    ".../a", "../../../../etc/passwd", "..\\..\\a", "../output-evil/a.png",
    "/etc/passwd", "/windows/win.ini", "//host/share/a", "\\\\host\\share\\a", "\\a", "a\\b", "..\\a", "a\\..\\..\\b",
    "\\\\?\\C:\\a", "\\\\.\\pipe\\a", "C:\\a", "C:/a", "C:a", "c:", "a:b", "a.png::$DATA", "a:", "file:///etc/passwd",
    "NUL", "nul", "nul.png", "NUL .png", "con", "CON.tar.gz", "aux.png", "PRN", "com1", "COM9.png", "lpt0", "LPT1.txt",
    "com¹", "CONIN$", "x/nul/y",
    "a.", "a..", "a ", " a", "a /b", "a./b", "\ta", "a\n", "a\nb", "a\r\nb", "\x00", "a\x00.png", "a\x1b[31m",
    "a\x7f", "a\x85b",
    "a|b", "a<b", "a>b", 'a"b', "a?", "a*", "*", "a\u202egnp.exe", "\u2066a", "\u2007", "\udcff", "a\ud800",
    "x" * 241, "é" * 121, "a/" * 600 + "a",
]  # fmt: skip
SENDABLE = [name for name in HOSTILE if not re.search("[\ud800-\udfff]", name)]  # that an address can hold

# They name a file of just this name below the folder: what looks like more is not read as such.
HARMLESS = [
    "a", "a.png", "a/b/c.png", ".hidden", "-rf", "a b.png", "ü.png", "苹果/🍎.png", "..a", "a..b", "...a", "%2e%2e",
    "..%2f..%2fa", "%252e", "%2e%2e%2fa", "..%252f..%252fa", "%00", "..%c0%afa", "%u2216",
    "~", "~root/a", "$HOME", "${HOME}", "`id`", "a;b", "a'b", "com", "com10.png", "console", "auxiliary.png", "nul_1",
    "x" * 240, "@a", "#a", "a&b", "__proto__", "constructor",
]  # fmt: skip

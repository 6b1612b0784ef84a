"""Writes task/unicode_classes.inc: where the class of a character changes, in order of code points.

  pip install unicodedata2==16.0.0 && python task/unicode_classes.py > task/unicode_classes.inc

Unicode 16 is what the regular expressions of tiktoken 0.14 know. White space is the property
White_Space, which unicodedata2 does not carry: it is fixed, and spelled out here.
"""
import unicodedata2

assert unicodedata2.unidata_version == "16.0.0", unicodedata2.unidata_version
WHITE_SPACE = {*range(0x9, 0xE), 0x20, 0x85, 0xA0, 0x1680, *range(0x2000, 0x200B),
               0x2028, 0x2029, 0x202F, 0x205F, 0x3000}


def class_of(code):
    if code in (0xA, 0xD):
        return "kNewline"
    if code in WHITE_SPACE:
        return "kSpace"
    return {"L": "kLetter", "N": "kNumber"}.get(unicodedata2.category(chr(code))[0], "kOther")


changes, last = [], None
for code in range(0x110000):
    if class_of(code) != last:
        last = class_of(code)
        changes.append(f"{{0x{code:x}, {last}}},")
print("// Made by task/unicode_classes.py from Unicode 16.0.0; not edited by hand.")
line = ""
for change in changes + [None]:
    if change is None or len(line) + 1 + len(change) > 100:
        print(line)
        line = ""
    if change:
        line += (" " if line else "") + change

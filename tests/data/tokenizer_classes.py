# Usage: python tests/data/tokenizer_classes.py > tests/data/tokenizer_classes.json   (pip install tiktoken==0.14.0)
# A tokenizer of single bytes whose pattern is one class returns the characters of that class.
import json, tiktoken
BYTES = {bytes([byte]): byte for byte in range(256)}
CODES = [code for code in range(0x110000) if not 0xD800 <= code <= 0xDFFF]
def members(pattern):
    encoding = tiktoken.Encoding("class", pat_str=pattern, mergeable_ranks=BYTES, special_tokens={})
    found = []
    for i in range(0, len(CODES), 10000):
        text = "".join(map(chr, CODES[i : i + 10000]))
        found += map(ord, encoding.decode(encoding.encode_ordinary(text)))
    ranges = []
    for code in sorted(found):
        if ranges and ranges[-1][1] == code - 1: ranges[-1][1] = code
        else: ranges.append([code, code])
    return ranges
print(json.dumps({"letters": members(r"\p{L}"), "numbers": members(r"\p{N}"),
                  "white_space": members(r"[^\S\r\n]"), "line_ends": members(r"[\r\n]")}, separators=(",", ":")))

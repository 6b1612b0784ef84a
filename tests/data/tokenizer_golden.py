# Usage: python tests/data/tokenizer_golden.py > tests/data/tokenizer_golden.json   (pip install rustbpe==0.1.0 tiktoken)
import base64, json, random, rustbpe, tiktoken
PATTERN = r"""'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}{1,2}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+"""
rng = random.Random(7)
syllables = ["ka", "ro", "the", "in", "st", "er", "über", "mo", "ла", "да", "日", "本", "qu", "ing", "é", "x"]
words = ["".join(rng.choice(syllables) for _ in range(rng.randint(1, 4))) for _ in range(300)]
glue = [" "] * 12 + ["\n", "\n\n", ", ", ". ", "'s ", "'LL ", " (", ") ", "; ", "    ", "\r\n", " 1234 ", "\u00a0", "\u3000", " -> ", "--"]
document = lambda n: "".join(words[min(int(rng.expovariate(0.03)), 299)] + rng.choice(glue) for _ in range(n))
documents = [document(rng.randint(20, 300)) for _ in range(10)]
# Letters and digits that came with Unicode 15 and 16, between others: what older tables take for symbols.
young = [chr(c) for c in [0x1C89, 0x1C8A, 0xA7CB, 0xA7DA, 0x10D40, 0x10D49, 0x10D4A, 0x10D6F, 0x11DE0, 0x11F04, 0x11F50, 0x1E4D0,
                          0x1E4F0, 0x1E5D0, 0x1E5F1, 0x1CCF0, 0x13460, 0x143FA, 0x16D40, 0x16D70, 0x31350, 0x323AF, 0x2EBF0, 0x11BC0, 0x11BF0]]
mixture = lambda n: "".join(rng.choice(young + ["a", "'s", " ", "  ", "-", "7", "\n", "é"]) for _ in range(n))
documents += [mixture(400) for _ in range(3)]
tokenizer = rustbpe.Tokenizer()
tokenizer.train_from_iterator(iter(documents), 900, pattern=PATTERN)
ranks = {bytes(token): rank for token, rank in tokenizer.get_mergeable_ranks()}
encoding = tiktoken.Encoding("golden", pat_str=PATTERN, mergeable_ranks=ranks, special_tokens={})
texts = ["", "a", " ", "hello world", "it's IT'S we'll WE'LL I'Ve 'ſ 'S", "a  b   c\n  d\t\te \n\n\n f\r\n\r\ng  ",
         "12345 x1y22z333", "\u180e \u180e\u2003x\u2028y\u0085z\u200bw", "naïve Ünïcödé ΑΒΓ абв 日本語 한국어 😀👍🏽 e\u0301",
         "!!!\n??? ...\r\n  ***  ", "int main() { return 0; }  // the end\n", "<|reserved_0|>", "x" * 300, " " * 50 + "y",
         "\u212a \u017f'\u017f ٣٤٥ ⅷ ²", "".join(chr(rng.choice([rng.randint(32, 126), rng.randint(0xa0, 0x24f), rng.randint(0x2000, 0x206f), rng.randint(0x3000, 0x30ff), rng.randint(0x1f300, 0x1f5ff), 10, 13, 32])) for _ in range(1500))]
texts += [document(200), mixture(1000), "a" + "\u0301" * 400 + " ", "ab" * 700, "да" * 90 + "!", "日本" * 60, "\n" * 100 + "  x", "kathestroover" * 3]
# Tokens that merging doesn't lead to, and two ways to the same bytes: a piece that is a token is that token.
odd = [b"abc", b"bcd", b"cd", b"zz", b"zzzz", b" ab", b"a b", b"\xd0\xb4\xd0\xb0", b"xyxy", b"yx"]
odd_ranks = {**{bytes([b]): b for b in range(256)}, **{token: 256 + i for i, token in enumerate(odd)}}
odd_encoding = tiktoken.Encoding("odd", pat_str=PATTERN, mergeable_ranks=odd_ranks, special_tokens={})
odd_texts = ["abc", "abcd", " abc", "abc abcd", "zzzzz", "zzzz", " ab", "a b", "да", "дада", "xyxy", "xyxyxy", "cdcd bcd"]
print(json.dumps({"documents": documents, "tokens": [base64.b64encode(t).decode() for t in sorted(ranks, key=ranks.get)],
                  "upstream_bytes": [len(t.decode("utf-8", errors="replace").encode()) for t in sorted(ranks, key=ranks.get)],
                  "texts": [{"text": t, "ids": encoding.encode_ordinary(t)} for t in texts],
                  "odd_tokens": [base64.b64encode(t).decode() for t in sorted(odd_ranks, key=odd_ranks.get)],
                  "odd_texts": [{"text": t, "ids": odd_encoding.encode_ordinary(t)} for t in odd_texts]}, ensure_ascii=False, separators=(",", ":")))

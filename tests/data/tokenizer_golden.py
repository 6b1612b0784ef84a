# Usage: python tests/data/tokenizer_golden.py > tests/data/tokenizer_golden.json   (pip install rustbpe==0.1.0 tiktoken)
import base64, json, random, rustbpe, tiktoken
PATTERN = r"""'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}{1,2}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+"""
rng = random.Random(7)
syllables = ["ka", "ro", "the", "in", "st", "er", "über", "mo", "ла", "да", "日", "本", "qu", "ing", "é", "x"]
words = ["".join(rng.choice(syllables) for _ in range(rng.randint(1, 4))) for _ in range(300)]
glue = [" "] * 12 + ["\n", "\n\n", ", ", ". ", "'s ", "'LL ", " (", ") ", "; ", "    ", "\r\n", " 1234 ", "\u00a0", "\u3000", " -> ", "--"]
document = lambda n: "".join(words[min(int(rng.expovariate(0.03)), 299)] + rng.choice(glue) for _ in range(n))
documents = [document(rng.randint(20, 300)) for _ in range(10)]
tokenizer = rustbpe.Tokenizer()
tokenizer.train_from_iterator(iter(documents), 600, pattern=PATTERN)
ranks = {bytes(token): rank for token, rank in tokenizer.get_mergeable_ranks()}
encoding = tiktoken.Encoding("golden", pat_str=PATTERN, mergeable_ranks=ranks, special_tokens={})
texts = ["", "a", " ", "hello world", "it's IT'S we'll WE'LL I'Ve 'ſ 'S", "a  b   c\n  d\t\te \n\n\n f\r\n\r\ng  ",
         "12345 x1y22z333", "\u180e \u180e\u2003x\u2028y\u0085z\u200bw", "naïve Ünïcödé ΑΒΓ абв 日本語 한국어 😀👍🏽 e\u0301",
         "!!!\n??? ...\r\n  ***  ", "int main() { return 0; }  // the end\n", "<|reserved_0|>", "x" * 300, " " * 50 + "y",
         "\u212a \u017f'\u017f ٣٤٥ ⅷ ²", "".join(chr(rng.choice([rng.randint(32, 126), rng.randint(0xa0, 0x24f), rng.randint(0x2000, 0x206f), rng.randint(0x3000, 0x30ff), rng.randint(0x1f300, 0x1f5ff), 10, 13, 32])) for _ in range(1500))]
texts.append(document(200))
print(json.dumps({"documents": documents, "tokens": [base64.b64encode(t).decode() for t in sorted(ranks, key=ranks.get)],
                  "upstream_bytes": [len(t.decode("utf-8", errors="replace").encode()) for t in sorted(ranks, key=ranks.get)],
                  "texts": [{"text": t, "ids": encoding.encode_ordinary(t)} for t in texts]}, ensure_ascii=False, separators=(",", ":")))

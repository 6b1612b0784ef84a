"""Makes tests/data/hub/: small shards as of karpathy/climbmix-400b-shuffle, and what upstream
makes of them.

    git clone https://github.com/karpathy/autoresearch && git -C autoresearch checkout 228791f
    pip install torch pyarrow rustbpe==0.1.0 tiktoken==0.14.*
    python tests/data/hub_golden.py autoresearch/prepare.py

Upstream's own prepare.py runs, unchanged: it trains its tokenizer on the training shards and
packs the held-out shard. Only its constants are smaller, and what it asks of a GPU is had on a CPU.
"""

import base64
import hashlib
import json
import os
import random
import sys
import types

import pyarrow as pa
import pyarrow.parquet as pq
import torch

SEQ_LEN, ROWS, VOCAB, ROW_GROUP = 64, 700, 512, 301
HERE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "hub")


def documents(seed, count):
    r = random.Random(seed)
    words = ["".join(r.choice("etaoinshrdlucmfw") for _ in range(r.randint(1, 9))) for _ in range(300)]
    words += ["don't", "I'LL", "über", "世界", "🙂", "3.14", "2026", "\n", "\r\n\n", "  ", "\t", "naïve"]
    for i in range(count):
        yield " ".join(r.choice(words) for _ in range(int(r.lognormvariate(2.5, 0.8)))) if i % 97 else ""


def write_shard(index, seed, count, extra=()):
    texts = list(documents(seed, count)) + list(extra)
    path = os.path.join(HERE, f"shard_{index:05d}.parquet")
    pq.write_table(pa.table({"text": texts}), path, compression="zstd", row_group_size=ROW_GROUP)


def load_upstream(path):
    sys.modules["requests"] = types.ModuleType("requests")
    upstream = types.ModuleType("upstream")
    with open(path) as f:
        exec(compile(f.read(), path, "exec"), upstream.__dict__)
    upstream.DATA_DIR, upstream.VOCAB_SIZE = HERE, VOCAB
    upstream.TOKENIZER_DIR = os.path.join(HERE, "tokenizer")
    empty = torch.empty
    torch.empty = lambda *shape, dtype, **kwargs: empty(*shape, dtype=dtype)  # no pinning, no GPU
    return upstream


def main():
    os.makedirs(HERE, exist_ok=True)
    long_document = "".join(random.Random(9).choice("ab 🙂é") for _ in range(12_000))
    write_shard(0, 0, 900, [long_document])
    write_shard(1, 1, 900)
    write_shard(6542, 2, 5000)
    upstream = load_upstream(sys.argv[1])
    upstream.train_tokenizer()
    tokenizer = upstream.Tokenizer.from_directory(upstream.TOKENIZER_DIR)
    ranks = sorted(tokenizer.enc._mergeable_ranks.items(), key=lambda item: item[1])
    tiktoken = "".join(f"{base64.b64encode(token).decode()} {rank}\n" for token, rank in ranks)

    loader = upstream.make_dataloader(tokenizer, 1, SEQ_LEN, "val")
    rows = b""
    for _ in range(ROWS):
        inputs, targets, epoch = next(loader)
        assert epoch == 1
        row = [int(inputs[0, 0])] + targets[0].tolist()
        rows += b"".join(token.to_bytes(2, "little") for token in row)
    golden = {
        "made_by": "tests/data/hub_golden.py, karpathy/autoresearch 228791f",
        "seq_len": SEQ_LEN, "rows": ROWS, "vocab": VOCAB,
        "tokenizer_sha256": hashlib.sha256(tiktoken.encode()).hexdigest(),
        "val_sha256": hashlib.sha256(rows).hexdigest(),
    }
    with open(os.path.join(HERE, "golden.json"), "w") as f:
        json.dump(golden, f, indent=1)
        f.write("\n")
    for name in os.listdir(upstream.TOKENIZER_DIR):
        os.remove(os.path.join(upstream.TOKENIZER_DIR, name))
    os.rmdir(upstream.TOKENIZER_DIR)


main()

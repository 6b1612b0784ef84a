"""Writes tests/data/packing_golden.json: rows of upstream's own loader, for tests/packing_test.cpp.

    python tests/data/packing_golden.py path/to/autoresearch/prepare.py > tests/data/packing_golden.json

(pip install torch pyarrow.) Runs make_dataloader of karpathy/autoresearch's prepare.py (228791f) as it
is, on real parquet files. Stand-ins: the tokenizer, whose documents are computed from their number,
as the test computes them too; the packages that only download and tokenize; and torch.empty, which
gets no pinned memory and no GPU. Of each batch only a hash is stored.
"""
import itertools
import json
import sys
import tempfile
import types

import pyarrow
import pyarrow.parquet
import torch

BOS = 8188
ROW_GROUPS = [300, 1000, 77, 128, 500, 1]
CASES = [  # tokens in a row without its last, rows in a batch, longest document but for every 50th
    dict(seq_len=64, rows=4, longest=90, batches=200),
    dict(seq_len=2048, rows=2, longest=1500, batches=200),
    dict(seq_len=256, rows=3, longest=20, batches=100),
    dict(seq_len=31, rows=30, longest=400, batches=100),
]


def document(number, longest):
    length = 1 + (number * 2654435761 % 2**32 >> 16) % longest
    if number % 50 == 0:
        length *= 40
    return [(31 * number + 7 * i) % BOS for i in range(1, length)]


class Tokenizer:
    def __init__(self, longest):
        self.longest, self.drawn = longest, 0

    def get_bos_token_id(self):
        return BOS

    def encode(self, texts, prepend):
        self.drawn += len(texts)
        return [[prepend] + document(int(text), self.longest) for text in texts]


def hash_of(rows):
    """FNV-1a of 32 bits, a token at a time."""
    h = 2166136261
    for token in itertools.chain(*rows):
        h = ((h ^ token) * 16777619) % 2**32
    return h


def upstream(path):
    """The global names of prepare.py."""
    for name in ("requests", "rustbpe", "tiktoken"):
        sys.modules[name] = types.ModuleType(name)
    empty = torch.empty
    torch.empty = lambda *size, dtype, device=None, pin_memory=False: empty(*size, dtype=dtype)
    names = {"__name__": "prepare"}
    exec(compile(open(path).read(), path, "exec"), names)
    return names


def run(names, case):
    tokenizer = Tokenizer(case["longest"])
    loader = names["make_dataloader"](tokenizer, case["rows"], case["seq_len"], "val")
    result = dict(case, hashes=[], epochs=[], drawn=[])
    for _ in range(case["batches"]):
        inputs, targets, epoch = next(loader)
        rows = [x + y[-1:] for x, y in zip(inputs.tolist(), targets.tolist())]
        assert [row[1:] for row in rows] == targets.tolist()
        result["hashes"].append(hash_of(rows))
        result["epochs"].append(epoch)
        result["drawn"].append(tokenizer.drawn)
    return result


def main():
    names = upstream(sys.argv[1])
    with tempfile.TemporaryDirectory() as folder:
        names["DATA_DIR"] = folder
        schema = pyarrow.schema([("text", pyarrow.string())])
        with pyarrow.parquet.ParquetWriter(f"{folder}/{names['VAL_FILENAME']}", schema) as writer:
            first = 0
            for size in ROW_GROUPS:
                texts = [str(number) for number in range(first, first + size)]
                writer.write_table(pyarrow.table({"text": texts}), row_group_size=size)
                first += size
        cases = [run(names, case) for case in CASES]
    json.dump({"row_groups": ROW_GROUPS, "bos": BOS, "cases": cases}, sys.stdout,
              separators=(",", ":"))
    print()


if __name__ == "__main__":
    main()

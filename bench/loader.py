"""Upstream's make_dataloader on a task's shards, for bench/loader.cpp: prints M tokens/s.

    python bench/loader.py TASK_FOLDER SEQ_LEN ROWS BOS

A transcription of its rule, not its code: a list of at least 1000 documents, refilled by 128, from
which each placement takes the longest that fits, else crops the shortest, found by looking at all
of them; rows as int64 tensors of torch. Documents are encoded beforehand, so no tokenizer is timed,
and nothing goes to a GPU. bench/reference.py trains on the rows of `batches`.
"""
import array
import itertools
import mmap
import pathlib
import sys
import time

import torch

SECONDS = 10


def documents(folder, bos):
    """Token lists of the first shard, each beginning with BOS."""
    tokens = array.array("H")
    shard = sorted(pathlib.Path(folder, "train").glob("*.bin"))[0]
    tokens.frombytes(shard.read_bytes()[:20_000_000])
    starts = [i for i, token in enumerate(tokens) if token == bos] + [len(tokens)]
    return [tokens[a:b].tolist() for a, b in itertools.pairwise(starts)]


def groups(documents):
    """Up to 128 documents at a time: what refills the pool."""
    return [documents[i:i + 128] for i in range(0, len(documents), 128)]


def starts(tokens, bos):
    """Where documents begin, and the end; found in pieces, so that no more is read than used."""
    for piece in range(0, len(tokens), 1 << 20):
        found = torch.frombuffer(tokens[piece:piece + (1 << 20)], dtype=torch.uint16) == bos
        yield from (found.nonzero().flatten() + piece).tolist()
    yield len(tokens)


def supply(folder, bos):
    """Groups of all shards without end, as harness/loader draws them: none spans two shards."""
    for shard in itertools.cycle(sorted(pathlib.Path(folder, "train").glob("*.bin"))):
        with open(shard, "rb") as f:
            tokens = memoryview(mmap.mmap(f.fileno(), 0, access=mmap.ACCESS_COPY)).cast("H")
        documents = (tokens[a:b] for a, b in itertools.pairwise(starts(tokens, bos)))
        while group := list(itertools.islice(documents, 128)):
            yield group


def batches(supply, rows, seq_len):
    """Endless inputs and targets, (rows, seq_len) each, from an endless supply of groups."""
    capacity = seq_len + 1
    pool = []
    out = torch.empty((rows, capacity), dtype=torch.long)
    while True:
        for row in out:
            filled = 0
            while filled < capacity:
                while len(pool) < 1000:
                    pool.extend(next(supply))
                left = capacity - filled
                best, length = -1, 0
                for i, document in enumerate(pool):
                    if length < len(document) <= left:
                        best, length = i, len(document)
                if best < 0:
                    best = min(range(len(pool)), key=lambda i: len(pool[i]))
                    length = left
                document = pool.pop(best)
                row[filled:filled + length] = torch.as_tensor(document[:length], dtype=torch.long)
                filled += length
        yield out[:, :-1].clone(), out[:, 1:].clone()


def main():
    folder, seq_len, rows, bos = sys.argv[1], *map(int, sys.argv[2:])
    torch.set_num_threads(1)
    loader = batches(itertools.cycle(groups(documents(folder, bos))), rows, seq_len)
    next(loader)
    tokens, start = 0, time.perf_counter()
    while (seconds := time.perf_counter() - start) < SECONDS:
        next(loader)
        tokens += rows * seq_len
    print(tokens / seconds / 1e6)


if __name__ == "__main__":
    main()

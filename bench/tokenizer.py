"""The tokenizer beside its peers, in one run: same documents, same machine, same merges, same ids.

    cmake --workflow --preset test          # builds build/bench/tokenizer
    python3 bench/tokenizer.py [--megabytes 128] [--grow 10,100,1000] [--peers PYTHON]

Trains on and encodes text that the machine has: C and C++ headers, Python sources, documentation,
message catalogues, manual pages, those in other alphabets first. Peers come from PyPI into a
throw-away environment, or are those of --peers. rustbpe trains. The encoders of ENCODERS get the ranks
that training gave, and the same number of threads. quicktok and gigatoken know a few patterns by name
and not ours: they take GPT-4's, which cuts numbers by three digits and not by two, so their ids are
compared on the same documents with at most two digits in a row. tokie can't take our ranks: it loads
them, and gives other ids even there, so it has no rate. Figures are the best of several runs, in turns;
slow encoders run once, Hugging Face on an eighth of the documents. gigatoken remembers pieces from one
call to the next, so that each of its runs is a process of its own: the same documents again would
measure its memory. Growth is measured on all text
that there is, up to the size; beyond that it comes again with other numbers in it.
"""

import argparse
import base64
import gzip
import json
import os
import random
import re
import struct
import subprocess
import sys
import tempfile
from array import array

HERE = os.path.dirname(os.path.abspath(__file__))
OURS = os.path.join(HERE, "..", "build", "bench", "tokenizer")
PATTERN = (r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}{1,2}| ?[^\s\p{L}\p{N}]++[\r\n]*"
           r"|\s*[\r\n]|\s+(?!\S)|\s+")
VOCAB = 8192
PEERS = ["rustbpe==0.1.0", "tiktoken==0.14.*", "quicktok-v1==0.4.*", "tokenizers", "gigatoken==0.10.*",
         "fastokens==0.3.*", "riptoken==0.2.*", "tokie==0.1.*"]
# Name: of how many documents it gets one, in how many of three turns it runs, how often in each,
# whether it knows our pattern.
ENCODERS = {"tiktoken": (1, 1, 1, True), "huggingface": (8, 1, 1, True),
            "riptoken": (1, 1, 1, True), "fastokens": (1, 3, 3, True),
            "quicktok": (1, 3, 3, False), "gigatoken": (1, 3, 1, False)}
TEXT = (".h", ".hpp", ".py", ".md", ".rst", ".txt", ".html", ".c", ".cpp", ".po", ".tcc", ".json")


# ------------------------------------------------------------------------------------------------
# Documents


def text_files():
    manuals, others = [], []
    for root in ["/usr/share/man", "/usr/share", "/usr/include", "/usr/lib", sys.prefix]:
        for folder, folders, names in os.walk(root):
            folders.sort()
            foreign = re.search(r"/man/[a-z]{2}[^/]*/", folder + "/")
            for name in sorted(names):
                if foreign and name.endswith(".gz"):
                    manuals.append(os.path.join(folder, name))
                elif name.endswith(TEXT):
                    others.append(os.path.join(folder, name))
    random.Random(0).shuffle(others)
    return manuals + others


def read_text(path):
    """The file as text; nothing for what is no UTF-8, empty, or larger than 1 MB."""
    try:
        if os.path.islink(path) or os.path.getsize(path) > 1_000_000:
            return ""
        with (gzip.open if path.endswith(".gz") else open)(path, "rb") as f:
            return f.read().decode()
    except (OSError, EOFError, UnicodeDecodeError):
        return ""


def collect(megabytes):
    documents, seen, size = [], set(), 0
    for path in text_files():
        text = read_text(path)
        if not text or hash(text) in seen:
            continue
        seen.add(hash(text))
        documents.append(text)
        size += len(text.encode())
        if size >= megabytes * 1e6:
            break
    random.Random(1).shuffle(documents)
    return documents


def size_of(documents):
    return sum(len(document.encode()) for document in documents)


def write_documents(path, documents):
    with open(path, "wb") as f:
        for document in documents:
            data = document.encode()
            f.write(struct.pack("<I", len(data)) + data)


def read_ids(path):
    with open(path, "rb") as f:
        data = f.read()
    at, result = 0, []
    while at < len(data):
        (count,) = struct.unpack_from("<I", data, at)
        result.append(list(struct.unpack_from(f"<{count}H", data, at + 4)))
        at += 4 + 2 * count
    return result


# ------------------------------------------------------------------------------------------------
# The peers, each in a process of its own: `python tokenizer.py --peer NAME ...` prints JSON


def load_documents(path):
    with open(path, "rb") as f:
        data = f.read()
    at, documents = 0, []
    while at < len(data):
        (size,) = struct.unpack_from("<I", data, at)
        documents.append(data[at + 4:at + 4 + size].decode())
        at += 4 + size
    return documents


def load_ranks(path):
    with open(path) as f:
        return {base64.b64decode(token): int(rank) for token, rank in map(str.split, f)}


def huggingface_json(ranks):
    """A tokenizer.json with these ranks: every token's merge is found by encoding without it."""
    printable = list(range(33, 127)) + list(range(161, 173)) + list(range(174, 256))
    alphabet = {b: chr(b) for b in printable}
    for b in range(256):
        if b not in alphabet:
            alphabet[b] = chr(256 + len(alphabet) - len(printable))
    spell = lambda token: "".join(alphabet[b] for b in token)
    merges = []
    for token, rank in sorted(ranks.items(), key=lambda item: item[1]):
        parts = [token[i:i + 1] for i in range(len(token))]
        while len(parts) > 2:
            best = min(range(len(parts) - 1),
                       key=lambda i: ranks.get(parts[i] + parts[i + 1], rank))
            parts[best:best + 2] = [parts[best] + parts[best + 1]]
        if len(parts) == 2:
            merges.append([spell(parts[0]), spell(parts[1])])
    return json.dumps({
        "version": "1.0", "added_tokens": [], "normalizer": None, "post_processor": None,
        "truncation": None, "padding": None, "decoder": None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
            {"type": "Split", "pattern": {"Regex": PATTERN}, "behavior": "Isolated",
             "invert": False},
            {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True,
             "use_regex": False}]},
        "model": {"type": "BPE", "vocab": {spell(t): r for t, r in ranks.items()},
                  "merges": merges}})


def parts(ids, ends):
    return [ids[begin:end] for begin, end in zip(ends, ends[1:])]


def encoder(name, path, threads, folder):
    """A function from documents to what the encoder calls ids, and one from that to lists of ids."""
    os.environ["RAYON_NUM_THREADS"] = str(threads)
    ranks = load_ranks(path)
    if name == "tiktoken":
        import tiktoken
        encoding = tiktoken.Encoding("ours", pat_str=PATTERN, mergeable_ranks=ranks,
                                     special_tokens={})
        return lambda documents: encoding.encode_ordinary_batch(documents, num_threads=threads), list
    if name == "riptoken":
        import riptoken
        return riptoken.CoreBPE(ranks, {}, PATTERN).encode_ordinary_batch, list
    if name == "gigatoken":
        import gigatoken
        encoding = gigatoken.Tokenizer.from_tiktoken(path, pretokenizer="gpt4")
        return (lambda documents: encoding.encode_batch(documents, parallel=threads > 1),
                lambda flat: flat.to_list())
    if name == "quicktok":
        os.environ["QUICKTOK_DATA"] = folder
        import quicktok
        from quicktok import _import_core as core
        data = os.path.join(os.path.dirname(quicktok.__file__), "data")
        core.write_files(folder, "ours", ranks, {"<|reserved_0|>": len(ranks)}, "cl100k", False)
        core.ensure_tables(folder, data, "cl100k", False)
        tokenizer = quicktok.Tokenizer("ours", folder)
        return (lambda documents: tokenizer.encode_batch(documents, threads, False),
                lambda flat: parts(*(array.tolist() for array in flat)))
    if name == "fastokens":
        import fastokens
        tokenizer = fastokens.Tokenizer.from_json_str(huggingface_json(ranks))
        return tokenizer.encode_batch_flat, lambda flat: parts(array("I", flat[0]), array("Q", flat[1]))
    ids_of = lambda encodings: [encoding.ids for encoding in encodings]
    if name == "tokie":
        import tokie
        with open(os.path.join(folder, "tokenizer.json"), "w") as f:
            f.write(huggingface_json(ranks))
        tokenizer = tokie.Tokenizer.from_json(f.name)
        return lambda documents: tokenizer.encode_batch(documents, add_special_tokens=False), ids_of
    from tokenizers import Tokenizer
    tokenizer = Tokenizer.from_str(huggingface_json(ranks))
    return lambda documents: tokenizer.encode_batch_fast(documents, add_special_tokens=False), ids_of


def peer(arguments):
    import time
    name, documents = arguments[0], load_documents(arguments[1])
    if name == "rustbpe":
        import rustbpe
        begin = time.perf_counter()
        tokenizer = rustbpe.Tokenizer()
        cropped = (d[:10_000] for d in documents)
        tokenizer.train_from_iterator(cropped, VOCAB - 4, pattern=PATTERN)
        seconds = time.perf_counter() - begin
        with open(arguments[2], "w") as f:
            for token, rank in sorted(tokenizer.get_mergeable_ranks(), key=lambda item: item[1]):
                f.write(f"{base64.b64encode(bytes(token)).decode()} {rank}\n")
        print(json.dumps({"seconds": seconds}))
        return
    ranks, threads, times, out = arguments[2], int(arguments[3]), int(arguments[4]), arguments[5]
    with tempfile.TemporaryDirectory() as folder:
        encode, lists = encoder(name, ranks, threads, folder)
        best = float("inf")
        for _ in range(times):
            begin = time.perf_counter()
            encoded = encode(documents)
            best = min(best, time.perf_counter() - begin)
    with open(out, "wb") as f:
        for ids in lists(encoded):
            f.write(struct.pack(f"<I{len(ids)}H", len(ids), *ids))
    print(json.dumps({"seconds": best}))


# ------------------------------------------------------------------------------------------------
# The comparison


def run(command):
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)} failed:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def best(results):
    return min(results, key=lambda result: result["seconds"])


def train_beside_rustbpe(python, documents, megabytes, used, folder):
    ours_file, peer_file = (os.path.join(folder, name) for name in ("ours", "rustbpe"))
    peers, ours = [], {1: [], 2: []}
    for _ in range(2):
        peers.append(run([python, __file__, "--peer", "rustbpe", documents, peer_file]))
        for threads in ours:
            ours[threads].append(
                run([OURS, "train", documents, str(VOCAB), str(threads), ours_file]))
    with open(ours_file) as a, open(peer_file) as b:
        same = a.read() == b.read()
    theirs = best(peers)["seconds"]
    print(f"\ntraining {VOCAB - 4} tokens on {megabytes:.0f} MB, of which at most 10,000 characters a "
          f"document count: {used:.0f} MB")
    print(f"  rustbpe 0.1.0, all cores  {theirs:8.2f} s")
    for threads in ours:
        result = best(ours[threads])
        print(f"  ours, {threads} thread(s)        {result['seconds']:8.2f} s  "
              f"{theirs / result['seconds']:6.1f} times rustbpe   peak {result['peak_mb']:.0f} MB")
    print(f"  merges {'the same' if same else 'DIFFER'}")
    return ours_file, same


def same_ids(name, ours, theirs):
    different = sum(a != b for a, b in zip(ours, theirs)) + abs(len(ours) - len(theirs))
    print(f"  {name}: ids {'the same' if not different else 'DIFFER'} on {len(ours)} documents"
          + (f" ({different} differ)" if different else ""))
    return different == 0


def same_ids_with_short_numbers(python, documents, ranks, folder):
    """On documents that our pattern and GPT-4's cut alike; what tokie gives there is only told."""
    path, ours, theirs = (os.path.join(folder, "short." + name) for name in ("documents", "ours", "ids"))
    write_documents(path, [re.sub(r"(\d\d)\d+", r"\1", document) for document in documents])
    run([OURS, "encode", path, ranks, "2", "1", ours])
    good = True
    for name in [name for name, (*_, knows) in ENCODERS.items() if not knows] + ["tokie"]:
        run([python, __file__, "--peer", name, path, ranks, "2", "1", theirs])
        good &= same_ids(name, read_ids(ours), read_ids(theirs)) or name == "tokie"
    return good


def encode_beside_peers(python, path, documents, megabytes, ranks, folder):
    few_path = os.path.join(folder, "few")
    write_documents(few_path, documents[::8])
    out = {name: os.path.join(folder, name + ".ids") for name in ["ours", *ENCODERS]}
    print(f"\nencoding {megabytes:.0f} MB, MB/s")
    good = True
    for threads in (1, 2):
        results = {name: [] for name in out}
        for turn in range(3):
            results["ours"].append(
                run([OURS, "encode", path, ranks, str(threads), "3", out["ours"]]))
            for name, (every, turns, times, _) in ENCODERS.items():
                if turn < turns:
                    results[name].append(
                        run([python, __file__, "--peer", name, path if every == 1 else few_path, ranks,
                             str(threads), str(times), out[name]]))
        ours = best(results["ours"])
        for name in out:
            every = ENCODERS.get(name, (1,))[0]
            share = size_of(documents[::every]) / size_of(documents)
            seconds = best(results[name])["seconds"] / share
            print(f"  {threads} thread(s)  {name:12} {megabytes / seconds:8.1f}"
                  + ("" if name == "ours" else
                     f"   ours is {seconds / ours['seconds']:5.1f} times as fast"))
        good &= ours["changed_by_round_trip"] == 0
    print(f"  decode(encode(x)) == x on {'every' if good else 'NOT every'} document")
    ours_ids = read_ids(out["ours"])
    for name, (every, *_, knows) in ENCODERS.items():
        good &= not knows or same_ids(name, ours_ids[::every], read_ids(out[name]))
    return same_ids_with_short_numbers(python, documents, ranks, folder) and good


def growth(sizes, documents, ranks, folder):
    print(f"\nhow cost grows, 2 threads, {size_of(documents) / 1e6:.0f} MB of different text"
          "\n        MB  train s  MB/s  peak MB  encode s   MB/s")
    path = os.path.join(folder, "growing")
    for size in sizes:
        taken, total, turn = [], 0, 0
        while total < size * 1e6:
            for document in documents:
                text = document if turn == 0 else re.sub(r"\d+", lambda m: m[0] + str(turn), document)
                taken.append(text)
                total += len(text.encode())
                if total >= size * 1e6:
                    break
            turn += 1
        write_documents(path, taken)
        trained = run([OURS, "train", path, str(VOCAB), "2", os.path.join(folder, "growing.ranks")])
        encoded = run([OURS, "encode", path, ranks, "2", "1", os.path.join(folder, "growing.ids")])
        mb = total / 1e6
        print(f"  {mb:8.0f} {trained['seconds']:8.2f} {mb / trained['seconds']:5.0f} "
              f"{trained['peak_mb']:8.0f} {encoded['seconds']:9.2f} {mb / encoded['seconds']:6.0f}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--megabytes", type=float, default=128)
    parser.add_argument("--grow", default="10,100,1000")
    parser.add_argument("--peers", help="a python that has the peers")
    options = parser.parse_args()
    if not os.path.exists(OURS):
        sys.exit("no build/bench/tokenizer; run: cmake --workflow --preset test")
    with tempfile.TemporaryDirectory() as folder:
        python = options.peers
        if not python:
            subprocess.check_call([sys.executable, "-m", "venv", os.path.join(folder, "venv")])
            python = os.path.join(folder, "venv", "bin", "python")
            subprocess.check_call([python, "-m", "pip", "install", "--quiet",
                                   "--disable-pip-version-check"] + PEERS)
        documents = collect(options.megabytes)
        path = os.path.join(folder, "documents")
        write_documents(path, documents)
        size = size_of(documents)
        foreign = sum(len(d.encode()) - len(re.sub(r"[^\x00-\x7f]", "", d)) for d in documents)
        print(f"{len(documents)} documents, {size / 1e6:.1f} MB of text, "
              f"{100 * foreign / size:.1f} % of it not ASCII; {os.cpu_count()} cores")
        used = sum(len(d[:10_000].encode()) for d in documents) / 1e6
        ranks, same = train_beside_rustbpe(python, path, size / 1e6, used, folder)
        good = encode_beside_peers(python, path, documents, size / 1e6, ranks, folder)
        sizes = [float(s) for s in options.grow.split(",")]
        growth(sizes, collect(max(sizes)), ranks, folder)
        sys.exit(0 if same and good else 1)


if __name__ == "__main__":
    peer(sys.argv[2:]) if sys.argv[1:2] == ["--peer"] else main()

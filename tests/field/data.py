#!/usr/bin/env python3
"""Corpora with the faults that people meet, through the real prepare: report, expected and seen, a line each.

    python3 tests/field/data.py [build/prepare]      # takes minutes; --only NAME: cases with it in the name

Needs pyarrow and zstandard from PyPI. All text is made here, from a list of common words. The faults were
reported in public: see docs/corpora.md for what prepare makes of each. Exits with 1 if anything is not as
expected.
"""
import argparse
import bz2
import gzip
import hashlib
import json
import lzma
import os
import pathlib
import random
import re
import subprocess
import sys
import tempfile

import pyarrow
import pyarrow.parquet
import zstandard

WORDS = ("the of and to in is that it for as with was on are by this be at from or have an not they which one all were "
         "when there can more if no out so up what about who time only some very water river stone light paper table "
         "green small large first second house road garden winter summer morning number letter answer question market "
         "bridge engine metal copper silver").split()
SMALL = "--vocab 512 --seq-len 64 --time-budget 3 --eval-tokens 16384".split()
rng = random.Random(7)


def sentence():
    return " ".join(rng.choice(WORDS) for _ in range(rng.randint(6, 18))).capitalize() + "."


def document():
    return "\n".join(" ".join(sentence() for _ in range(rng.randint(2, 5))) for _ in range(12)) + "\n"


DOCS = [document() for _ in range(1500)]
ROWS = [json.dumps({"text": text}) for text in DOCS]
JSONL = "".join(row + "\n" for row in ROWS)
TEXT = "".join(DOCS)
BOM = b"\xef\xbb\xbf"


class Case:
    """A source; `documents` that prepare counts in it (None: it is refused) and what it `says`."""

    def __init__(self, name, content, documents=1500, says="", options=()):
        self.name, self.content, self.documents = name, content, documents
        self.says, self.options = says, list(options)

    def write(self, folder):
        path = folder / self.name
        path.parent.mkdir(parents=True, exist_ok=True)
        if callable(self.content):
            self.content(path)
        else:
            path.write_bytes(self.content if isinstance(self.content, bytes) else self.content.encode())
        return path


def with_row(row):
    return "\n".join(ROWS[:900] + [row] + ROWS[900:]) + "\n"


def lines(make):
    return "".join(json.dumps(make(text)) + "\n" for text in DOCS)


def which_form():
    packed = gzip.compress(JSONL.encode(), mtime=0)
    return [
        Case("control.jsonl", JSONL),
        Case("json_lines.json", JSONL),
        Case("json_lines.json.gz", packed),
        Case("no_extension", JSONL, says="read as lines of JSON"),
        Case("json_lines.txt", JSONL, says="read as lines of JSON"),
        Case("upper.JSONL", JSONL),
        Case("array.json", json.dumps([{"text": text} for text in DOCS]), None, "jq -c"),
        Case("columns.json", json.dumps({"text": DOCS[:800]}), None, "write each document as a line"),
        Case("array.data", json.dumps([{"text": text} for text in DOCS]), None, "jq -c '.[]'"),
        Case("objects_over_lines.json", "\n".join(json.dumps({"text": text}, indent=2) for text in DOCS), None, "jq -c ."),
        Case("objects_without_lines.json", "".join(ROWS), None, "jq -c ."),
        Case("cr_only.json", JSONL.replace("\n", "\r"), None, "jq -c ."),
        Case("python.json", "".join(repr({"text": text}) + "\n" for text in DOCS), None, "is no JSON"),
        Case("two_with_bom.jsonl", (BOM + JSONL.encode())[:-1] + b"\n" + BOM + b'{"text": "ok"}\n', 1501),
        Case("arrow_stream.jsonl", arrow_stream, None, "Arrow stream"),
        Case("parquet_name_lies.gz", table({"text": DOCS}), says="not compressed, whatever the name says"),
        Case("jsonl_bzip2.jsonl.bz2", bz2.compress(JSONL.encode()), None, "bzip2"),
        Case("jsonl_xz.jsonl.xz", lzma.compress(JSONL.encode()), None, "xz"),
        Case("crlf.jsonl", JSONL.replace("\n", "\r\n")),
        Case("bom.jsonl", BOM + JSONL.encode()),
        Case("utf16.jsonl", b"\xff\xfe" + JSONL.encode("utf-16-le"), says="converted from UTF-16"),
        Case("blank_lines.jsonl", JSONL.replace("\n", "\n\n")),
        Case("no_last_newline.jsonl", JSONL.rstrip("\n")),
        Case("pdf.txt", b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n1 0 obj\n", None, "PDF document"),
        Case("zip.txt", b"PK\x03\x04\x14\0\0\0", None, "zip archive"),
    ]


def bad_lines():
    return [
        Case("cut_last_line.jsonl", JSONL[:-400], 1499, "cut off: 1"),
        Case("one_bad_line.jsonl", with_row('{"text": "never clos'), says="lines skipped: 1 of 1501"),
        Case("one_row_without_key.jsonl", with_row('{"title": "x"}'), says="lines skipped: 1 of"),
        Case("one_row_null.jsonl", with_row('{"text": null}')),
        Case("one_row_number.jsonl", with_row('{"text": 17}'), says="lines skipped: 1 of"),
        Case("one_row_list.jsonl", with_row('{"text": ["a", "b"]}'), says="lines skipped: 1 of"),
        Case("two_bad_lines.jsonl", with_row("{\n{"), None, "2 of 1502 lines can't be used"),
        Case("nan_row.jsonl", with_row('{"text": "ok", "score": NaN}'), 1501),
        Case("huge_number.jsonl", with_row('{"id": ' + "9" * 30 + ', "text": "ok"}'), 1501),
        Case("duplicate_key.jsonl", with_row('{"text": "first", "text": "second"}'), 1501),
        Case("lone_surrogate.jsonl", with_row('{"text": "broken \\ud83d emoji"}'), 1501),
        Case("raw_control.jsonl", with_row('{"text": "a bell \x07"}'), says="lines skipped: 1 of"),
        Case("invalid_utf8.jsonl", with_row('{"text": "caf\xe9"}').encode("latin-1"), 1501,
             "1 bytes are not valid UTF-8"),
        Case("escaped_nul.jsonl", with_row('{"text": "before\\u0000after"}'), 1501),
        Case("deep.jsonl", with_row('{"meta": ' + "[" * 3000 + "]" * 3000 + ', "text": "ok"}'),
             says="lines skipped: 1 of"),
        Case("crash_left_zeros.jsonl", JSONL.encode()[:-400] + bytes(4000), 1499, "cut off: 1"),
        Case("huge_line.jsonl", with_row(json.dumps({"text": "words and words " * (17 << 16)})), 1503,
             "longer than 16 MiB, cut: 1"),
    ]


def columns():
    return [
        Case("content_key.jsonl", lines(lambda t: {"content": t, "n": 1}), None, "but has: content"),
        Case("messages.jsonl", lines(chat), None, "messages[].content"),
        Case("messages_asked.jsonl", lines(chat), options=["--column", "messages[].content"]),
        Case("strings.jsonl", lines(lambda t: {"text": [t, t[:50]]}), options=["--column", "text[]"]),
        Case("nested.jsonl", lines(lambda t: {"raw": {"text": t}}), None, "raw.text"),
        Case("nested_asked.jsonl", lines(lambda t: {"raw": {"text": t}}), options=["--column", "raw.text"]),
    ]


def chat(text):
    return {"messages": [{"role": "user", "content": text[:80]}, {"role": "assistant", "content": text}]}


def compressed():
    body = JSONL.encode()
    half = body.index(b"\n", len(body) // 2) + 1
    gz = gzip.compress(body, mtime=0)
    z = zstandard.ZstdCompressor(level=3)

    def streamed(compressor, end):
        c = compressor.compressobj()
        return c.compress(body) + (c.flush() if end else c.flush(zstandard.COMPRESSOBJ_FLUSH_BLOCK))

    wide = zstandard.ZstdCompressionParameters.from_level(3, window_log=28, enable_ldm=True)
    two = gzip.compress(body[:half], mtime=0) + gzip.compress(body[half:], mtime=0)
    empty = gzip.compress(b"", mtime=0)
    return [
        Case("gz_trailing_zeros.jsonl.gz", gz + bytes(1024)),
        Case("gz_trailing_garbage.jsonl.gz", gz + b"Content-Type: text/plain\r\n", says="behind the compressed data"),
        Case("gz_trailing_newline.jsonl.gz", gz + b"\n", says="behind the compressed data"),
        Case("gz_two_members.jsonl.gz", two),
        Case("gz_empty_member.jsonl.gz", empty + gz + empty),
        Case("gz_cut.jsonl.gz", gz[: len(gz) // 2], None, "ends in the middle"),
        Case("gz_name_lies.jsonl.gz", body, says="not compressed, whatever the name says"),
        Case("gz_twice.jsonl.gz", gzip.compress(gz, mtime=0), says="compressed more than once"),
        Case("gz_bad_crc.jsonl.gz", gz[:-8] + b"\0\0\0\0" + gz[-4:], None, "incorrect data check"),
        Case("gz_without_name.jsonl", gz, says="decompressed, whatever the name says"),
        Case("zst_two_frames.jsonl.zst", z.compress(body[:half]) + z.compress(body[half:])),
        Case("zst_skippable.jsonl.zst", b"\x50\x2a\x4d\x18\x08\0\0\0skipthis" + z.compress(body)),
        Case("zst_no_size.jsonl.zst", streamed(z, True)),
        Case("zst_unended.jsonl.zst", streamed(z, False), None, "ends in the middle"),
        Case("zst_trailing_garbage.jsonl.zst", z.compress(body) + b"\n", says="behind the compressed data"),
        Case("zst_window_256m.jsonl.zst", streamed(zstandard.ZstdCompressor(compression_params=wide), True), None,
             "more than 128 MiB"),
    ]


def mixed_folder(path):
    path.mkdir()
    for i in range(40):
        (path / f"utf8_{i}.txt").write_text(DOCS[i])
        (path / f"utf16_{i}.txt").write_bytes(b"\xff\xfe" + DOCS[40 + i].encode("utf-16-le"))
    (path / "rows.json").write_text("\n".join(ROWS[100:140]) + "\n")
    (path / "rows.jsonl").write_text("\n".join(ROWS[140:180]) + "\n")
    (path / "package.json").write_text('{\n  "name": "text"\n}\n')
    (path / "notes.md").write_text(DOCS[200])
    (path / "page.html").write_text(f"<html><body><p>{DOCS[201]}</p></body></html>")
    (path / "book.jsonl.gz").write_bytes(gzip.compress("\n".join(ROWS[180:220]).encode(), mtime=0))
    (path / "\u00fcn\u00efcode n\u00e4me \u3042.txt").write_text(DOCS[222])
    (path / "with newline\nin name.txt").write_text(DOCS[223])
    with open(os.path.join(os.fsencode(path), b"bad_\xff_name.txt"), "wb") as f:
        f.write(DOCS[224].encode())
    (path / "._book.jsonl").write_bytes(b"\0\x05\x16\x07 of a Mac")
    (path / "picture.png").write_bytes(b"\x89PNG\r\n\x1a\n\0")
    (path / "sub" / ".git").mkdir(parents=True)
    (path / "sub" / ".git" / "config.txt").write_text("[core]\n")
    (path / "loop").symlink_to("..")
    (path / "dead.txt").symlink_to("/nonexistent/file.txt")


def plain_text():
    late_nul = TEXT[:40000].encode() + b"\0" * 5 + TEXT[40000:].encode()
    return [
        Case("bom.txt", BOM + TEXT.encode(), 40, "byte order marks dropped: 1"),
        Case("utf16le.txt", b"\xff\xfe" + TEXT.encode("utf-16-le"), 40, "converted from UTF-16: 1"),
        Case("utf16be.txt", b"\xfe\xff" + TEXT.encode("utf-16-be"), 40, "converted from UTF-16: 1"),
        Case("utf16be_no_bom.txt", TEXT.encode("utf-16-be"), None, "UTF-16BE without a byte order mark"),
        Case("latin1.txt", TEXT.replace("e", "\xe9").encode("latin-1"), 40, "bytes are not valid UTF-8"),
        Case("nul_early.txt", TEXT[:3000].encode() + b"\0" + TEXT[3000:].encode(), None, "binary file"),
        Case("nul_late.txt", late_nul, 40),
        Case("cr_only.txt", TEXT.replace("\n", "\r"), 40),
        Case("form_feed.txt", "\f".join(DOCS), 40),
        Case("one_line.txt", TEXT.replace("\n", " "), 40),
        Case("empty.txt", b"", None, "corpus is empty"),
        Case("blank.txt", b" \n\t\n  \n", None, "corpus is empty"),
        Case("only_newlines.txt", "\n" * 300000, None, "corpus is empty"),
        Case("mixed_folder", mixed_folder, 205, "1 .json, 1 .png, 1 hidden file"),
        Case("special_words.jsonl", lines(lambda t: {"text": t[:200] + " <|endoftext|> <s> " + t[200:]})),
    ]


def near_duplicates():
    near = [f"Retrieved on day {rng.randint(1, 9999)}.\n{text}" for text in DOCS[:300] for _ in range(4)]
    content = "".join(json.dumps({"text": text}) + "\n" for text in near)
    return [
        Case("near_duplicates.jsonl", content, 1200, "--dedup near keeps"),
        Case("near_duplicates_apart.jsonl", content, 1200, "\n0.0 % of val's", options=["--dedup", "near"]),
    ]


def table(columns, **options):
    return lambda path: pyarrow.parquet.write_table(pyarrow.table(columns), path, **options)


def arrow_stream(path):
    rows = pyarrow.table({"text": DOCS})
    with pyarrow.ipc.new_stream(str(path), rows.schema) as stream:
        stream.write_table(rows)


def damaged(change):
    def write(path):
        table({"text": DOCS}, write_page_checksum=True)(path)
        path.write_bytes(change(path.read_bytes()))

    return write


def flip_a_bit(data):
    at = len(data) // 3
    return data[:at] + bytes([data[at] ^ 0x20]) + data[at + 1:]


def parquet_files():
    pa = pyarrow
    pages = {"use_dictionary": False, "data_page_version": "2.0"}
    long = [f"Volume {i}. " + (sentence() + " ") * 200 for i in range(1100)]
    long = [(text * 20)[:210_000] for text in long]
    binary = [text.encode() for text in DOCS]
    lists = [[text, text[:50]] for text in DOCS]
    cases = [
        Case("control.parquet", table({"text": DOCS})),
        Case("parquet.data", table({"text": DOCS})),
        Case("zero_rows.parquet", table({"text": pa.array([], pa.string())}), None, "corpus is empty"),
        Case("all_null.parquet", table({"text": pa.array([None] * 100, pa.string())}), None, "corpus is empty"),
        Case("null_type.parquet", table({"text": pa.nulls(100)}), None, "no column \"text\" of text"),
        Case("binary.parquet", table({"text": pa.array(binary, pa.binary())})),
        Case("string_view.parquet", table({"text": pa.array(DOCS, pa.string_view())})),
        Case("dictionary.parquet", table({"text": pa.array([DOCS[i % 500] for i in range(1500)]).dictionary_encode()})),
        Case("list.parquet", table({"text": lists}), None, "give --column one of: text[]"),
        Case("list_asked.parquet", table({"text": lists}), options=["--column", "text[]"]),
        Case("chat.parquet", table({"messages": [chat(t)["messages"] for t in DOCS]}), None, "messages[].content"),
        Case("chat_asked.parquet", table({"messages": [chat(t)["messages"] for t in DOCS]}),
             options=["--column", "messages[].content"]),
        Case("struct.parquet", table({"raw": [{"text": t} for t in DOCS]}), options=["--column", "raw.text"]),
        Case("column_dot.parquet", table({"raw.text": DOCS}), options=["--column", "raw.text"]),
        Case("column_upper.parquet", table({"Text": DOCS}), None, "give --column one of: Text"),
        Case("no_text.parquet", table({"input_ids": [[1, 2, 3]] * 100}), None, "no other has text"),
        Case("fixed_size.parquet", table({"text": pa.array([b[:64] for b in binary], pa.binary(64))}), None,
             "no other has text"),
        Case("checksum_wrong.parquet", damaged(flip_a_bit), None, "can't be read as parquet"),
        Case("cut.parquet", damaged(lambda data: data[: len(data) // 2]), None, "can't be read as parquet"),
        Case("html_error_page.parquet", "<html><body>404 Not Found</body></html>", None, "page of HTML"),
        Case("lfs_pointer.parquet", "version https://git-lfs.github.com/spec/v1\noid sha256:0\n", None, "git lfs pull"),
        Case("many_groups.parquet", table({"text": DOCS}, row_group_size=1)),
        Case("long_docs.parquet", table({"text": long}, compression="zstd", use_dictionary=False), 1100),
        Case("long_docs_dictionary.parquet", table({"text": pa.array(long)}, compression="zstd"), 1100),
        Case("one_doc_21mb.parquet", table({"text": DOCS + ["word " * (17 << 18)]}, compression="zstd"), 1503,
             "longer than 16 MiB, cut: 1"),
    ]
    for kind in ("DELTA_LENGTH_BYTE_ARRAY", "DELTA_BYTE_ARRAY"):
        cases.append(Case(f"{kind.lower()}.parquet", table({"text": DOCS}, column_encoding={"text": kind}, **pages)))
    for codec in ("none", "snappy", "gzip", "brotli", "lz4", "zstd"):
        cases.append(Case(f"codec_{codec}.parquet", table({"text": DOCS}, compression=codec)))
    return cases


class Prepare:
    def __init__(self, program, data):
        self.program, self.data = program, data

    def run(self, *arguments, stdin=b""):
        """Makes the task "d". Returns the exit code and all that was said."""
        command = [self.program, *arguments, "--task", "d", "--force", *SMALL]
        done = subprocess.run(command, input=stdin, capture_output=True, timeout=600,
                              env={**os.environ, "AUTORESEARCH_DATA": str(self.data)}, check=False)
        return done.returncode, (done.stdout + done.stderr).decode(errors="replace")

    def fingerprint(self):
        digest = hashlib.sha256()
        for file in sorted((self.data / "d").rglob("*")):
            if file.suffix in (".bin", ".tiktoken"):
                digest.update(file.read_bytes())
        return digest.hexdigest()[:16]


# The kinds of reports (tests/field/run.py), but for cases that are of another kind than their like.
REPORTS = {which_form: 9, bad_lines: 19, columns: 34, compressed: 25, plain_text: 21, near_duplicates: 31,
           parquet_files: 9}
OTHERS = {"bom.jsonl": 38, "bom.txt": 38, "long_docs.parquet": 16, "long_docs_dictionary.parquet": 16,
          "one_doc_21mb.parquet": 16, "special_words.jsonl": 37}


def tell(report, good, name, expected, seen):
    print(f"{report:2} {'ok' if good else 'WRONG':5} {name:28} expected: {expected}; seen: {seen}", flush=True)
    return good


def try_case(prepare, case, folder, report):
    code, said = prepare.run("--source", str(case.write(folder)), *case.options)
    counts = re.search(r": (\d+) documents, .*\((\d+) exact", said)
    documents = int(counts[1]) + int(counts[2]) if code == 0 and counts else None
    expected = f"{case.documents} documents" if case.documents else "a refusal"
    seen = f"{documents} documents" if documents else said.strip().split("\n")[-1]
    if case.says:
        expected += f", and {case.says.strip()!r}"
        seen += ", and it is said" if case.says in said else ", and it is NOT said"
    good = documents == case.documents and case.says in said
    return tell(OTHERS.get(case.name, report), good, case.name, expected, seen)


def try_ways_in(prepare, folder):
    """The same documents give the same tokens whichever way they come in."""
    body, separated = JSONL.encode(), "<|end|>".join(DOCS).encode()
    texts = folder / "texts"
    texts.mkdir()
    for i, text in enumerate(DOCS):
        encoded = [text.encode(), b"\xff\xfe" + text.encode("utf-16-le"), BOM + text.encode()][i % 3]
        (texts / f"{i}.txt").write_bytes(encoded)
    table({"text": DOCS})(folder / "a.parquet")
    files = {"a.jsonl": body, "a.json": body, "a.jsonl.gz": gzip.compress(body),
             "a.jsonl.zst": zstandard.ZstdCompressor().compress(body), "a.txt": separated}
    for name, content in files.items():
        (folder / name).write_bytes(content)
    split = ["--doc-separator", "<|end|>"]
    ways = {"a.jsonl": ["--source", folder / "a.jsonl"],
            "a folder of .txt, in UTF-8 and UTF-16": ["--source", texts],
            "a.txt, by separator": ["--source", folder / "a.txt", *split],
            **{name: ["--source", folder / name] for name in ("a.json", "a.jsonl.gz", "a.jsonl.zst", "a.parquet")}}
    pipes = {"a pipe of JSON lines": (["--source", "-.jsonl"], body),
             "a pipe that does not say so": (["--source", "-"], body),
             "a pipe of gzip": (["--source", "-"], gzip.compress(body)),
             "a pipe of text, by separator": (["--source", "-", *split], separated)}
    good, first = True, None
    for name, (arguments, stdin) in {**{name: (words, b"") for name, words in ways.items()}, **pipes}.items():
        code, said = prepare.run(*map(str, arguments), stdin=stdin)
        seen = prepare.fingerprint() if code == 0 else said.strip()
        first = first or seen
        good &= tell(43, seen == first, "tokens of " + name, first, seen)
    good &= try_long_document(prepare, folder)
    book = folder / "book.txt"
    book.write_text(TEXT)
    prepare.run("--source", str(book))
    first = prepare.fingerprint()
    prepare.run("--source", "-", stdin=TEXT.encode())
    seen = prepare.fingerprint()
    return good & tell(43, seen == first, "tokens of a book through a pipe", first, seen)


def try_long_document(prepare, folder):
    """A document that is too long for one is cut alike in every form."""
    long = "".join(sentence() + "\n" for _ in range(300_000))
    texts = DOCS[:300] + [long]
    (folder / "long.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    separated = "<|end|>".join(texts).encode()
    (folder / "long.txt").write_bytes(separated)
    (folder / "long.txt.gz").write_bytes(gzip.compress(separated))
    table({"text": texts})(folder / "long.parquet")
    good, first = True, None
    for name in ("long.jsonl", "long.txt", "long.txt.gz", "long.parquet"):
        split = ["--doc-separator", "<|end|>"] if "txt" in name else []
        code, said = prepare.run("--source", str(folder / name), *split)
        seen = prepare.fingerprint() if code == 0 else said.strip()
        first = first or seen
        good &= tell(43, seen == first, "tokens of " + name, first, seen)
    return good


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("prepare", nargs="?", default="build/prepare")
    parser.add_argument("--only", default="", help="cases with this in the name")
    options = parser.parse_args()
    good = True
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        prepare = Prepare(os.path.abspath(options.prepare), folder / "data")
        for cases, report in REPORTS.items():
            for case in cases():
                if options.only in case.name:
                    good &= try_case(prepare, case, folder / cases.__name__, report)
        if options.only in "tokens":
            good &= try_ways_in(prepare, folder)
    print("all as expected" if good else "not all as expected")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())

#!/usr/bin/env python3
"""File systems that lack calls, against the real prepare: report, expected and seen, a line each.

  python3 tests/field/boxes.py [BUILD_FOLDER]

tests/refusing_calls.cpp, preloaded, makes a local disk behave as a share, a FUSE mount, a cluster disk
or a FAT stick does. The task that is made must be the same to the byte, or the refusal must be told.
"""
import errno
import os
import pathlib
import random
import subprocess
import sys
import tempfile

SMALL = "--vocab 300 --seq-len 64 --time-budget 3 --eval-tokens 16384".split()
WORDS = "river stone light paper table green small large road garden winter summer".split()
REPORT = 8

REFUSED = [  # call, errno, what prepare must say beside making the task; None: it must refuse
    *(("fsync", code, "") for code in (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP)),
    ("fsync", errno.EIO, None),
    ("fsync", errno.ENOSPC, None),
    *(("flock", code, "has no locks") for code in (errno.ENOSYS, errno.ENOLCK, errno.ENOTSUP)),
    *(("fchmod", code, "") for code in (errno.EPERM, errno.ENOTSUP, errno.ENOSYS)),
    *(("renameat2", code, "") for code in (errno.EINVAL, errno.ENOSYS, errno.EPERM, errno.ENOTSUP, errno.EXDEV)),
    *((call, code, "") for call in ("link", "symlink") for code in (errno.EPERM, errno.ENOTSUP)),
    ("stale", 1, ""),
]


def corpus(folder):
    rng = random.Random(5)
    texts = folder / "texts"
    texts.mkdir()
    for i in range(400):
        lines = (" ".join(rng.choice(WORDS) for _ in range(12)) for _ in range(40))
        (texts / f"{i}.txt").write_text("\n".join(lines) + "\n")
    return texts


class Prepare:
    def __init__(self, build, folder):
        self.program, self.library = build / "prepare", build / "tests" / "librefusing_calls.so"
        self.folder, self.texts = folder, corpus(folder)

    def task(self, name, calls=""):
        """Makes a task twice, so that one takes the other's place: code, words, and the task's bytes."""
        data = self.folder / name
        env = {**os.environ, "AUTORESEARCH_DATA": str(data)}
        if calls:
            env.update(LD_PRELOAD=str(self.library), REFUSED_CALLS=calls, REFUSED_UNDER=str(data))
        command = [self.program, "--source", self.texts, "--task", "t", "--force", *SMALL]
        for _ in range(2):
            done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
            if done.returncode != 0:
                break
        files = sorted(f for f in data.rglob("*") if f.suffix in (".bin", ".tiktoken"))
        return done.returncode, done.stdout + done.stderr, [f.read_bytes() for f in files]


def main():
    build = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else "build").absolute()
    good = True
    with tempfile.TemporaryDirectory() as name:
        prepare = Prepare(build, pathlib.Path(name))
        if not prepare.library.exists():
            sys.exit(f"no {prepare.library}; type: cmake --build build --target refusing_calls")
        _, _, whole = prepare.task("local")
        for i, (call, code, says) in enumerate(REFUSED):
            rc, said, files = prepare.task(f"odd{i}", f"{call}={code}")
            last = (said.strip().splitlines() or [""])[-1]
            same = rc == 0 and files == whole
            right = rc != 0 and os.strerror(code) in said if says is None else same and says in said
            expected = "a refusal with the reason" if says is None else "the same task"
            expected += f", and '{says}'" if says else ""
            seen = "the same task" if same else last
            seen += ", and it is said" if says and says in said else ""
            print(f"{REPORT:2} {'ok' if right else 'WRONG':5} {call + ' ' + errno.errorcode[code]:28} "
                  f"expected: {expected}; seen: {seen}", flush=True)
            good &= right
    sys.exit(not good)


if __name__ == "__main__":
    main()

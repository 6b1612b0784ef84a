"""Builds train.cpp with other constants, as the loop builds its candidates.

    python3 bench/variants.py PROGRAM NAME=VALUE...     # such as kGpuAspect=128; NAME=x2 doubles it
"""

import json
import os
import re
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
BUILD = os.path.join(HERE, "..", "build")


def with_constants(source, constants):
    """The source with these values; "x2" is twice the old one."""
    for name, value in constants.items():
        new = lambda m: f"{m[1]}{int(m[2]) * int(value[1:]) if value.startswith('x') else value};"
        source, count = re.subn(rf"({name} = )(\d+);", new, source)
        if count != 1:
            sys.exit(f"train.cpp has no constant {name}")
    return source


def build(program, constants):
    with open(os.path.join(HERE, "..", "train.cpp")) as f:
        source = with_constants(f.read(), constants)
    with open(os.path.join(BUILD, "candidate.json")) as f:
        commands = json.load(f)["build"]
    with tempfile.TemporaryDirectory() as folder:
        paths = {"kit": os.path.join(BUILD, "kit"), "source": os.path.join(folder, "train.cpp"),
                 "object": os.path.join(folder, "train.o"), "program": os.path.abspath(program)}
        with open(paths["source"], "w") as f:
            f.write(source)
        for command in commands:
            for name, path in paths.items():
                command = [word.replace("{" + name + "}", path) for word in command]
            # In that folder: elsewhere a harness/ could stand before the kit's.
            done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
            if done.returncode != 0:
                raise RuntimeError(f"{' '.join(command)} failed:\n{done.stderr[-2000:]}")


if __name__ == "__main__":
    build(sys.argv[1], dict(word.split("=") for word in sys.argv[2:]))

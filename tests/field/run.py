#!/usr/bin/env python3
"""What people report of programs like this one, tried on it: report, case, expected and seen, a line each.

  python3 tests/field/run.py [BUILD_FOLDER] [--fast] [--report N]

The kinds of reports stand below. Each has at least one line: of the odd servers and assistants
(endpoints.py), the replies (tests/replies_test.cpp), the corpora (data.py, which needs pyarrow and
zstandard from PyPI), the file systems (boxes.py), or of the tests that hold the rest. `ok*` marks what
differs from what was asked for, with the reason; `left` is what can't be tried here, with the reason.
--fast leaves out the corpora, which take minutes, and what ctest runs itself. Exits with 1 if any line
is WRONG: also if a program is not built, crashes or lacks a test, and if a kind has no line.
"""
import argparse
import collections
import fnmatch
import re
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).absolute().parent

KINDS = {
    1: "a busy minute or a cold page cache voids an innocent candidate",
    2: "the machine breaks in mid-night, and every later candidate is burned",
    3: "thoughts leak into the answer, and the draft in them is run",
    4: "the label is not exactly IDEA:",
    5: "finish_reason is the word null, or one that nobody knows",
    6: "the whole answer is in the field for reasoning",
    7: "a proxy catches what is on this machine",
    8: "data on a share, FUSE, a cluster disk, FAT",
    9: "what a file is, its name does not say",
    10: "the prompt is too long, in other words",
    11: "one odd line of a stream costs the whole reply",
    12: "minutes until the first word",
    13: "a command that fails politely",
    14: "limits of a container are not seen",
    15: "prose that ends like code",
    16: "parquet with long documents",
    17: "a company's own certificate authority",
    18: "no place for a system role",
    19: "one bad line in a large corpus",
    20: "credit for a smaller answer is left",
    21: "text in another encoding vanishes",
    22: "a refusal inside a 200",
    23: "a gateway wants another header",
    24: "a child that can't die",
    25: "something behind the end of compressed data",
    26: "markers of other tools",
    27: "escaped markers, and feedback that points elsewhere",
    28: "what terminals are sent around a reply",
    29: "an assistant that edits the user's files",
    30: "a candidate without memory ends the agent too",
    31: "near-duplicates across the split",
    32: "no namespaces inside a container",
    33: "a processor without AVX2",
    34: "the text is in another column or key",
    35: "thousands of other processes",
    36: "foreign libraries first in the search path",
    37: "endless runs of one character, words that look special",
    38: "a byte order mark in the text",
    39: "dialects of a whole answer",
    40: "descriptions that mislead",
    41: "a suspended or stopped machine",
    42: "documents that are longer than a row",
    43: "two ways in give other tokens",
    44: "bfloat16 on a processor that has none",
    45: "quirks that were always taken well",
}

# What only a program of tests can show: the program, and which of its tests.
TESTS = {
    1: [("machine_state_test", "Disturbed.*"), ("plan_test", "*ADisturbedMeasurementIsRepeated*")],
    2: [("plan_test", "*ThreeCrashesAlike*:*BrokenMachine*:*NamesTheMachine*")],
    8: [("files_test", "*WithoutFsync*:*WithoutModes*:*WithoutLocks*")],
    14: [("machine_test", "LimitsTest.*")],
    24: [("process_test", "*SigkillDoesNotEnd*"), ("plan_test", "*ChildThatCantDie*")],
    30: [("process_test", "*DiesBeforeUs*"), ("sandbox_test", "*IsTheFirstToDie*")],
    32: [("sandbox_test", "SandboxProblemTest.*")],
    33: [("place_test", "Processor.*"), ("fused_test", "Loops.*")],
    35: [("process_test", "*ATreeIsFoundByItsOwnLists*")],
    36: [("place_test", "*LibrariesThatComeBefore*"), ("doctor_test", "*LibrariesThatComeFirst*"),
         ("sandbox_test", "*LibraryFoldersAreVisible*")],
    37: [("tokenizer_test", "*EndlessRuns*")],
    40: [("report_test", "*NoDescriptionIsAFormula*")],
    41: [("machine_state_test", "*Suspended*:*Stopped*:*AStopIsSeen*")],
    42: [("packing_test", "Packing.*"), ("loader_test", "*RowsMayBeLonger*:*BeginWithADocument*")],
    44: [("device_test", "*Bfloat16*")],
}

ENDPOINTS = (3, 5, 6, 7, 10, 11, 12, 13, 17, 18, 20, 22, 23, 29, 39, 45)  # of endpoints.py
DATA = (9, 16, 19, 21, 25, 31, 34, 37, 38, 43)  # of data.py
REPLIES = {  # of tests/replies_test.cpp
    3: "Replies.OfSeveralDraftsTheMeantOneIsRun",
    4: "Replies.LabelsInAnyDress",
    13: "Replies.WhatIsNoEdit",
    15: "Replies.ProseThatEndsLikeCode",
    26: "Replies.MarkersOfOtherTools:Replies.OtherNotations",
    27: "Replies.OtherCharacters",
    28: "Replies.WhatTerminalsAreSent",
    40: "Replies.DescriptionsMisleadNobody",
}


class Field:
    def __init__(self, build, report):
        self.build, self.report = build, report
        self.count = collections.defaultdict(collections.Counter)

    def wants(self, number):
        return self.report in (None, number)

    def tell(self, number, mark, rest):
        if self.wants(number):
            self.count[number][mark] += 1
            print(f"{number:2} {mark:5} {rest}", flush=True)

    def script(self, numbers, name, *arguments):
        """Lines that a script of this folder prints: each begins with its report and a mark."""
        command = [sys.executable, str(HERE / name), *map(str, arguments)]
        marks, last = [], ""
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
            for line in process.stdout:
                words = re.match(r"( ?\d+) (ok\*?|left|WRONG) +(.*)", line)
                last = line.strip() or last
                if words:
                    marks.append(words[2])
                    self.tell(int(words[1]), words[2], words[3])
        code = process.returncode
        if not marks or (code != 0 and "WRONG" not in marks):
            for number in numbers:
                self.tell(number, "WRONG", f"{name} expected: its lines; seen: its end with {code}: {last}")

    def gtest(self, number, program, names):
        """What such a program prints, and OK, SKIPPED or FAILED for each test. What does not run is WRONG."""
        path = self.build / "tests" / program
        if not path.exists():
            self.tell(number, "WRONG", f"{program} {names} expected: it is built; seen: it is not")
            return "", {}
        done = subprocess.run([path, "--gtest_filter=" + names], capture_output=True, text=True, check=False)
        told = re.findall(r"^\[ +(OK|SKIPPED|FAILED) +\] ([^\s,]+).*\(\d+ ms\)$", done.stdout, re.MULTILINE)
        results = {name: result for result, name in told}
        for pattern in names.split(":"):
            if not any(fnmatch.fnmatchcase(name, pattern) for name in results):
                self.tell(number, "WRONG", f"{program} {pattern} expected: such a test; seen: none ended")
        if done.returncode != 0 and "FAILED" not in results.values():
            self.tell(number, "WRONG", f"{program} {names} expected: its end; seen: its end with {done.returncode}")
        return done.stdout, results

    def tests(self, number, program, names):
        for name, result in self.gtest(number, program, names)[1].items():
            if result == "SKIPPED":
                self.tell(number, "left", f"{name}: it can't be shown on this machine")
            else:
                mark, seen = ("ok", "it holds") if result == "OK" else ("WRONG", "it does not")
                self.tell(number, mark, f"{name} expected: it holds; seen: {seen}")

    def replies(self, number, names):
        """Each reply has its line; which of them a test that fails does not hold stands in ctest's output."""
        printed, results = self.gtest(number, "replies_test", names)
        mark = "WRONG" if "FAILED" in results.values() else "ok"
        for line in printed.splitlines():
            if " expected: " in line and " seen: " in line:
                self.tell(number, mark, line)

    def run(self, fast):
        def wanted(numbers):
            return [n for n in numbers if self.wants(n)]
        expected = {8, *ENDPOINTS, *REPLIES} if fast else KINDS
        if wanted(ENDPOINTS):
            self.script(wanted(ENDPOINTS), "endpoints.py", self.build)
        for number in wanted(REPLIES):
            self.replies(number, REPLIES[number])
        if self.wants(8):
            self.script([8], "boxes.py", self.build)
        if not fast and wanted(DATA):
            self.script(wanted(DATA), "data.py", self.build / "prepare")
        for number in [] if fast else wanted(TESTS):
            for program, names in TESTS[number]:
                self.tests(number, program, names)
        for number in wanted(expected):
            if not self.count[number]:
                self.tell(number, "WRONG", "expected: a line; seen: none")
        return self.summary()

    def summary(self):
        print("---")
        for number, title in KINDS.items():
            seen = ", ".join(f"{n} {mark}" for mark, n in self.count[number].items())
            if self.wants(number):
                print(f"{number:2} {title}: {seen or 'left out by --fast'}")
        wrong = sum(counts["WRONG"] for counts in self.count.values())
        print(f"{sum(counts.total() for counts in self.count.values())} lines, {wrong} wrong")
        return wrong == 0


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("build", nargs="?", default="build", type=Path)
    parser.add_argument("--fast", action="store_true", help="without corpora and other tests")
    parser.add_argument("--report", type=int, choices=KINDS, metavar="N", help="only lines of this kind")
    options = parser.parse_args()
    sys.exit(not Field(options.build.absolute(), options.report).run(options.fast))


if __name__ == "__main__":
    main()

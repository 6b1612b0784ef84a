#!/usr/bin/env python3
"""tests/field/run.py calls WRONG whatever does not run to its end: python3 tests/field/run_test.py"""
import contextlib
import io
import pathlib
import tempfile
import unittest

import run

PASSED = "[       OK ] Suite.Holds (0 ms)"
LINE = "a reply  expected: applied  seen: applied"


class FieldTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)
        (self.folder / "tests").mkdir()
        self.addCleanup(setattr, run, "HERE", run.HERE)
        run.HERE = self.folder
        self.field = run.Field(self.folder, None)

    def seen(self, method, *arguments):
        """The marks that a call gives to report 3."""
        with contextlib.redirect_stdout(io.StringIO()):
            method(*arguments)
        return dict(self.field.count.pop(3, {}))

    def marks_of(self, method, lines, end="exit 0", names="Suite.*"):
        program = self.folder / "tests" / "replies_test"
        program.write_text("#!/bin/sh\ncat <<'END'\n" + "\n".join(lines) + "\nEND\n" + end + "\n")
        program.chmod(0o755)
        words = (3, names) if method == self.field.replies else (3, program.name, names)
        return self.seen(method, *words)

    def test_a_program_of_tests(self):
        tests = self.field.tests
        self.assertEqual(self.seen(tests, 3, "absent_test", "*"), {"WRONG": 1})
        self.assertEqual(self.marks_of(tests, [PASSED]), {"ok": 1})
        self.assertEqual(self.marks_of(tests, ["[  SKIPPED ] Suite.Here (0 ms)"]), {"left": 1})
        failed = ["[  FAILED  ] Suite.It/0, where GetParam() = 1 (2 ms)", "[  FAILED  ] Suite.It/0, where ..."]
        self.assertEqual(self.marks_of(tests, [PASSED, *failed], "exit 1"), {"ok": 1, "WRONG": 1})
        self.assertEqual(self.marks_of(tests, [PASSED], "kill -SEGV $$"), {"ok": 1, "WRONG": 1})
        self.assertEqual(self.marks_of(tests, ["[  PASSED  ] 0 tests."]), {"WRONG": 1})
        self.assertEqual(self.marks_of(tests, [PASSED], names="*Holds*:*Renamed*"), {"ok": 1, "WRONG": 1})

    def test_replies(self):
        replies = self.field.replies
        self.assertEqual(self.marks_of(replies, [LINE, PASSED]), {"ok": 1})
        self.assertEqual(self.marks_of(replies, [LINE], "kill -SEGV $$"), {"ok": 1, "WRONG": 2})
        self.assertEqual(self.marks_of(replies, [LINE, "[  FAILED  ] Suite.It (0 ms)"], "exit 1"), {"WRONG": 1})
        self.assertEqual(self.marks_of(replies, []), {"WRONG": 1})

    def test_a_script(self):
        def script(text):
            (self.folder / "script.py").write_text(text)
            return self.seen(self.field.script, [3], "script.py")
        line = "print(' 3 ok    a case expected: x; seen: x')\n"
        self.assertEqual(script(line), {"ok": 1})
        self.assertEqual(script(line + "raise SystemExit(1)"), {"ok": 1, "WRONG": 1})
        self.assertEqual(script("print(' 3 WRONG a case')\nraise SystemExit(1)"), {"WRONG": 1})
        self.assertEqual(script("import nothing_of_this_name"), {"WRONG": 1})
        self.assertEqual(script("print('all is well')"), {"WRONG": 1})

    def test_a_kind_without_a_line(self):
        self.addCleanup(setattr, run, "REPLIES", run.REPLIES)
        run.REPLIES = {}
        (self.folder / "endpoints.py").write_text("print(' 3 ok    a case')")
        self.field.report = 5
        with contextlib.redirect_stdout(io.StringIO()) as told:
            self.assertFalse(self.field.run(fast=True))
        self.assertIn(" 5 WRONG expected: a line; seen: none", told.getvalue())


if __name__ == "__main__":
    unittest.main()

#!/usr/bin/env python3
"""Odd servers and assistants of the field against this agent, a line each: report, scenario, what
is expected, what was seen.

  tests/field/endpoints.py [BUILD_FOLDER] [--slow] [--only WORD]

Runs BUILD_FOLDER/bench/ask (default: build), which asks as the agent does, against
tests/field/mock_endpoint.py in this process and against tests/field/fake_assistant.sh. All traffic
stays on 127.0.0.1. --slow waits as long as the slowest machines do (half an hour in all); without
it their seconds are few. `ok*` marks a line whose behaviour differs from what the report of the
field asked for, with the reason behind it.
"""
import argparse
import json
import os
import re
import shutil
import ssl
import shlex
import subprocess
import sys
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import mock_endpoint

HERE = Path(__file__).absolute().parent
NOWHERE = "http://user:secret@127.0.0.1:9"  # a proxy on a port that is closed everywhere
KEY = "sk-0123456789abcdef0123456789abcdef"

# The kind of report (tests/field/run.py) that a line belongs to, by the beginning of its name.
REPORTS = {
    3: "harmony think- thought-tag seed-think headings",
    5: "null-string normal-end",
    6: "reasoning-",
    7: "proxy",
    10: "prompt-length tgi-length vllm-length object-error room",
    11: "surrogate bad-utf8 ping-data torn-line done-space data-null html-tail error-",
    12: "slow- comments",
    13: "command",
    17: "authority unknown",
    18: "system-role",
    20: "afford",
    22: "base-resp code-msg limit page",
    23: "bearer header",
    39: "status-201 bom-json ndjson two-choices redirect gzip whole",
}

EDIT = "an edit"  # expected: the scenario's own edit; any other text: a part of what is said
SAID = {  # scenarios of the mock that end in words instead
    "no-finish": "broke off in the middle",
    "torn-line": "damaged line",
    "base-resp": "the account's balance does not suffice",
    "code-msg": "this token has no right to the model",
    "object-error": "the prompt is too long for the context of 8192",
    "limit": "next in 1 h 00",
    "page": "Just a moment...",
    "header": "--header NAME=VARIABLE",
}
BECAUSE = {
    "limit": "it names 2 hours, but a night has few: it is asked again after one",
    "no-finish": "a stream that names no end may have been cut; it is asked for again",
    "torn-line": "without that piece the rest may be another edit; it is asked for again",
}


def report_of(name):
    """45: what was always taken well."""
    for number, names in REPORTS.items():
        if any(name.replace(" ", "@").startswith(word) for word in names.split()):
            return 29 if name == "command edits" else number
    return 45


class Trial:
    """A line each of what is to be asked."""

    def __init__(self, build, folder, only):
        self.build, self.folder, self.only, self.lines = build, folder, only, []
        self.base = self.serve()

    def serve(self, context=None):
        server = mock_endpoint.Server(("127.0.0.1", 0), mock_endpoint.Handler)
        if context:
            server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        host = "https://localhost" if context else "http://127.0.0.1"
        return f"{host}:{server.server_address[1]}/v1"

    def ask(self, name, expected, options, env=None, idea=None, because=""):
        if self.only in name:
            self.lines.append((name, expected, options, env, idea, because))

    def run(self):
        """Most of the time is waiting, so several are asked at once. True if all went well."""
        with ThreadPoolExecutor(4) as pool:
            goods = []
            for good, line in pool.map(lambda words: self.line(*words), self.lines):
                print(line, flush=True)
                goods.append(good)
        print(f"{sum(goods)} passed, {len(goods) - sum(goods)} failed")
        return all(goods)

    def line(self, name, expected, options, env, idea, because):
        clean = {k: v for k, v in os.environ.items()
                 if not re.search("proxy|_ca_bundle|ssl_cert|_api_key", k.lower())}
        command = [self.build / "bench" / "ask", "--max-output-tokens", "12000", *options]
        done = subprocess.run([str(word) for word in command], cwd=self.folder, text=True,
                              env={**clean, **(env or {})}, stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE)
        last = (done.stdout.splitlines() or ["{}"])[-1]
        result = json.loads(last)
        words = done.stderr + last
        good = result.get("idea") == idea if expected == EDIT else expected in words
        good = good and "secret" not in words and KEY not in words
        seen = result.get("idea") or result.get("problem", "")
        if seen.startswith("no model is ready"):  # what the introduction said of it
            seen = done.stderr.strip().splitlines()[-1].removeprefix("model").strip()
        if result.get("note"):
            seen += f" ({result['note']})"
        mark = "WRONG" if not good else "ok*" if because else "ok"
        return good, (f"{report_of(name):2} {mark:5} {name:28} expected: {expected}; seen: {seen[:160]}"
                      + (f"; because {because}" if because else ""))

    def endpoint(self, name, model, options=(), env=None, expected=None, base=None, because=""):
        scenario = model.partition("@")[0]
        expected = expected or SAID.get(scenario, EDIT)
        self.ask(name, expected, ["--model", model, "--base-url", base or self.base, *options], env,
                 scenario + " was understood", because or BECAUSE.get(name, ""))

    def command(self, how, expected, options=(), because=""):
        reply = self.folder / "reply.md"
        reply.write_text(mock_endpoint.edit(3, "the assistant's edit"))
        self.ask("command " + how, expected,
                 ["--command", shlex.join([f"{HERE}/fake_assistant.sh", how, str(reply)]), *options], None,
                 "the assistant's edit", because)


def endpoints(trial, slow):
    short = {"slow-first": "@2", "slow-total": "@2", "comments": "@2"}
    long = {"slow-first": "@200", "slow-total": "@950", "comments": "@200"}
    for name in mock_endpoint.SCENARIOS:
        model = name + (long if slow else short).get(name, "")
        trial.endpoint(name, model, env={"OPENAI_API_KEY": KEY})
    gateway = ["--header", "X-Gateway-Tenant=TENANT"]
    trial.endpoint("header given", "header", gateway, {"TENANT": "blue 1"}, EDIT)
    trial.endpoint("bearer without a key", "bearer", expected="export OPENAI_API_KEY=")
    trial.endpoint("bearer, anthropic", "bearer", ["--provider", "anthropic", "--api-key-env", "K"],
                   {"K": KEY})
    trial.endpoint("prompt-length, short window", "prompt-length@9000")
    trial.endpoint("whole answers", "plain", ["--no-stream"])


def proxies(trial):
    names = ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY")
    trial.endpoint("proxy, this machine", "plain", env={name: NOWHERE for name in names})
    trial.endpoint("proxy, elsewhere", "plain", env={"http_proxy": NOWHERE},
                   base="http://models.example.invalid/v1",
                   expected="through the proxy 127.0.0.1:9 of $http_proxy")


def certificates(trial):
    """An authority of a company's own, and a server that it vouches for."""
    if not shutil.which("openssl"):
        return print("17 left  certificates: there is no openssl")
    d = trial.folder

    def openssl(*words):
        subprocess.run(["openssl", *words], cwd=d, check=True, capture_output=True)
    openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj",
            "/CN=Test Authority", "-keyout", "ca.key", "-out", "ca.pem")
    openssl("req", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=localhost", "-keyout", "key.pem",
            "-out", "request.pem")
    (d / "names").write_text("subjectAltName=DNS:localhost,IP:127.0.0.1\n")
    openssl("x509", "-req", "-in", "request.pem", "-CA", "ca.pem", "-CAkey", "ca.key",
            "-CAcreateserial", "-days", "2", "-extfile", "names", "-out", "cert.pem")
    (d / "authorities").mkdir()
    shutil.copy(d / "ca.pem", d / "authorities")
    openssl("rehash", "authorities")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(d / "cert.pem", d / "key.pem")
    base = trial.serve(context)
    for name in ("SSL_CERT_FILE", "CURL_CA_BUNDLE", "REQUESTS_CA_BUNDLE"):
        trial.endpoint("authority in " + name, "plain", env={name: str(d / "ca.pem")}, base=base)
    trial.endpoint("authority in SSL_CERT_DIR", "plain",
                   env={"SSL_CERT_DIR": str(d / "authorities")}, base=base)
    trial.endpoint("unknown authority", "plain", base=base, expected="set SSL_CERT_FILE")
    trial.endpoint("authority's file missing", "plain", base=base,
                   env={"SSL_CERT_FILE": "/no/such.pem"},
                   expected="$SSL_CERT_FILE names /no/such.pem")


def commands(trial):
    for how in ("hang-child", "hang-stdout", "no-newline", "late-err", "flood", "stdin-closed"):
        trial.command(how, EDIT)
    trial.command("late-hang", EDIT, ["--patience", "2"])
    for how, said in (("limit", "You've hit your session limit"), ("limit-err", "try again in 2 h"),
                      ("api-error", "529 overloaded"), ("login", "Invalid API key"),
                      ("silent", "printed nothing")):
        trial.command(how, said)
    trial.command("login-url", "it printed: Open https://localhost/login", ["--patience", "2"])
    trial.command("edits", EDIT, because="it works in an empty folder and can edit nothing of ours")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("build", nargs="?", default="build", type=Path)
    parser.add_argument("--slow", action="store_true")
    parser.add_argument("--only", default="", help="only lines with this in their names")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        trial = Trial(options.build.absolute(), Path(folder), options.only)
        endpoints(trial, options.slow)
        proxies(trial)
        certificates(trial)
        commands(trial)
        source = Path(folder) / "train.cpp"
        source.write_text("// as it was\n")
        good = trial.run()
        if source.read_text() != "// as it was\n":
            sys.exit("WRONG: an assistant edited our file")
    sys.exit(not good)


if __name__ == "__main__":
    main()

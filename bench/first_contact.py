"""The sections of `first_contact.sh run`, which starts it: what was seen beside what was expected.

    first_contact.py FOLDER [--cpu] [SECTION...]      # FOLDER: what `pack` made
    first_contact.py --expected > docs/first_contact.md

Every section stands alone: one that fails is told and the next one goes on. What was expected is
arithmetic (bytes and operations against the rates of an H100 SXM), made before anything ran on one.
"""

import datetime
import importlib.util
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import time

LIMIT = 600  # seconds for all sections

# (what, expected of an H100 SXM, what to do if it is another) by section.
EXPECTED = {
    "look": [("driver", "580 or later", "CUDA 13 needs it; take the torch of CUDA 12.8"),
             ("libraries missing", "none", "pack them: copy_libraries in first_contact.sh")],
    "tests": [("gpu_test", "all passed", "its message names the operation")],
    "steps": [("start-up, s", "4 to 8", "NVRTC, the check of the kernels, the trace"),
              ("ms a step", "330 to 365", "above 400: read `profile` before anything else"),
              ("M tokens/s", "1.44 to 1.58", ""),
              ("peak memory, GB", "29 to 31", ""),
              ("forward, ms", "120 to 135", ""),
              ("backward, ms", "205 to 225", ""),
              ("optimizer, ms", "3 to 5", ""),
              ("loader_wait, ms", "less than 1", ""),
              ("first step, s", "0.4 to 0.6", "the warm-up should have loaded every kernel"),
              ("fused operations", "all", "its message names the first that failed"),
              ("loss after 40 steps", "5 to 6", "9.01 in step 0")],
    "profile": [("FlashAttention backward, ms", "75 to 82", "1.5 times as much: that kernel first"),
                ("matrix products, ms", "140 to 150", ""),
                ("FlashAttention forward, ms", "25 to 28", ""),
                ("softcap_cross_entropy, ms", "6 to 7", "10: it reads its logits more than once")],
    "parts": [("copy, TB/s", "3.0", ""),
              ("product 8192^3, TFLOP/s", "790", ""),
              ("all products of a micro-batch, ms", "70 to 76", "below 550 TFLOP/s: try cuBLASLt"),
              ("attention, FlashAttention-2, ms", "50 to 54", ""),
              ("attention, cuDNN, ms", "32 to 38", "below 40: worth building"),
              ("relu(x w^T)^2 in one, ms", "at most 1.1", "apart: 0.87 + 0.77"),
              ("rows permuted, others changed", "True, True", "the probe needs its tolerances")],
    "peer": [("compiled PyTorch, M tokens/s", "1.38 to 1.52", ""),
             ("ours is times as fast", "1.02 to 1.08", "the target of 1.2 needs cuDNN's attention"),
             ("its loss less ours", "within 0.02", "")],
    "score": [("val_bpb in one process", "a number", ""),
              ("scored alone, s", "4 to 6", ""),
              ("the same val_bpb", "yes", "the sealed model is another")],
    "memory": [("1024 rows at a time", "exit 0, 256 at last", "exit 1: it is not seen as such"),
               ("256 rows at a time, ms a step", "1 to 2 less", "more than 1 %: another preset"),
               ("its peak memory, GB", "57 to 59", "")],
    "sandbox": [("exit", "0", "999 from cuInit: /dev/nvidia-uvm is missing"),
                ("device", "the GPU", "")],
    "small": [("gpu_test, whole programs", "all passed", "")],
    "agent": [("experiments", "3", ""),
              ("candidates", "compiled here", "prebuilt: no compiler or headers"),
              ("exit", "0", "")],
}


class Failed(Exception):
    """A program that failed, with its last words."""


class Contact:
    def __init__(self, folder, cpu):
        self.folder, self.cpu = os.path.abspath(folder), cpu
        self.out = os.path.join(self.folder, "out")
        self.data = os.path.join(self.folder, "data")
        self.programs = os.path.join(self.folder, "programs")
        self.device = "cpu" if cpu else "cuda"
        self.begin = time.monotonic()
        self.speed = self.loss = None  # of the section `steps`, for the peer
        os.makedirs(self.out, exist_ok=True)
        spec = importlib.util.find_spec("torch")
        if not spec:
            sys.exit("first_contact: error: python3 has no torch; type: pip install torch==2.11.*")
        self.site = os.path.dirname(spec.submodule_search_locations[0])
        places = [os.path.join(self.folder, "lib"), os.path.join(self.site, "torch", "lib")]
        for top, folders, _ in os.walk(os.path.join(self.site, "nvidia")):
            places += [os.path.join(top, "lib")] if "lib" in folders else []
        lib = os.path.join(self.folder, "lib")
        path = os.pathsep.join([self.wheels(), os.environ.get("PYTHONPATH", "")]).strip(os.pathsep)
        self.env = {**os.environ, "AUTORESEARCH_DATA": self.data, "PYTHONUNBUFFERED": "1",
                    "AUTORESEARCH_PROGRAMS": self.programs, "PYTHONPATH": path,
                    "TORCHINDUCTOR_CACHE_DIR": os.path.join(self.out, "cache")}
        self.ours = {**self.env, "PATH": f"{os.environ['PATH']}:{lib}", "LD_LIBRARY_PATH": ":".join(
            places + [p for p in [os.environ.get("LD_LIBRARY_PATH")] if p])}
        self.quick_task()

    def wheels(self):
        """cuDNN's frontend, unpacked; a wheel is a zip."""
        place = os.path.join(self.folder, "site")
        for name in os.listdir(os.path.join(self.folder, "whl")):
            if not os.path.isdir(place):
                shutil.unpack_archive(os.path.join(self.folder, "whl", name), place, "zip")
        return place

    def quick_task(self):
        """big with another budget, for the loop."""
        big, quick = (os.path.join(self.data, name) for name in ("big", "quick"))
        if not os.path.isdir(quick):
            shutil.copytree(big, quick, copy_function=os.link)
            os.remove(os.path.join(quick, "task.json"))
        with open(os.path.join(big, "task.json")) as f:
            info = json.load(f)
        with open(os.path.join(quick, "task.json"), "w") as f:
            json.dump({**info, "name": "quick", "time_budget": 3 if self.cpu else 20}, f)

    def run(self, name, command, env=None, limit=200, cwd=None):
        """The output, which is kept in out/NAME.log; Failed unless it ends with 0."""
        limit = max(10, min(limit, LIMIT - (time.monotonic() - self.begin)))
        try:
            done = subprocess.run(command, env=env or self.ours, cwd=cwd, text=True, timeout=limit,
                                  stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
            text, code = done.stdout, done.returncode
        except subprocess.TimeoutExpired as error:
            text, code = error.stdout or "", f"after {limit:.0f} s"
            text = text.decode(errors="replace") if isinstance(text, bytes) else text
        with open(os.path.join(self.out, f"{name}.log"), "a") as log:
            log.write(f"$ {' '.join(command)}\n{text}\n[exit {code}]\n")
        if code != 0:
            words = [line for line in text.splitlines() if line.strip()] or ["it said nothing"]
            errors = [line for line in words if "rror" in line]
            raise Failed(f"exit {code}: {(errors or words)[-1][:300]}")
        return text

    def train(self, name, *arguments, program="train", task="big"):
        """The record of a run on the device, its model in out/sealed."""
        record = os.path.join(self.out, f"{name}.json")
        self.run(name, [os.path.join(self.programs, program), "--task", task, "--device",
                        self.device, "--json", record, *arguments])
        with open(record) as f:
            return json.load(f)

    def seal(self, name, steps, *arguments, program="train", task="big"):
        """The same, handed over unscored. On a CPU a few steps are enough to see that it works."""
        steps = str(min(steps, 12) if self.cpu else steps)
        return self.train(name, "--steps", steps, "--seal", os.path.join(self.out, "sealed"),
                          *arguments, program=program, task=task)


def after_start(record):
    """Tokens a second and seconds a step, the first steps left out."""
    curve, batch = record["loss_curve"], record["configuration"]["total_batch"]
    first = next(point for point in curve if point[0] >= min(9, curve[-1][0] - 1))
    seconds = (curve[-1][1] - first[1]) / (curve[-1][0] - first[0])
    return batch / seconds, seconds


# ------------------------------------------------------------------------------------------------
# Sections: each gives what it saw, in the order of EXPECTED.


def look(c):
    driver = "none"
    if not c.cpu:
        query = "name,driver_version,memory.total,clocks.max.sm,power.limit"
        driver = c.run("look", ["nvidia-smi", f"--query-gpu={query}", "--format=csv,noheader"])
    missing = set()
    for name in sorted(set(os.listdir(c.programs)) - {"candidate.json"}):
        listed = c.run("look", ["ldd", os.path.join(c.programs, name)])
        missing |= {line.split()[0] for line in listed.splitlines() if "not found" in line}
    return [driver.strip(), ", ".join(sorted(missing)) or "none"]


def gtest(c, name, wanted):
    text = c.run(name, [os.path.join(c.programs, "gpu_test"), f"--gtest_filter={wanted}"])
    count = {word: m[1] if (m := re.search(rf"\[  {word} *\] (\d+) test", text)) else "0"
             for word in ("PASSED", "SKIPPED")}
    if count["SKIPPED"] != "0" and not c.cpu:
        raise Failed(f"{count['SKIPPED']} were skipped: CUDA can't be used")
    return [f"{count['PASSED']} passed, {count['SKIPPED']} skipped"]


def tests(c):
    return gtest(c, "tests", "-*AModelTrains*:*ARunRecords*")


def small(c):
    return gtest(c, "small", "*AModelTrains*:*ARunRecords*")


def steps(c):
    record = c.seal("steps", 40)
    speed, seconds = after_start(record)
    c.speed, c.loss = speed, record["loss_curve"][-1][2]
    phases = [f"{sum(record['phases'].get('ms_' + name, 0) for name in names):.1f}"
              for names in (("forward", "loss"), ("backward",),
                            ("optimizer_matrices", "optimizer_tables"), ("loader_wait",))]
    return [f"{record['startup_seconds']:.1f}", f"{1000 * seconds:.1f}", f"{speed / 1e6:.3f}",
            f"{record['peak_memory_bytes'] / 1e9:.1f}", *phases,
            f"{record['loss_curve'][0][1]:.2f}", record["fused_operations"], f"{c.loss:.2f}"]


def profile(c):
    record = c.seal("profile", 20, "--profile")["profile"]
    rows = [(row["name"], row["ms"]) for row in record["operators"]]
    kinds = ["flash_bwd|flash.*backward", "gemm|nvjet|cutlass|mm$|addmm",
             "flash_fwd|flash.*forward", "softcap_cross_entropy|Softcap"]
    sums = [sum(ms for name, ms in rows if re.search(kind, name)) for kind in kinds]
    return [f"{ms:.1f}" if ms else "not among the rows" for ms in sums]


def parts(c):
    script = os.path.join(c.folder, "bench", "parts.py")
    text = c.run("parts", [sys.executable, "-W", "ignore", script], env={**c.env, "OUT": c.out})

    def found(name, pattern):
        match = re.search(f"^{name}.* {pattern}", text, re.MULTILINE)
        return match[1] if match else "-"

    equal = re.search(r"permuted: equal (\w+) \| other rows changed: equal (\w+)", text)
    return [found("copy of 2 GiB", r"([\d.]+) TB/s"), found(r"product 8192\^3", r"(\d+) TFLOP/s"),
            found("all products", r"([\d.]+) ms"),
            found("attention of a micro-batch, FlashAttention-2", r"([\d.]+) ms"),
            found("attention of a micro-batch, cuDNN", r"([\d.]+) ms"),
            found(r"cuDNN relu\(x w\^T\)\^2 in one", r"([\d.]+) ms"),
            f"{equal[1]}, {equal[2]}" if equal else "-"]


def peer(c):
    if not c.speed:
        raise Failed("the section `steps` must run before it")
    with open(os.path.join(c.out, "steps.json")) as f:
        shape = json.load(f)["configuration"]
    sizes = {"depth": shape["depth"], "width": shape["width"], "head-dim": shape["head_dim"],
             "batch": shape["total_batch"], "micro-rows": shape["micro_batch"], "seed": 42,
             "steps": 12 if c.cpu else 40, "skip": 4 if c.cpu else 10}
    command = [sys.executable, "-W", "ignore", os.path.join(c.folder, "bench", "reference.py"),
               "--task", os.path.join(c.data, "big"), "--device", c.device]
    command += [] if c.cpu else ["--compile"]
    command += [word for name, size in sizes.items() for word in (f"--{name}", str(size))]
    result = json.loads(c.run("peer", command, env=c.env, limit=240).splitlines()[-1])
    speed = result["tokens_per_second"]
    return [f"{speed / 1e6:.3f}", f"{c.speed / speed:.2f}",
            f"{result['losses'][-1] - c.loss:+.3f}"]


def score(c):
    steps = "5" if c.cpu else "30"
    record = c.train("score", "--steps", steps)
    c.train("score", "--steps", steps, "--seal", os.path.join(c.out, "sealed"))
    begin = time.monotonic()
    text = c.run("score", [os.path.join(c.programs, "score"),
                           os.path.join(c.out, "sealed"), "--task", "big", "--device", c.device])
    seconds, alone = time.monotonic() - begin, float(re.search(r"val_bpb: *([\d.]+)", text)[1])
    # Two trainings of one seed differ on a GPU: FlashAttention-2 adds up in any order.
    same = abs(alone - record["val_bpb"]) <= (1e-6 if c.cpu else 0.02)
    return [f"{record['val_bpb']:.4f}", f"{seconds:.1f}", "yes" if same else f"no, {alone:.4f}"]


def memory(c):
    rows = []
    for program, steps in (("train_oom", 2), ("train_one_micro_batch", 25)):
        record = c.seal("memory", steps, program=program)
        rows.append((record["configuration"]["micro_batch"], after_start(record)[1],
                     record["peak_memory_bytes"] / 1e9))
    return [f"exit 0, {rows[0][0]} at last", f"{1000 * rows[1][1]:.1f}", f"{rows[1][2]:.1f}"]


def kit(c):
    """candidate.json beside the agent, for this machine; whether candidates are compiled here."""
    with open(os.path.join(c.folder, "checkout", "candidate.json")) as f:
        text = f.read()
    there = os.path.dirname(next(p for p in json.loads(text)["system"] if p.endswith("/torch")))
    recipe = json.loads(text.replace(there, c.site))
    recipe["system"] = [p for p in [os.path.join(c.site, "torch"), os.path.join(c.site, "nvidia"),
                                    os.path.join(c.folder, "lib")] if os.path.isdir(p)]
    kit = os.path.join(c.folder, "kit")
    names = ("harness/candidate.h", "harness/harness.h", "kernels/kernels.h", "harness.o")
    recipe["files"] = [{"from": os.path.join(kit, name), "to": name} for name in names]
    recipe["files"].append({"from": os.path.join(c.programs, "score"), "to": "score"})
    recipe["build"][-1] += ["-L" + os.path.join(c.folder, "lib")]
    compiler = shutil.which(recipe["build"][0][0]) and os.path.isdir(
        os.path.join(c.site, "torch", "include", "ATen"))
    if not compiler:  # every candidate is the baseline
        recipe["files"].append({"from": os.path.join(c.programs, "train"), "to": "train"})
        recipe["build"] = [["/bin/cp", "{kit}/train", "{program}"]]
    with open(os.path.join(c.programs, "candidate.json"), "w") as f:
        json.dump(recipe, f)
    return bool(compiler)


def loop(c, name, *arguments):
    """A run of the agent; what it printed."""
    shutil.rmtree(os.path.join(c.data, "runs", name), ignore_errors=True)
    command = [os.path.join(c.programs, "agent"), "run", "--tag", name, "--provider", "builtin",
               "--device", c.device, *arguments]
    return c.run(name, command, cwd=os.path.join(c.folder, "checkout"), limit=300)


def sandbox(c):
    """The baseline and one experiment, by the product's own sandbox."""
    kit(c)
    loop(c, "sandbox", "--task", "tiny", "--max-experiments", "1")
    with open(os.path.join(c.data, "runs", "sandbox", "experiments", "0000", "train.json")) as f:
        return ["0", json.load(f)["device"]]


def agent(c):
    compiled = kit(c)
    text = loop(c, "agent", "--task", "quick", "--max-experiments", "3")
    made = re.search(r"after (\d+) experiments", text)
    return [made[1] if made else "none", "compiled here" if compiled else "prebuilt", "0"]


# ------------------------------------------------------------------------------------------------
# The report

HEAD = """# First contact with a GPU

On the machine with the build, `bench/first_contact.sh pack` makes a folder of less than 55 MB. Copy it to
a machine with a GPU and a python3 that has torch 2.11. There, `./first_contact.sh run` takes at most
ten minutes, needs no network and no compiler, and writes this page to `out`, with logs.
"""


def gpu(c):
    """The device and its driver, in words."""
    if c.cpu:
        return f"on the CPU ({platform.machine()})"
    try:
        query = ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"]
        name, driver = c.run("look", query).splitlines()[0].split(", ")
        return f"{name}, driver {driver}"
    except (OSError, Failed) as error:
        return f"a GPU that nvidia-smi can't name ({error})"


def table(section, seen):
    lines = [f"\n## {section}\n", "| what | expected on an H100 | seen | if it is another |",
             "|---|---|---|---|"]
    for i, (what, expected, otherwise) in enumerate(EXPECTED[section]):
        value = seen[i].replace("|", "/") if i < len(seen) else ""
        lines.append(f"| {what} | {expected} | {value} | {otherwise} |")
    return "\n".join(lines) + "\n"


def print_expected():
    print(HEAD + """
**Nothing of this project ever ran on a GPU.** What follows is expected, from the bytes and
operations of a step and published rates of an H100 SXM, and was not measured. Written by
`python3 bench/first_contact.py --expected`.""")
    for section in EXPECTED:
        print(table(section, ["not run"] * len(EXPECTED[section])), end="")


def main():
    if sys.argv[1:] == ["--expected"]:
        return print_expected()
    cpu = "--cpu" in sys.argv
    wanted = [word for word in sys.argv[2:] if word != "--cpu"] or list(EXPECTED)
    for section in wanted:
        if section not in EXPECTED:
            sys.exit(f"first_contact: error: no section {section}; there are: {' '.join(EXPECTED)}")
    c = Contact(sys.argv[1], cpu)
    command = " ".join(["./first_contact.sh run", *sys.argv[2:]])
    page = f"{HEAD}\n`{command}`, {datetime.date.today()}, {gpu(c)}.\n"
    failed = []
    for section in wanted:
        begin = time.monotonic()
        print(f"=== {section}", flush=True)
        try:
            if begin - c.begin > LIMIT - 10:
                raise Failed("not run: no time was left")
            seen = globals()[section](c)
        except Exception as error:  # another section may still show something
            seen = [f"{type(error).__name__}: {error}"]
            failed.append(section)
        page += table(section, seen) + f"\n{time.monotonic() - begin:.0f} s\n"
        for (what, expected, _), value in zip(EXPECTED[section], seen):
            print(f"{what:34} expected {expected:22} seen {value}", flush=True)
        with open(os.path.join(c.out, "first_contact.md"), "w") as f:
            f.write(page)
    print(f"{os.path.join(c.out, 'first_contact.md')}: {len(wanted) - len(failed)} sections, "
          f"failed: {' '.join(failed) or 'none'}")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()

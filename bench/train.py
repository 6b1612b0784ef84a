"""train beside the same training in PyTorch, eager and compiled: same rows, same machine, one run.

    cmake --workflow --preset test          # builds build/train, build/prepare and build/score
    python3 bench/train.py [--device cpu|cuda] [--task FOLDER] [--python PYTHON]
                           [--quick [--budget SECONDS]] [--programs FOLDER]

The peer is bench/reference.py. Two sizes: the preset of this device, and one twice as wide, built
from train.cpp with one constant changed. Ours, eager and compiled take turns, once a seed; speed is
that after the first steps, in which the peer compiles. Then one run each of the task's whole time
budget, of which compilation takes nothing, with its val_bpb; on CUDA also where the time of ours
goes, operator by operator. Exit code 0 where both sizes show equal losses and meet the targets of
speed. Without --task the demo is prepared in a temporary folder. torch comes from --python, from
this python, or from PyPI into a throw-away environment. --quick only shows that all of it works, in
one size and with one seed: its figures say nothing and are not judged. With --budget 20 it takes
less than ten minutes on a GPU. --programs: the folder of programs that bench/first_contact.sh has
packed, for a machine that has no build folder and no compiler.

Peers compute in the precision of ours, and losses are compared with theirs. On a CPU where that is
bfloat16, eager in float32 takes part too, since the target of eager is set in float32.

--attention is the peers'. By itself it is sdpa on a CPU, PyTorch's own flash2 on CUDA. flash3 is
what upstream uses, and needs the PyPI package `kernels`, the network, and a Hopper GPU; there
it is the stricter peer, made for that GPU: judge a Hopper with --attention flash3.
"""

import argparse
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import time

import variants

HERE = os.path.dirname(os.path.abspath(__file__))
BUILD = os.path.join(HERE, "..", "build")
REFERENCE = os.path.join(HERE, "reference.py")
SKIP = 10  # first steps that do not count
PRECISIONS = {"Float": "float32", "BFloat16": "bfloat16"}  # of records and of bench/reference.py
ROUNDS = {"cpu": 10, "cuda": 3}

# Share of the final loss that ours may always differ by, on average over the seeds, and the standard
# errors of that average that it may as well: 95 % of honest differences at ten seeds. Pairs of a
# seed start from the same weights and see the same rows, but after one step they are apart: the
# first gradients of resid_scale and x0_scale are zero but for rounding, of which AdamW makes whole
# steps. So single pairs of the CPU preset differ by 0.3 % (standard deviation), the mean of ten by
# 0.1 %, while a learning rate of the head, or all of them, off by 10 % shifts the mean by 0.3 % or
# more. The rates of matrices and of embeddings alone leave the loss as it is; those are for
# bench/reference_check.py to check.
MARGIN = 0.002
ERRORS = 2.3


def run(command, **options):
    """The finished command; its last words instead where it fails."""
    done = subprocess.run(command, capture_output=True, text=True, **options)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)} failed:\n{(done.stdout + done.stderr)[-2000:]}")
    return done


def has_torch(python):
    return subprocess.run([python, "-c", "import torch"], capture_output=True).returncode == 0


def python_with_torch(python, folder):
    if python or has_torch(sys.executable):
        return python or sys.executable
    run([sys.executable, "-m", "venv", os.path.join(folder, "venv")])
    python = os.path.join(folder, "venv", "bin", "python")
    run([python, "-m", "pip", "install", "--quiet", "torch==2.11.*"])
    return python


def tell(line):
    """What goes on meanwhile, apart from the results."""
    print(line, file=sys.stderr, flush=True)


def machine():
    if os.path.exists("/proc/cpuinfo"):
        with open("/proc/cpuinfo") as f:
            if match := re.search(r"model name\s*: (.*)", f.read()):
                return match[1]
    return platform.processor()


# ------------------------------------------------------------------------------------------------
# Ours


def program_of(options, name):
    return os.path.join(options.programs or BUILD, name)


def wide_program(options, folder):
    """The preset twice as wide, and the seconds in which it was built; packed ones are there."""
    if options.programs:
        return program_of(options, "train_wide"), 0
    program, begin = os.path.join(folder, "train_wide"), time.perf_counter()
    variants.build(program, {"kGpuAspect" if options.device == "cuda" else "kCpuAspect": "x2"})
    return program, time.perf_counter() - begin


def with_budget(task, seconds, folder):
    """The same task with another time budget."""
    copy = os.path.join(folder, "short")
    os.mkdir(copy)
    for name in os.listdir(task):
        os.symlink(os.path.join(task, name), os.path.join(copy, name))
    with open(os.path.join(task, "task.json")) as f:
        info = json.load(f)
    os.remove(os.path.join(copy, "task.json"))
    with open(os.path.join(copy, "task.json"), "w") as f:
        json.dump({**info, "time_budget": seconds}, f)
    return copy


class Ours:
    warnings = set()  # told so far

    def __init__(self, program, task, device, folder):
        self.command = [program, "--task", task, "--device", device]
        self.record, self.sealed = (os.path.join(folder, name) for name in ("json", "sealed"))

    def train(self, *arguments):
        done = run([*self.command, "--json", self.record, *arguments])
        for line in done.stderr.splitlines():
            if "warning" in line and line not in self.warnings:
                self.warnings.add(line)
                tell(line)
        with open(self.record) as f:
            return json.load(f)

    def measure(self, steps, seed):
        """Without a score: the model is handed over."""
        record = self.train("--steps", str(steps), "--seed", str(seed), "--seal", self.sealed)
        curve = record["loss_curve"]
        before = next(point for point in curve if point[0] >= SKIP - 1)
        tokens = (curve[-1][0] - before[0]) * record["configuration"]["total_batch"]
        speed = tokens / (curve[-1][1] - before[1])
        return {**record, "losses": [loss for _, _, loss in curve],
                "tokens_per_second": speed, "mfu_percent": mfu(record, speed)}

    def precision(self):
        """As bench/reference.py calls it."""
        record = self.train("--steps", "1", "--seal", self.sealed)
        return PRECISIONS[record["configuration"]["precision"]]


# ------------------------------------------------------------------------------------------------
# The peer


class Peer:
    def __init__(self, python, task, options, folder, precision, compiled=False):
        self.precision = precision
        self.command = [python, "-W", "ignore", REFERENCE, "--task", task, "--device",
                        options.device, "--dtype", precision, "--skip", str(SKIP)]
        self.command += ["--compile"] if compiled else []
        self.command += ["--attention", options.attention] if options.attention else []
        self.environment = {**os.environ, "TORCHINDUCTOR_CACHE_DIR": os.path.join(folder, "cache")}
        self.rows = None

    def train(self, shape, *arguments):
        """Of the shape that our record gives, in smaller micro-batches where memory runs out."""
        self.rows = self.rows or shape["micro_batch"]
        while True:
            sizes = {"depth": shape["depth"], "width": shape["width"],
                     "head-dim": shape["head_dim"], "batch": shape["total_batch"],
                     "micro-rows": self.rows}
            options = [word for name, size in sizes.items() for word in (f"--{name}", str(size))]
            try:
                done = run(self.command + options + list(arguments), env=self.environment)
                return json.loads(done.stdout.splitlines()[-1])
            except RuntimeError as error:
                if "out of memory" not in str(error) or self.rows == 1:
                    raise
            self.rows //= 2

    def measure(self, shape, steps, seed):
        return self.train(shape, "--steps", str(steps), "--seed", str(seed))


def peers_beside(precision, python, task, options, folder):
    """Those to run beside ours, which computes in `precision`."""
    peers = {f"eager {precision}": Peer(python, task, options, folder, precision),
             f"compiled {precision}": Peer(python, task, options, folder, precision, compiled=True)}
    if options.device == "cpu":
        peers.setdefault("eager float32", Peer(python, task, options, folder, "float32"))
    return peers


def targets(device, precision):
    """How many times as fast as these ours ought to be."""
    if device == "cuda":
        return {f"compiled {precision}": 1.2}
    return {"eager float32": 1.5, f"compiled {precision}": 1.0}


# ------------------------------------------------------------------------------------------------
# The comparison


def final_loss(result):
    """The mean over the last tenth of the steps."""
    losses = result["losses"]
    return statistics.mean(losses[-max(1, len(losses) // 10):])


def median_speed(results):
    return statistics.median(r["tokens_per_second"] for r in results)


def mfu(record, speed):
    """In percent, at another speed than the record's own; 0 where the device's peak is unknown."""
    return record["mfu_percent"] * speed / record["tokens_per_second"]


def print_line(name, results, ours):
    """Speed, ours in terms of it, MFU, final loss over the seeds, compilation, memory."""
    best, our_best = (max(r["tokens_per_second"] for r in rs) for rs in (results, ours))
    median = median_speed(results)
    ratios = "" if results is ours else (
        f"{our_best / best:6.2f} {median_speed(ours) / median:6.2f}")
    used = f"{mfu(ours[0], median):.1f}" if ours[0]["mfu_percent"] else "-"
    loss = statistics.mean(final_loss(r) for r in results)
    compiling = "-"
    if name.startswith("compiled"):
        compiling = f"{max(r['compile_seconds'] for r in results):.1f}"
    memory = max(r["peak_memory_bytes"] for r in results) / 2**20
    print(f"  {name:17}{best:12,.0f} {median:10,.0f}  {ratios:14}{used:>7} {loss:10.4f} "
          f"{compiling:>8} {memory:9.0f}")


def measure(size, ours, peers, rounds, steps):
    """Prints one size's table; the records of all, a list each."""
    results = {name: [] for name in ["ours", *peers]}
    for seed in range(1, rounds + 1):
        for name in results:
            if name == "ours":
                done = ours.measure(steps, seed)
                shape = done["configuration"]
            else:
                done = peers[name].measure(shape, steps, seed)
            results[name].append(done)
            tell(f"{size}, {name}, seed {seed}: {done['tokens_per_second']:,.0f} tokens/s")
    print(f"\n{size}: depth {shape['depth']}, width {shape['width']}, "
          f"{shape['parameters'] / 1e6:.2f} M parameters, {shape['total_batch']} tokens a step; "
          f"{steps} steps, {rounds} seed(s)\n"
          "                        tokens/s              ours is        MFU      final  compile"
          "      peak\n"
          "                       best     median  times as fast          %       loss        s"
          "        MB")
    for name in results:
        print_line(name, results[name], results["ours"])
    start = statistics.median(r["startup_seconds"] for r in results["ours"])
    print(f"  ours takes its first batch {start:.1f} s after its start")
    for fused in {r["fused_operations"] for r in results["ours"]} - {"all"}:
        print(f"  of the fused operations of ours: {fused}")
    return results


def losses_equal(results, name):
    """Whether ours and the peer's end alike, by the differences between pairs of one seed."""
    pairs = list(zip(results["ours"], results[name]))
    start = max(abs(a["losses"][0] - b["losses"][0]) for a, b in pairs)
    differences = [final_loss(a) - final_loss(b) for a, b in pairs]
    mean, error = statistics.mean(differences), statistics.stdev(differences) / len(pairs)**0.5
    margin = MARGIN * statistics.mean(final_loss(b) for _, b in pairs)
    allowed = max(margin, ERRORS * error)
    verdict = ("UNDECIDED, try more --rounds" if error > margin else
               "equal" if abs(mean) <= allowed else "NOT EQUAL")
    print(f"  final loss of ours less that of {name}, pairs of one seed: {mean:+.4f} on average, "
          f"standard\n    error {error:.4f}; up to {allowed:.4f} allowed: {verdict} "
          f"(first losses differ by at most {start:.1e})")
    return verdict == "equal"


def judge(results, peers, device, precision):
    """Whether losses are equal and ours is as fast as asked; a line each."""
    asked = targets(device, precision)
    verdicts = [losses_equal(results, name) for name in peers if peers[name].precision == precision]
    for name in peers:
        ratio = median_speed(results["ours"]) / median_speed(results[name])
        met = ratio >= asked.get(name, 0)
        verdicts.append(met)
        verdict = "not judged" if name not in asked else "target met" if met else "TARGET MISSED"
        print(f"  {verdict}: {ratio:.2f} times as fast as {name} (medians)"
              + (f", {asked[name]} asked" if name in asked else ""))
    return all(verdicts)


def full_runs(ours, peers):
    """One run of the whole budget each, with MFU where the device's peak is known."""
    seed = ("--seed", "1")
    mine = ours.train(*seed)
    with_mfu = mine["mfu_percent"] > 0
    print(f"\nthe whole budget, {mine['training_seconds']:.0f} s\n"
          "                      steps   tokens/s   val_bpb" + ("   MFU %" if with_mfu else ""))
    budget = str(round(mine["training_seconds"]))
    results = {"ours": mine}
    for name, peer in peers.items():
        results[name] = peer.train(mine["configuration"], "--time-budget", budget, *seed)
        tell(f"whole budget, {name}, seed 1: {results[name]['tokens_per_second']:,.0f} tokens/s")
    for name, result in results.items():
        speed = result["tokens_per_second"]
        print(f"  {name:17}{result['steps']:8} {speed:10,.0f} {result['val_bpb']:9.4f}"
              + (f" {mfu(mine, speed):7.1f}" if with_mfu else ""))


def print_profile(ours):
    """Where the time of ours goes: the table of operators that train --profile ends with."""
    done = run([*ours.command, "--steps", "30", "--profile", "--seal", ours.sealed])
    if table := re.search(r"^profile.*", done.stdout, re.MULTILINE | re.DOTALL):
        print(f"\n{table[0].rstrip()}")


def parse_options():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--task", help="folder of a prepared task, instead of the demo")
    parser.add_argument("--python", help="a python that has torch")
    parser.add_argument("--attention", choices=["sdpa", "flash2", "flash3"], help="of the peers")
    parser.add_argument("--rounds", type=int, help="seeds; by itself 10 on a CPU, 3 on CUDA")
    parser.add_argument("--steps", type=int, default=150, help="of each run, at most 200")
    parser.add_argument("--quick", action="store_true", help="one seed, few steps, one size")
    parser.add_argument("--budget", type=float, help="seconds of the whole runs, with --quick")
    parser.add_argument("--programs", help="folder of packed programs, instead of build/")
    options = parser.parse_args()
    if options.budget and not options.quick:
        parser.error("--budget goes with --quick: a shorter budget is another task")
    if options.quick:
        options.rounds, options.steps = 1, 30
    elif options.rounds is None:
        options.rounds = ROUNDS[options.device]
    elif options.rounds < 2:
        parser.error("--rounds must be 2 or more: of one pair of runs nobody knows the noise")
    if not 2 * SKIP <= options.steps <= 200:  # of more our record keeps every second loss
        parser.error(f"--steps must be {2 * SKIP} to 200")
    return options


def compare(options, task, folder, python):
    """All measurements; whether what they show is good."""
    preset = Ours(program_of(options, "train"), task, options.device, folder)
    precision = preset.precision()
    peers = peers_beside(precision, python, task, options, folder)
    results = measure("preset", preset, peers, options.rounds, options.steps)
    if options.quick:
        if options.budget:
            short = with_budget(task, options.budget, folder)
            preset = Ours(program_of(options, "train"), short, options.device, folder)
            peers = peers_beside(precision, python, short, options, folder)
        full_runs(preset, peers)
        print("\nnothing is judged: the figures of --quick say nothing")
        return True
    good = judge(results, peers, options.device, precision)
    program, seconds = wide_program(options, folder)
    wide = Ours(program, task, options.device, folder)
    results = measure("twice as wide", wide, peers, options.rounds, options.steps)
    print(f"  ours was built in {seconds:.1f} s")
    good &= judge(results, peers, options.device, precision)
    full_runs(preset, peers)
    if options.device == "cuda":
        print_profile(preset)
    return good


def main():
    options = parse_options()
    sys.stdout.reconfigure(line_buffering=True)  # in order with what `tell` prints
    for program in ("train", "prepare", "score"):
        if not os.path.exists(program_of(options, program)):
            sys.exit(f"no {program_of(options, program)}; run: cmake --workflow --preset test")
    with tempfile.TemporaryDirectory() as folder:
        python = python_with_torch(options.python, folder)
        task = os.path.abspath(options.task or os.path.join(folder, "demo"))
        if not options.task:
            run([program_of(options, "prepare"), "--source", "demo", "--data", folder])
        version = run([python, "-c", "import torch; print(torch.__version__)"]).stdout.strip()
        print(f"{machine()}, {os.cpu_count()} cores, device {options.device}; PyTorch {version}")
        good = compare(options, task, folder, python)
        sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()

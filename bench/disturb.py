#!/usr/bin/env python3
"""What a machine that is not itself does to verdicts: the real loop on the real task, disturbed on purpose.

  python3 bench/disturb.py [--task demo] [--only CASE,...] [--build build]

Each case is a run of its own: the baseline, and replies that change nothing (a static_assert each), so that every
measurement should make the same steps per second. A measurement must be within 10 % of the baseline, or the loop must
have said why the machine was not itself. No experiment may count as crashed. Prints a line per measurement, and exits 1
if one slipped through. A quota and a cold page cache need root; elsewhere these cases say so and are left out. Takes
about a minute per case and ten seconds of the task's budget, and six minutes for `library`, which moves a library of
libtorch away for four minutes. That one runs only if --only names it: nothing else should use that libtorch meanwhile,
and if this program is killed, the library must be moved back by hand.
"""
import argparse
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time

HERE = pathlib.Path(__file__).resolve().parent.parent
GROUPS = pathlib.Path("/sys/fs/cgroup/cpu" if os.path.isdir("/sys/fs/cgroup/cpu") else "/sys/fs/cgroup")
TOLERANCE = 0.10
BUSY = [sys.executable, "-c", "while True: pass"]


def replies(folder, count):
    """A recorded night of so many edits that change nothing."""
    constants = [line for line in (HERE / "train.cpp").read_text().splitlines()
                 if line.startswith("constexpr ") and ";" in line]
    for n in range(1, count + 1):
        reply = folder / "experiments" / f"{n:04}" / "reply.md"
        reply.parent.mkdir(parents=True, exist_ok=True)
        old = constants[n - 1]
        reply.write_text(f"IDEA: nothing, number {n}\nWHY: The program stays what it is.\n<<<<<<< SEARCH\n{old}\n"
                         f"=======\n{old}\nstatic_assert({n});\n>>>>>>> REPLACE\n")


class Run:
    """A run of the agent, and its journal as it grows."""

    def __init__(self, options, case, recorded, count):
        data = os.environ.get("AUTORESEARCH_DATA", pathlib.Path.home() / ".cache" / "autoresearch")
        self.tag = f"disturb-{case}-{int(time.time())}"
        self.folder = pathlib.Path(data) / "runs" / self.tag
        self.build = options.build
        self.undetected = False
        self.agent = options.build / "agent"
        command = [self.agent, "run", "--tag", self.tag, "--task", options.task, "--replay", f"{recorded}/", "--keep",
                   "greedy", "--verify", "off", "--max-experiments", str(count)]
        self.process = subprocess.Popen(command, cwd=HERE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)

    def events(self, name):
        try:
            lines = (self.folder / "journal.jsonl").read_text().splitlines()
        except FileNotFoundError:
            return []
        found = []
        for line in lines:
            try:
                event = json.loads(line)
            except ValueError:  # it is being written
                continue
            if event.get("event") == name:
                found.append(event)
        return found

    def wait_for_training(self, count):
        """The event of the training with this number, counted from 0; none if the run ends before."""
        while self.process.poll() is None:
            started = self.events("run")
            if len(started) > count:
                return started[count]
            time.sleep(0.05)
        return None


def tree_of(pid):
    found = [pid]
    for thread in pathlib.Path(f"/proc/{pid}/task").glob("*"):
        for child in (thread / "children").read_text().split():
            found += tree_of(int(child))
    return found


# What is done to the machine: a function of the run, called on a thread of its own.

def nothing(run):
    run.process.wait()


def busy_core(run):
    with subprocess.Popen(BUSY) as other:
        run.process.wait()
        other.kill()


def burst(run):
    """All cores are taken for 20 seconds, from the middle of the second training on."""
    if run.wait_for_training(1):
        time.sleep(5)
        others = [subprocess.Popen(BUSY) for _ in range(os.cpu_count())]
        time.sleep(20)
        for other in others:
            other.kill()
            other.wait()


def stop_trainer(share):
    """Stops the second training's processes for five seconds, at this share of its start-up, training or sealing."""
    def stop(run):
        if not run.wait_for_training(1):
            return
        phases = run.events("measured")[0]["phases"]
        starts = {"startup": 0, "training": phases["startup"], "sealing": phases["startup"] + phases["training"]}
        time.sleep(starts[share] + phases[share] / 2)
        processes = tree_of(run.events("run")[1]["pid"])
        for sent in (signal.SIGSTOP, signal.SIGCONT):
            for process in processes:
                try:
                    os.kill(process, sent)
                except ProcessLookupError:  # it ended meanwhile
                    pass
            time.sleep(5 if sent == signal.SIGSTOP else 0)
    return stop


def cold_cache(run):
    """All that was read from disk is thrown out of memory at the start of every training but the first."""
    for count in (1, 2, 3):
        if run.wait_for_training(count):
            os.sync()
            pathlib.Path("/proc/sys/vm/drop_caches").write_text("3")


def quota(run):
    """Half a core for all that the agent starts, from the second training on."""
    group = GROUPS / run.tag
    group.mkdir()
    (group / "cgroup.procs").write_text(str(run.process.pid))
    if run.wait_for_training(1):
        first = (group / "cpu.cfs_quota_us").exists()  # control groups of version 1
        limit = group / ("cpu.cfs_quota_us" if first else "cpu.max")
        limit.write_text("50000" if first else "50000 100000")
    run.process.wait()
    group.rmdir()


def crowd(run):
    others = [subprocess.Popen(["sleep", "3600"]) for _ in range(5000)]
    run.process.wait()
    for other in others:
        other.kill()
        other.wait()


def library(run):
    """A library that the trainer needs is moved away after experiment 2, and comes back after four minutes."""
    run.undetected = True  # until the end of this function
    cache = (run.build / "CMakeCache.txt").read_text()
    root = re.search(r"^LIBTORCH_ROOT:PATH=(.*)", cache, re.MULTILINE)[1]
    needed = pathlib.Path(root) / "lib" / "libc10.so"
    away = needed.with_suffix(".so.away")
    while run.process.poll() is None and not any(e["n"] == 2 for e in run.events("verdict")):
        time.sleep(0.05)
    if run.process.poll() is not None:
        return
    needed.rename(away)
    try:
        time.sleep(240)
    finally:
        away.rename(needed)
    run.process.wait()
    said = [e["problem"] for e in run.events("canary")]
    print(f"{'library':14} the loop looked {len(said)} times; it said: {next(filter(None, said), 'nothing')}")
    run.undetected = not (any(said) and said[-1] == "" and run.events("paused") and run.events("resumed"))


CASES = {"quiet": nothing, "busy-core": busy_core, "burst": burst, "stop-startup": stop_trainer("startup"),
         "stop-training": stop_trainer("training"), "stop-sealing": stop_trainer("sealing"), "cold-cache": cold_cache,
         "quota": quota, "crowd": crowd, "library": library}
NEEDS = {"cold-cache": "/proc/sys/vm/drop_caches", "quota": GROUPS / "cgroup.procs"}


def play(options, case, recorded):
    """True if nothing slipped through."""
    if case in NEEDS and not os.access(NEEDS[case], os.W_OK):
        print(f"{case}: left out, because {NEEDS[case]} can't be written here")
        return True
    count = 5 if case == "library" else 3
    replies(recorded, count)
    run = Run(options, case, recorded, count)
    disturber = threading.Thread(target=CASES[case], args=(run,))
    disturber.start()
    words = run.process.communicate()[1]
    disturber.join()
    measured = run.events("measured")
    if run.process.returncode != 0 or not measured:
        print(f"{case}: the run failed: {words.strip()}")
        return False
    speed = lambda event: event.get("steps", 0) / event["phases"]["training"] if event.get("phases") else 0
    # Of the baseline, whose program the others are.
    usual = speed(next((e for e in measured if not e.get("disturbed")), measured[0]))
    good = not run.undetected
    for verdict in run.events("verdict"):
        if verdict["status"] == "crash":
            good = False
            print(f"{case:14} #{verdict['n']} counts as crashed: {verdict['reason']}")
    for event in measured:
        change = speed(event) / usual - 1
        said = event.get("disturbed") or event.get("broken") or (event.get("busy") and "counts as it is: " + event["busy"]) or ""
        slipped = abs(change) > TOLERANCE and not said
        good = good and not slipped
        print(f"{case:14} #{event['n']} attempt {event['attempt']}  {speed(event):7.2f} steps/s  {100 * change:+6.1f} %  "
              f"{'SLIPPED THROUGH' if slipped else said or 'counts'}")
    sys.stdout.flush()
    subprocess.run([run.agent, "delete", "--tag", run.tag, "--yes"], cwd=HERE, stdout=subprocess.DEVNULL, check=False)
    return good


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--task", default="demo")
    parser.add_argument("--build", type=pathlib.Path, default=HERE / "build")
    parser.add_argument("--only", default=",".join(case for case in CASES if case != "library"))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        recorded = pathlib.Path(folder) / "nothing"
        results = [play(options, case, recorded) for case in options.only.split(",")]
    sys.exit(0 if all(results) else 1)


if __name__ == "__main__":
    main()

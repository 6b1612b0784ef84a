#!/usr/bin/env python3
"""Reads a run's results.tsv with pandas, in the steps of upstream's analysis notebook.

    python3 bench/analyse.py RUN/results.tsv [--plot progress.png]

Counts by status, the baseline and the best, the running best, the largest improvements. Needs
pandas, and matplotlib for --plot. Whatever stands in a description stays one field: there are no
quotes, tabs or line breaks in it, and none is a formula.
"""

import argparse

import pandas as pd


def load(path):
    """One row an experiment; a crash has no figure, which upstream's files write as 0.0."""
    results = pd.read_csv(path, sep="\t", keep_default_na=False)
    results["val_bpb"] = pd.to_numeric(results["val_bpb"], errors="coerce")
    results["memory_gb"] = pd.to_numeric(results["memory_gb"], errors="coerce")
    results["status"] = results["status"].str.strip().str.lower()
    results.loc[results["status"] == "crash", ["val_bpb", "memory_gb"]] = float("nan")
    return results


def kept_with_gains(results):
    """The kept experiments, each with what it gained against the best before it."""
    kept = results[results["status"] == "keep"].copy()
    kept["gain"] = kept["val_bpb"].shift(1) - kept["val_bpb"]
    return kept


def describe(results):
    counts = results["status"].value_counts()
    print(f"experiments {len(results)}: "
          + ", ".join(f"{counts.get(name, 0)} {name}" for name in ("keep", "discard", "crash")))
    kept = kept_with_gains(results)
    if kept.empty:
        return
    baseline, best = kept["val_bpb"].iloc[0], kept["val_bpb"].min()
    print(f"val_bpb {baseline:.6f} -> {best:.6f} ({100 * (best - baseline) / baseline:+.2f} %)")
    running = kept["val_bpb"].cummin()
    print("running best: " + ", ".join(f"#{n} {value:.6f}" for n, value in running.items()))
    print("largest improvements:")
    for n, row in kept.dropna(subset="gain").nlargest(10, "gain").iterrows():
        share = 100 * row["gain"] / (baseline - best) if baseline > best else 0
        print(f"  #{n} {-row['gain']:+.6f} ({share:.0f} % of all)  {row['description']}")


def plot(results, path):
    import matplotlib
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    kept = results[results["status"] == "keep"]
    other = results[results["status"] == "discard"]
    figure, axes = plt.subplots(figsize=(12, 6))
    axes.scatter(other.index, other["val_bpb"], c="lightgray", label="discarded")
    axes.scatter(kept.index, kept["val_bpb"], c="seagreen", label="kept", zorder=3)
    axes.step(kept.index, kept["val_bpb"].cummin(), where="post", c="seagreen")
    axes.set(xlabel="experiment", ylabel="val_bpb (lower is better)")
    axes.legend()
    figure.savefig(path, dpi=120)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("results", help="results.tsv of a run")
    parser.add_argument("--plot", help="PNG of the running best")
    options = parser.parse_args()
    results = load(options.results)
    describe(results)
    if options.plot:
        plot(results, options.plot)


if __name__ == "__main__":
    main()

"""bench/reference.py beside upstream's numbers, as tests/model_test.cpp for train.cpp.

    python bench/reference_check.py

Largest differences of logits, gradients, optimizer steps and 50 losses of training to those of
tests/data/golden.json; exit 1 where one is more than allowed.
"""

import json
import pathlib
import sys

import torch

import golden
import reference


def model_differences(config, expected):
    gpt = reference.Gpt(config)
    golden.fill(gpt.named(), golden.BOUNDS)
    T = golden.SEQ_LEN
    ids = torch.arange(golden.ROWS * (T + 1)).mul(31).remainder(golden.VOCAB).view(-1, T + 1)
    logits = gpt(ids[:, :-1]).flatten()
    yield "logits", (logits - torch.tensor(expected["logits"])).abs().max().item(), 1e-4
    gpt(ids[:, :-1], ids[:, 1:]).backward()
    for seed, (name, p) in enumerate(gpt.named()):
        norm, rows = (torch.tensor(expected["gradients"][name][key]) for key in ("norm", "rows"))
        error = max((p.grad.float().norm() - norm).abs() / norm,
                    (golden.row_products(p, seed) - rows).abs().max() / rows.abs().max()).item()
        yield f"gradient of {name}", error, 1e-3 if p.dtype == torch.float32 else 1e-2


def stepped(weights, gradient, step):
    """The weights after three optimizer steps; `gradient` is of (weight, step)."""
    with torch.no_grad():
        for n in range(3):
            for i, w in enumerate(weights):
                w.grad = gradient(i, n)
            step(n)
    return torch.stack([w.detach() for w in weights]).flatten()


def optimizer_differences(expected):
    distance = lambda got, numbers: (got - torch.tensor(numbers)).abs().max().item()
    for key, numbers in expected["muon_float32"].items():
        shape = tuple(map(int, key.split("x")))
        weights = [torch.nn.Parameter(golden.hashed(shape, 200 + i, 0.1)) for i in range(2)]
        muon = reference.Muon(weights, torch.float32)
        got = stepped(weights, lambda i, n: golden.hashed(shape, 300 + 10 * n + i, 0.01),
                      lambda n: muon.step(*reference.schedule(0.2 + 0.3 * n, n)))
        yield f"Muon, {key}", distance(got, numbers), 1e-5
    weights = [torch.nn.Parameter(golden.hashed((64,), 400, 1.0))]
    adam = reference.adamw([dict(params=weights, lr=0.05)])
    got = stepped(weights, lambda i, n: golden.hashed((64,), 500 + n, 0.01), lambda n: adam.step())
    yield "AdamW", distance(got, expected["adamw_float32"]), 1e-5


def training_difference(config, expected):
    gpt = reference.Gpt(config)
    golden.fill(gpt.named(), golden.TRAINING_BOUNDS)
    gpt.float()  # the tables too
    optimizer, worst = reference.Optimizer(gpt, torch.float32), 0
    for step, loss_then in enumerate(expected):
        ids = golden.ids_of(step)
        loss = gpt(ids[:, :-1], ids[:, 1:])
        loss.backward()
        optimizer.step(step / len(expected), step)
        worst = max(worst, abs(loss.item() - loss_then))
    return worst


def main():
    path = pathlib.Path(__file__).parent.parent / "tests" / "data" / "golden.json"
    expected = json.loads(path.read_text())
    config = reference.Config(golden.VOCAB, golden.SEQ_LEN, golden.DEPTH, golden.WIDTH,
                              golden.WIDTH // golden.HEADS)
    full = reference.Gpt(reference.Config(8192, 2048, 8, 512, 128), "meta")
    missing = expected["parameters"] - sum(p.numel() for p in full.parameters())
    found = [("parameters of the full preset", abs(missing), 0),
             *model_differences(config, expected["model"]), *optimizer_differences(expected),
             ("loss in 50 steps", training_difference(config, expected["training"]), 1e-3)]
    for name, difference, allowed in found:
        verdict = "" if difference <= allowed else "   TOO MUCH"
        print(f"{name:30} {difference:.1e} of {allowed:g}{verdict}")
    sys.exit(0 if all(difference <= allowed for _, difference, allowed in found) else 1)


if __name__ == "__main__":
    main()

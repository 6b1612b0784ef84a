"""train.cpp's model, optimizer and schedules in PyTorch: the peer for its speed (bench/train.py).

    python bench/reference.py --task FOLDER --steps 200 [--compile] [--width 128] ...
    python bench/reference.py --task FOLDER --time-budget 300 --compile     # ends with its val_bpb

Prints one line of JSON. Trains on the rows that build/train trains on, in the same order, and for
equal seeds from the same weights. The first --skip steps, in which compilation falls, count neither
for speed nor for the time budget; nor does packing rows, which is done ahead, for all --steps or
for 64 steps at a time, while the clock stands still. On CUDA it computes in bfloat16 under
autocast, on a CPU in float32, unless --dtype says otherwise. --attention is sdpa on a CPU; on CUDA
flash2, PyTorch's own. flash3, upstream's, comes over the network from the Hugging Face hub and
needs the PyPI package `kernels` and a Hopper GPU. That this is the same model and optimizer is
shown by bench/reference_check.py.
"""

import argparse
import base64
import collections
import contextlib
import dataclasses
import itertools
import json
import math
import pathlib
import resource
import time

import torch
import torch.nn.functional as F
from torch import nn

import loader

POLAR_EXPRESS = [(8.156554524902461, -22.48329292557795, 15.878769915207462),
                 (4.042929935166739, -2.808917465908714, 0.5000178451051316),
                 (3.8916678022926607, -2.772484153217685, 0.5060648178503393),
                 (3.285753657755655, -2.3681294933425376, 0.46449024233003106),
                 (2.3465413258596377, -1.7097828382687081, 0.42323551169305323)]


# ------------------------------------------------------------------------------------------------
# Model


@dataclasses.dataclass
class Config:
    vocab_size: int
    seq_len: int
    depth: int
    width: int
    head_dim: int
    attention: str = "sdpa"
    compute_type: torch.dtype = torch.float32  # of the residual stream

    def window(self, layer):
        """Keys before its own that a query of this layer sees."""
        short = "SSSL"[layer % 4] == "S" and layer + 1 < self.depth
        return self.seq_len // 2 if short else self.seq_len


def norm(x):
    return F.rms_norm(x, (x.size(-1),))


def rotate(x, cos, sin):
    x1, x2 = x.chunk(2, -1)
    return torch.cat([x1 * cos + x2 * sin, x2 * cos - x1 * sin], -1)


def flash_attention_3():
    """The kernel that upstream uses, from the Hugging Face hub by the package `kernels`."""
    from kernels import get_kernel
    hopper = torch.cuda.get_device_capability() == (9, 0)
    name = "varunneal/flash-attention-3" if hopper else "kernels-community/flash-attn3"
    return get_kernel(name).flash_attn_interface.flash_attn_func


class Attention:
    """Causal attention in a sliding window; q, k, v: (B, T, H, D)."""

    def __init__(self, kind, window, seq_len):
        self.kind, self.window, self.full = kind, window, window >= seq_len - 1
        if kind == "flash3":
            self.kernel = flash_attention_3()

    def mask(self, T, device):
        ones = torch.ones(T, T, dtype=torch.bool, device=device)
        return None if self.full else ones.tril().triu(-self.window)

    def __call__(self, q, k, v, mask):
        T = q.size(1)
        if self.kind == "flash3":
            q, k, v = (x.bfloat16() for x in (q, k, v))
            return self.kernel(q, k, v, causal=True, window_size=(self.window, 0))
        if self.kind == "flash2":
            q, k, v = (x.bfloat16() for x in (q, k, v))
            return torch.ops.aten._flash_attention_forward(
                q, k, v, None, None, T, T, 0.0, True, False,
                window_size_left=-1 if self.full else self.window, window_size_right=0)[0]
        q, k, v = (x.transpose(1, 2) for x in (q, k, v))
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=mask is None)
        return out.transpose(1, 2)


class Layer(nn.Module):
    def __init__(self, config, index, device):
        super().__init__()
        C, V = config.width, config.vocab_size
        bound = math.sqrt(3 / C)
        uniform = lambda rows: torch.empty(rows, C, device=device).uniform_(-bound, bound)
        self.heads, self.head_dim = C // config.head_dim, config.head_dim
        # One draw, as in train.cpp: on a GPU three would give other numbers.
        self.q, self.k, self.v = (nn.Parameter(w.clone()) for w in uniform(3 * C).chunk(3))
        self.attn_out = nn.Parameter(torch.zeros(C, C, device=device))
        self.mlp_in = nn.Parameter(uniform(4 * C))
        self.mlp_out = nn.Parameter(torch.zeros(C, 4 * C, device=device))
        self.has_values = index % 2 == (config.depth - 1) % 2
        if self.has_values:
            self.value_table = nn.Parameter(uniform(V).bfloat16())
            self.gate = nn.Parameter(torch.zeros(self.heads, 32, device=device))
        window = config.window(index)
        self.attend = Attention(config.attention, window, config.seq_len)
        self.register_buffer("mask", self.attend.mask(config.seq_len, device), persistent=False)

    def attention(self, x, ids, cos, sin):
        split = lambda y: y.unflatten(-1, (self.heads, self.head_dim))
        q, k, v = (split(F.linear(x, w)) for w in (self.q, self.k, self.v))
        if self.has_values:
            gate = 2 * torch.sigmoid(F.linear(x[..., :32], self.gate))
            v = v + gate.unsqueeze(-1) * split(F.embedding(ids, self.value_table).to(x.dtype))
        q, k = norm(rotate(q, cos, sin)), norm(rotate(k, cos, sin))
        return F.linear(self.attend(q, k, v, self.mask).flatten(2), self.attn_out)

    def forward(self, x, ids, cos, sin):
        x = x + self.attention(norm(x), ids, cos, sin)
        return x + F.linear(F.relu(F.linear(norm(x), self.mlp_in)).square(), self.mlp_out)


class Gpt(nn.Module):
    def __init__(self, config, device="cpu"):
        super().__init__()
        V, C = config.vocab_size, config.width
        self.token_table = nn.Parameter(torch.randn(V, C, device=device).bfloat16())
        self.head = nn.Parameter(torch.randn(V, C, device=device) * 0.001)
        self.resid_scale = nn.Parameter(torch.ones(config.depth, device=device))
        self.x0_scale = nn.Parameter(torch.full((config.depth,), 0.1, device=device))
        self.layers = nn.ModuleList(Layer(config, i, device) for i in range(config.depth))
        channel = torch.arange(0, config.head_dim, 2, device=device) / config.head_dim
        angle = torch.outer(torch.arange(config.seq_len, device=device), 10000.0**-channel)
        for name, table in [("cos", angle.cos()), ("sin", angle.sin())]:
            rounded = table.bfloat16().to(config.compute_type).unsqueeze(1)
            self.register_buffer(name, rounded, persistent=False)

    def forward(self, ids, targets=None, reduction="mean"):
        x0 = x = norm(F.embedding(ids, self.token_table).to(self.cos.dtype))
        for i, layer in enumerate(self.layers):
            x = layer(self.resid_scale[i] * x + self.x0_scale[i] * x0, ids, self.cos, self.sin)
        logits = 15 * torch.tanh(F.linear(norm(x), self.head).float() / 15)
        if targets is None:
            return logits
        return F.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction=reduction)

    def named(self):
        """Parameters under the names of golden.py, in its order."""
        return [(name.removeprefix("layers."), p) for name, p in self.named_parameters()]


# ------------------------------------------------------------------------------------------------
# Optimizer


def schedule(progress, step):
    """Factor of all learning rates, Muon's momentum and its weight decay."""
    return min(1.0, (1 - progress) / 0.5), 0.85 + 0.1 * min(1.0, step / 300), 0.2 * (1 - progress)


def orthogonalize(G):
    tall = G.size(1) > G.size(2)
    X = G / (G.norm(dim=(1, 2), keepdim=True) * 1.02 + 1e-6)
    for a, b, c in POLAR_EXPRESS:
        A = X.mT @ X if tall else X @ X.mT
        B = torch.baddbmm(A, A, A, beta=b, alpha=c)
        X = torch.baddbmm(X, X, B, beta=a) if tall else torch.baddbmm(X, B, X, beta=a)
    return X


def muon_update(weight, grad, first, second, momentum, lr, decay, beta2, dim, dtype):
    """What a stack of matrices (N, rows, cols) loses. Scalars are 0-d tensors: no recompilation."""
    first.lerp_(grad, 1 - momentum)
    update = orthogonalize(grad.lerp(first, momentum).to(dtype))
    mean_square = update.float().square().mean(dim, keepdim=True)
    second.lerp_(mean_square, 1 - beta2.to(dtype).float())
    scale = second.clamp_min(1e-10).rsqrt()
    before = mean_square.sum((1, 2), keepdim=True).sqrt()
    after = (mean_square * scale.square()).sum((1, 2), keepdim=True).sqrt()
    update = update * (scale * (before / after.clamp_min(1e-10))).to(dtype)
    lr, decay = lr.to(dtype), decay.to(dtype)
    return lr * update + lr * decay * weight * (update * weight >= 0)


class Muon:
    """Matrices of one shape."""

    def __init__(self, weights, dtype, update=muon_update):
        rows, cols = weights[0].shape
        self.weights, self.dtype, self.update = weights, dtype, update
        self.dim = 2 if rows >= cols else 1
        self.lr = 0.04 * math.sqrt(max(1, rows / cols))
        self.first = torch.stack([torch.zeros_like(w) for w in weights]).detach()
        self.second = self.first.mean(self.dim, keepdim=True)

    def step(self, lr_scale, momentum, decay):
        scalars = [torch.tensor(x, device=self.first.device)
                   for x in (momentum, self.lr * lr_scale, decay, 0.95)]
        change = self.update(torch.stack(self.weights), torch.stack([w.grad for w in self.weights]),
                             self.first, self.second, *scalars, self.dim, self.dtype)
        torch._foreach_sub_(self.weights, list(change.unbind()))


class Optimizer:
    def __init__(self, gpt, muon_type, update=muon_update):
        scale = (gpt.head.size(1) / 768) ** -0.5
        named = gpt.named()
        tables = [p for name, p in named if name.endswith("table")]
        groups = [dict(params=tables, lr=0.6 * scale), dict(params=[gpt.head], lr=0.004 * scale),
                  dict(params=[gpt.resid_scale], lr=0.005),
                  dict(params=[gpt.x0_scale], lr=0.5, betas=(0.96, 0.95))]
        self.adamw = adamw(groups)
        self.rates = [group["lr"] for group in self.adamw.param_groups]
        matrices = [p for name, p in named if "." in name and not name.endswith("table")]
        shape = lambda p: tuple(p.shape)
        self.muon = [Muon(list(group), muon_type, update)
                     for _, group in itertools.groupby(sorted(matrices, key=shape), shape)]
        self.parameters = [p for _, p in named]

    @torch.no_grad()
    def step(self, progress, step):
        lr_scale, momentum, decay = schedule(progress, step)
        for group, rate in zip(self.adamw.param_groups, self.rates):
            group["lr"] = rate * lr_scale
        self.adamw.step()
        for group in self.muon:
            group.step(lr_scale, momentum, decay)
        for p in self.parameters:
            p.grad = None


def adamw(groups):
    return torch.optim.AdamW(groups, betas=(0.8, 0.95), eps=1e-10, weight_decay=0, fused=True)


# ------------------------------------------------------------------------------------------------
# Data


class Rows:
    """The training rows of a task in micro-batches, as harness/loader packs them, made ahead."""

    def __init__(self, folder, info, rows, pinned):
        self.batches = loader.batches(loader.supply(folder, info["bos"]), rows, info["seq_len"])
        self.pinned, self.ready = pinned, collections.deque()

    def pack(self, count):
        for pair in itertools.islice(self.batches, count):
            self.ready.append([x.pin_memory() if self.pinned else x for x in pair])

    def next(self, device):
        return [x.to(device, non_blocking=True) for x in self.ready.popleft()]


def token_bytes(folder, info):
    """Bytes of each token; 0 for special ones, which are not scored."""
    sizes = torch.zeros(info["vocab_size"], dtype=torch.long)
    for line in pathlib.Path(folder, "tokenizer.tiktoken").read_text().splitlines():
        token, rank = line.split()
        sizes[int(rank)] = len(base64.b64decode(token))
    return sizes


@torch.no_grad()
def bits_per_byte(gpt, device, folder, info, autocast, rows):
    path = pathlib.Path(folder, "heldout", "val.bin")
    tokens = torch.from_file(str(path), size=path.stat().st_size // 2, dtype=torch.uint16).long()
    sizes = token_bytes(folder, info)
    nats = size = 0
    for batch in tokens.view(-1, info["seq_len"] + 1).split(rows):
        inputs, targets = (x.contiguous().to(device) for x in (batch[:, :-1], batch[:, 1:]))
        with autocast():
            losses = gpt(inputs, targets, reduction="none")
        target_bytes = sizes[batch[:, 1:].flatten()]
        nats += losses.cpu().double()[target_bytes > 0].sum().item()
        size += target_bytes.sum().item()
    return nats / (math.log(2) * size)


# ------------------------------------------------------------------------------------------------
# A run


class Clock:
    """Time since the end of the skipped steps, and what those took."""

    def __init__(self, device, skip):
        self.device, self.skip, self.begin, self.seconds = device, skip, time.perf_counter(), 0.0
        self.skipped_seconds = 0.0

    def tick(self, steps):
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        self.seconds = time.perf_counter() - self.begin
        if steps == self.skip:
            self.skipped_seconds, self.begin, self.seconds = self.seconds, time.perf_counter(), 0.0

    @contextlib.contextmanager
    def stopped(self):
        """For use after a tick, when the device has nothing to do."""
        begin = time.perf_counter()
        yield
        self.begin += time.perf_counter() - begin


def peak_memory(device):
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def train(options):
    torch.manual_seed(options.seed)
    device = torch.device(options.device)
    cuda = device.type == "cuda"
    torch.set_float32_matmul_precision("high" if cuda else "highest")
    info = json.loads(pathlib.Path(options.task, "task.json").read_text())
    dtype = getattr(torch, options.dtype or ("bfloat16" if cuda else "float32"))
    autocast = lambda: torch.autocast(device.type, torch.bfloat16, dtype == torch.bfloat16)
    config = Config(info["vocab_size"], info["seq_len"], options.depth, options.width,
                    options.head_dim, options.attention or ("flash2" if cuda else "sdpa"), dtype)
    gpt = Gpt(config, device)
    compiled = torch.compile(dynamic=False) if options.compile else lambda f: f
    optimizer, model = Optimizer(gpt, dtype, compiled(muon_update)), compiled(gpt)
    pieces = options.batch // (options.micro_rows * config.seq_len)
    rows, ahead = Rows(options.task, info, options.micro_rows, cuda), options.steps or 64
    losses, clock = [], Clock(device, options.skip)
    for step in itertools.count():
        clock.tick(step)
        progress = (step / options.steps if options.steps else
                    clock.seconds / options.time_budget if step > options.skip else 0.0)
        if progress >= 1:
            break
        if step % ahead == 0:
            with clock.stopped():
                rows.pack(ahead * pieces)
        total = torch.zeros((), device=device)
        for _ in range(pieces):
            inputs, targets = rows.next(device)
            with autocast():
                loss = model(inputs, targets) / pieces
            loss.backward()
            total += loss.detach()
        optimizer.step(progress, step)
        losses.append(total)
    counted = len(losses) - options.skip
    result = {
        "device": torch.cuda.get_device_name() if cuda else "cpu", "attention": config.attention,
        "parameters": sum(p.numel() for p in gpt.parameters()), "steps": len(losses),
        "tokens_per_second": counted * options.batch / clock.seconds,
        "compile_seconds": clock.skipped_seconds - options.skip * clock.seconds / counted,
        "losses": [loss.item() for loss in losses], "peak_memory_bytes": peak_memory(device)}
    if options.time_budget:
        result["val_bpb"] = bits_per_byte(model, device, options.task, info, autocast,
                                          options.micro_rows)
    return result


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--task", help="a task's folder")
    parser.add_argument("--steps", type=int)
    parser.add_argument("--time-budget", type=float, help="seconds, instead of --steps")
    parser.add_argument("--skip", type=int, default=10, help="first steps that do not count")
    parser.add_argument("--depth", type=int, default=2)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--head-dim", type=int, default=32)
    parser.add_argument("--batch", type=int, default=1024, help="tokens per optimizer step")
    parser.add_argument("--micro-rows", type=int, default=4, help="rows per forward pass")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--dtype", choices=["float32", "bfloat16"])
    parser.add_argument("--attention", choices=["sdpa", "flash2", "flash3"])
    parser.add_argument("--seed", type=int, default=42)
    options = parser.parse_args()
    if not options.task or bool(options.steps) == bool(options.time_budget):
        parser.error("--task and one of --steps and --time-budget are needed")
    if options.steps and options.steps <= options.skip:
        parser.error("--steps must be more than --skip")
    print(json.dumps(train(options)))


if __name__ == "__main__":
    main()

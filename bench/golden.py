"""Writes tests/data/golden.json: what the ancestor's own code computes, for tests/model_test.cpp.

    python bench/golden.py path/to/autoresearch/train.py > tests/data/golden.json

Runs karpathy/autoresearch's train.py (228791f) as it is, on a CPU, up to its training loop: its two
imports that need a GPU or data are replaced by stand-ins, torch.compile by the identity. Then it
builds small models out of its classes. Weights, inputs and gradients come from an integer hash that
the test computes as well, so that only results are stored.
"""
import json
import math
import sys
import types

import torch
import torch._dynamo  # its modules name torch.device in annotations: loaded before that is replaced

DEPTH, HEADS, WIDTH, SEQ_LEN, VOCAB, ROWS = 3, 2, 64, 24, 48, 2


class LoopReached(Exception):
    pass


def hashed(shape, seed, bound):
    """Uniform in [-bound, bound), the same numbers as `hashed` in model_test.cpp."""
    x = torch.arange(math.prod(shape), dtype=torch.int64) + 1000003 * (seed + 1)
    x = (x * 2654435761) & 0xFFFFFFFF
    x = x ^ (x >> 16)
    x = (x * 2246822519) & 0xFFFFFFFF
    x = x ^ (x >> 13)
    return ((x.double() / 2**31 - 1) * bound).float().view(shape)


def attention(q, k, v, causal, window_size):
    """FlashAttention's contract as a plain softmax: query i sees keys i - left <= j <= i."""
    assert causal and window_size[1] == 0
    t = q.size(1)
    distance = torch.arange(t)[:, None] - torch.arange(t)[None, :]
    seen = (distance >= 0) & (distance <= window_size[0])
    scores = torch.einsum("bihd,bjhd->bhij", q, k) / math.sqrt(q.size(-1))
    weights = scores.masked_fill(~seen, float("-inf")).softmax(-1)
    return torch.einsum("bhij,bjhd->bihd", weights, v)


def ancestor(path):
    """The global names of train.py when it reaches its loop."""
    kernels = types.ModuleType("kernels")
    flash = types.SimpleNamespace(flash_attn_func=attention)
    kernels.get_kernel = lambda repo: types.SimpleNamespace(flash_attn_interface=flash)
    prepare = types.ModuleType("prepare")
    prepare.MAX_SEQ_LEN, prepare.TIME_BUDGET = 2048, 300
    prepare.Tokenizer = types.SimpleNamespace(
        from_directory=lambda: types.SimpleNamespace(get_vocab_size=lambda: 8192))
    prepare.make_dataloader = lambda *args: iter([(None, None, 1)])
    prepare.evaluate_bpb = None
    sys.modules.update(kernels=kernels, prepare=prepare)

    def reached():
        raise LoopReached

    real_device = torch.device
    torch.cuda.get_device_capability = lambda: (9, 0)
    torch.cuda.synchronize = reached
    torch.compile = lambda f=None, **options: f if f is not None else lambda g: g
    torch.device = lambda name: real_device("cpu" if name == "cuda" else name)
    names = {"__name__": "__main__"}
    stdout, sys.stdout = sys.stdout, sys.stderr
    try:
        exec(compile(open(path).read(), path, "exec"), names)
    except LoopReached:
        pass
    sys.stdout, torch.device = stdout, real_device
    return names


def fill(model):
    """Hashed weights, in the order of model_test.cpp's `fill`."""
    m = model.transformer
    named = [("token_table", m.wte.weight, 1.0), ("head", model.lm_head.weight, 0.2),
             ("resid_scale", model.resid_lambdas, 1.0), ("x0_scale", model.x0_lambdas, 1.0)]
    for i, block in enumerate(m.h):
        a, mlp = block.attn, block.mlp
        for name, p in [("q", a.c_q), ("k", a.c_k), ("v", a.c_v), ("attn_out", a.c_proj),
                        ("mlp_in", mlp.c_fc), ("mlp_out", mlp.c_proj)]:
            named.append((f"{i}.{name}", p.weight, 0.2))
        if a.ve_gate is not None:
            named.append((f"{i}.value_table", model.value_embeds[str(i)].weight, 0.5))
            named.append((f"{i}.gate", a.ve_gate.weight, 1.0))
    with torch.no_grad():
        for seed, (_, p, bound) in enumerate(named):
            p.copy_(hashed(p.shape, seed, bound))  # rounds where p is bfloat16
    return named


def numbers(tensor):
    return [float(f"{x:.8g}") for x in tensor.detach().double().flatten().tolist()]


def model_case(names):
    """Logits, loss and, for each parameter's gradient, its norm and its product with a hash."""
    model = names["GPT"](names["GPTConfig"](
        sequence_len=SEQ_LEN, vocab_size=VOCAB, n_layer=DEPTH, n_head=HEADS, n_kv_head=HEADS,
        n_embd=WIDTH, window_pattern="SSSL"))
    model.init_weights()
    named = fill(model)
    # Outside of autocast a float32 matrix refuses bfloat16 inputs; values stay rounded to bfloat16.
    model.transformer.wte.float()
    model.value_embeds.float()
    ids = torch.arange(ROWS * (SEQ_LEN + 1)).mul(31).remainder(VOCAB).view(ROWS, SEQ_LEN + 1)
    logits = model(ids[:, :-1])
    loss = model(ids[:, :-1].contiguous(), ids[:, 1:].contiguous())
    loss.backward()
    grads = {}
    for seed, (name, p, _) in enumerate(named):
        probe = hashed(p.shape, 100 + seed, 1.0)
        grads[name] = [p.grad.norm().item(), (p.grad * probe).sum().item()]
    return {"logits": numbers(logits), "loss": loss.item(), "gradients": grads}


def muon_case(names, shape, dtype):
    """Two matrices of one shape, three steps; the last weights. In float32 where dtype says so."""
    params = [torch.nn.Parameter(hashed(shape, 200 + i, 0.1)) for i in range(2)]
    group = dict(kind="muon", params=params, lr=0.04, momentum=0.95, ns_steps=5, beta2=0.95,
                 weight_decay=0.2)
    optimizer = names["MuonAdamW"]([group])
    to_bfloat16 = torch.Tensor.bfloat16
    if dtype == torch.float32:
        torch.Tensor.bfloat16 = lambda self: self
    for step in range(3):
        for i, p in enumerate(params):
            p.grad = hashed(shape, 300 + 10 * step + i, 0.01)
        group["lr"] = 0.04 * names["get_lr_multiplier"](0.2 + 0.3 * step)
        group["momentum"] = names["get_muon_momentum"](step)
        group["weight_decay"] = names["get_weight_decay"](0.2 + 0.3 * step)
        optimizer.param_groups[0].update(group)
        optimizer.step()
    torch.Tensor.bfloat16 = to_bfloat16
    return numbers(torch.stack(params))


def adamw_case(names, dtype):
    """One vector of 64, three steps at a rate of 0.05; the last weights.

    The ancestor compiles this step, and the compiler computes in float32 and rounds what it stores.
    Uncompiled it would round every intermediate, so bfloat16 is cast around each call here.
    """
    p = hashed((64,), 400, 1.0).to(dtype)
    m, v = torch.zeros_like(p), torch.zeros_like(p)
    scalar = lambda x: torch.tensor(x, dtype=torch.float32)
    for step in range(3):
        grad = hashed((64,), 500 + step, 0.01).to(dtype)
        wide = [t.float() for t in (p, grad, m, v)]
        scalars = [scalar(x) for x in (step + 1.0, 0.05, 0.8, 0.95, 1e-10, 0.0)]
        names["adamw_step_fused"](*wide, *scalars)
        p, m, v = (wide[i].to(dtype) for i in (0, 2, 3))
    return numbers(p)


def main():
    names = ancestor(sys.argv[1])
    points = [(0.0, 0), (0.3, 50), (0.5, 299), (0.75, 300), (1.0, 1000)]  # progress, step
    schedule = [[names["get_lr_multiplier"](p), names["get_muon_momentum"](s),
                 names["get_weight_decay"](p)] for p, s in points]
    shapes = [(16, 16), (32, 8), (8, 32), (2, 32)]
    json.dump({
        "parameters": names["num_params"],
        "flops_per_token": names["num_flops_per_token"],
        "schedule": schedule,
        "model": model_case(names),
        "muon_float32": {f"{r}x{c}": muon_case(names, (r, c), torch.float32) for r, c in shapes},
        "muon_bfloat16": {f"{r}x{c}": muon_case(names, (r, c), torch.bfloat16) for r, c in shapes},
        "adamw_float32": adamw_case(names, torch.float32),
        "adamw_bfloat16": adamw_case(names, torch.bfloat16),
    }, sys.stdout, separators=(",", ":"))
    print()


if __name__ == "__main__":
    main()

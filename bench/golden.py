"""Writes tests/data/golden.json: what upstream's own code computes, for tests/model_test.cpp.

    python bench/golden.py path/to/autoresearch/train.py > tests/data/golden.json

Runs karpathy/autoresearch's train.py (228791f) as it is, on a CPU, up to its training loop: its two
imports that need a GPU or data are replaced by stand-ins, torch.compile by the identity. Then it
builds small models out of its classes. Weights, inputs and gradients come from an integer hash that
the test computes as well, so that only results are stored. Last digits depend on the CPU.
"""
import contextlib
import json
import math
import sys
import types

import torch
import torch._dynamo  # its modules name torch.device in annotations: loaded before that is replaced

DEPTH, HEADS, WIDTH, SEQ_LEN, VOCAB, ROWS = 3, 2, 64, 24, 48, 2
STEPS, STEP_ROWS = 50, 16  # of training
INITIAL_SEEDS = 8

# Hashed weights are uniform in [-bound, bound): for one pass, so that nothing is 0 or cancels ...
BOUNDS = {"token_table": 1.0, "head": 0.2, "resid_scale": 1.0, "x0_scale": 1.0, "q": 0.2, "k": 0.2,
          "v": 0.2, "attn_out": 0.2, "mlp_in": 0.2, "mlp_out": 0.2, "value_table": 0.5, "gate": 1.0}
# ... and for training, near the initialization. Exactly there some gradients are mathematically 0,
# and AdamW would make full steps of their rounding errors, in a direction that depends on the CPU.
TRAINING_BOUNDS = {
    "token_table": 3**0.5, "head": 0.1, "attn_out": 0.05, "mlp_out": 0.05, "gate": 0.1,
    **dict.fromkeys(["q", "k", "v", "mlp_in", "value_table"], (3 / WIDTH) ** 0.5)}


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


def upstream(path):
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


def ids_of(step):
    """The rows of a training step; three tokens in four follow from the one before, as in `ids_of`
    of model_test.cpp."""
    n = STEP_ROWS * (SEQ_LEN + 1)
    regular = torch.arange(n).mul(31).add(17 * step).remainder(VOCAB)
    noise = ((hashed((n,), 2000 + step, 1.0) + 1) * (VOCAB // 2)).long()
    is_noise = hashed((n,), 1000 + step, 1.0) > 0.5
    return torch.where(is_noise, noise, regular).view(STEP_ROWS, SEQ_LEN + 1)


def fill(named, bounds):
    """Hashed weights, numbered in the order of `named`, as model_test.cpp's `fill` does it."""
    with torch.no_grad():
        for seed, (name, p) in enumerate(named):
            bound = bounds.get(name.split(".")[-1])
            if bound is not None:
                p.copy_(hashed(p.shape, seed, bound))  # rounds where p is bfloat16


def named_parameters(model):
    """Upstream's parameters under train.cpp's names, in its order."""
    m = model.transformer
    named = [("token_table", m.wte.weight), ("head", model.lm_head.weight),
             ("resid_scale", model.resid_lambdas), ("x0_scale", model.x0_lambdas)]
    for i, block in enumerate(m.h):
        a, mlp = block.attn, block.mlp
        named += [(f"{i}.{name}", p.weight) for name, p in [
            ("q", a.c_q), ("k", a.c_k), ("v", a.c_v), ("attn_out", a.c_proj),
            ("mlp_in", mlp.c_fc), ("mlp_out", mlp.c_proj)]]
        if a.ve_gate is not None:
            named.append((f"{i}.value_table", model.value_embeds[str(i)].weight))
            named.append((f"{i}.gate", a.ve_gate.weight))
    return named


def initial_model(names):
    model = names["GPT"](names["GPTConfig"](
        sequence_len=SEQ_LEN, vocab_size=VOCAB, n_layer=DEPTH, n_head=HEADS, n_kv_head=HEADS,
        n_embd=WIDTH, window_pattern="SSSL"))
    model.init_weights()
    return model


def small_model(names, bounds):
    """A model of hashed weights, all in float32; what is a table was rounded to bfloat16."""
    model = initial_model(names)
    fill(named_parameters(model), bounds)
    # Outside of autocast a float32 matrix refuses bfloat16 inputs.
    model.transformer.wte.float()
    model.value_embeds.float()
    return model


def initial_case(names):
    """How each parameter is distributed before training: averages over as many models as seeds."""
    samples = {}
    for seed in range(INITIAL_SEEDS):
        torch.manual_seed(seed)
        for name, p in named_parameters(initial_model(names)):
            samples.setdefault(name, []).append(p.detach().double().flatten())
    of = lambda w: {"std": w.std(1, correction=0).mean().item(),
                    "smallest": w.amin(1).mean().item(), "largest": w.amax(1).mean().item()}
    return {name: of(torch.stack(weights)) for name, weights in samples.items()}


def numbers(tensor):
    return [float(f"{x:.8g}") for x in tensor.detach().double().flatten().tolist()]


def row_products(p, seed):
    """Of each row of the gradient with a hash, in which an error of any one element shows."""
    products = p.grad.float() * hashed(p.shape, 100 + seed, 1.0)
    return products.sum(-1) if products.dim() > 1 else products


def model_case(names):
    """Logits, loss and, for each parameter's gradient, its norm and its rows' products."""
    model = small_model(names, BOUNDS)
    ids = torch.arange(ROWS * (SEQ_LEN + 1)).mul(31).remainder(VOCAB).view(ROWS, SEQ_LEN + 1)
    logits = model(ids[:, :-1])
    loss = model(ids[:, :-1].contiguous(), ids[:, 1:].contiguous())
    loss.backward()
    grads = {}
    for seed, (name, p) in enumerate(named_parameters(model)):
        grads[name] = {"norm": p.grad.norm().item(), "rows": numbers(row_products(p, seed))}
    return {"logits": numbers(logits), "loss": loss.item(), "gradients": grads}


@contextlib.contextmanager
def in_float32():
    """Muon without its rounding to bfloat16."""
    to_bfloat16 = torch.Tensor.bfloat16
    torch.Tensor.bfloat16 = lambda self: self
    yield
    torch.Tensor.bfloat16 = to_bfloat16


def set_schedules(names, groups, base_rates, progress, step):
    for group, rate in zip(groups, base_rates):
        group["lr"] = rate * names["get_lr_multiplier"](progress)
        if group["kind"] == "muon":
            group["momentum"] = names["get_muon_momentum"](step)
            group["weight_decay"] = names["get_weight_decay"](progress)


def optimizer_of(names, model):
    return model.setup_optimizer(
        unembedding_lr=names["UNEMBEDDING_LR"], embedding_lr=names["EMBEDDING_LR"],
        scalar_lr=names["SCALAR_LR"], adam_betas=names["ADAM_BETAS"],
        matrix_lr=names["MATRIX_LR"], weight_decay=names["WEIGHT_DECAY"])


def settings_case(names):
    """By what each parameter is trained, before schedules change it."""
    model = initial_model(names)
    settings = {}
    for group in optimizer_of(names, model).param_groups:
        kept = {key: group[key] for key in ("kind", "lr", "betas", "beta2", "eps", "weight_decay")
                if key in group}
        settings.update((id(p), kept) for p in group["params"])
    return {name: settings[id(p)] for name, p in named_parameters(model)}


def training_case(names):
    """The loss of each of 50 training steps, all in float32."""
    model = small_model(names, TRAINING_BOUNDS)
    optimizer = optimizer_of(names, model)
    base_rates = [group["lr"] for group in optimizer.param_groups]
    losses = []
    for step in range(STEPS):
        ids = ids_of(step)
        loss = model(ids[:, :-1].contiguous(), ids[:, 1:].contiguous())
        loss.backward()
        losses.append(loss.item())
        set_schedules(names, optimizer.param_groups, base_rates, step / STEPS, step)
        with in_float32():
            optimizer.step()
        model.zero_grad(set_to_none=True)
    return losses


def muon_case(names, shape, dtype):
    """Two matrices of one shape, three steps; the last weights. In float32 where dtype says so."""
    params = [torch.nn.Parameter(hashed(shape, 200 + i, 0.1)) for i in range(2)]
    optimizer = names["MuonAdamW"]([dict(kind="muon", params=params, lr=0.04, momentum=0.95,
                                         ns_steps=5, beta2=0.95, weight_decay=0.2)])
    for step in range(3):
        for i, p in enumerate(params):
            p.grad = hashed(shape, 300 + 10 * step + i, 0.01)
        set_schedules(names, optimizer.param_groups, [0.04], 0.2 + 0.3 * step, step)
        with in_float32() if dtype == torch.float32 else contextlib.nullcontext():
            optimizer.step()
    return numbers(torch.stack(params))


def adamw_case(names, dtype):
    """One vector of 64, three steps at a rate of 0.05; the last weights.

    Upstream compiles this step, and the compiler computes in float32 and rounds what it stores.
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
    names = upstream(sys.argv[1])
    stdout, sys.stdout = sys.stdout, sys.stderr  # upstream prints
    points = [(0.0, 0), (0.3, 50), (0.5, 299), (0.75, 300), (1.0, 1000)]  # progress, step
    schedule = [[names["get_lr_multiplier"](p), names["get_muon_momentum"](s),
                 names["get_weight_decay"](p)] for p, s in points]
    shapes = [(16, 16), (32, 8), (8, 32), (2, 32)]
    json.dump({
        "parameters": names["num_params"],
        "flops_per_token": names["num_flops_per_token"],
        "schedule": schedule,
        "initial": initial_case(names),
        "settings": settings_case(names),
        "model": model_case(names),
        "training": training_case(names),
        "muon_float32": {f"{r}x{c}": muon_case(names, (r, c), torch.float32) for r, c in shapes},
        "muon_bfloat16": {f"{r}x{c}": muon_case(names, (r, c), torch.bfloat16) for r, c in shapes},
        "adamw_float32": adamw_case(names, torch.float32),
        "adamw_bfloat16": adamw_case(names, torch.bfloat16),
    }, stdout, separators=(",", ":"))
    print(file=stdout)


if __name__ == "__main__":
    main()

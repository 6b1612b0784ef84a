"""What the parts of one micro-batch cost on this GPU, and what could replace them. About 40 s.

    python3 bench/parts.py [ROWS]      # of 2048 tokens in a micro-batch, 128 by itself

Times are medians of a few launches between two events, after a warm-up. Every section fails alone;
those of cuDNN need the PyPI package nvidia-cudnn-frontend. Without a GPU the shapes are tiny and
the figures say nothing.
"""

import json
import os
import sys
import time

import torch

CUDA = torch.cuda.is_available()
DEVICE = "cuda" if CUDA else "cpu"
B = int(sys.argv[1]) if len(sys.argv) > 1 else 128
T, H, D, C, V = (2048, 4, 128, 512, 8192) if CUDA else (64, 2, 16, 32, 64)
N, K = B * T, 4 * C
results = {}


def clock(f, repeats=5, warm=2):
    """Milliseconds of one f()."""
    for _ in range(warm):
        f()
    times = []
    for _ in range(repeats):
        if CUDA:
            a, b = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            a.record(); f(); b.record(); b.synchronize()
            times.append(a.elapsed_time(b))
        else:
            s = time.perf_counter(); f(); times.append(1e3 * (time.perf_counter() - s))
    return sorted(times)[len(times) // 2]


def tell(name, ms, flops=0, bytes=0):
    results[name] = ms
    print(f"{name:44}{ms:9.3f} ms" + (f"{flops / ms / 1e9:8.0f} TFLOP/s" if flops else " " * 16)
          + (f"{bytes / ms / 1e9:6.2f} TB/s" if bytes else ""), flush=True)


def section(f):
    try:
        f()
    except Exception as error:
        what = str(error).splitlines()[0][:200] if str(error) else ""
        print(f"{f.__name__}: {type(error).__name__}: {what}", flush=True)
    if CUDA:
        torch.cuda.empty_cache()


def big(*sizes):
    """Random bfloat16 without a float32 copy of everything."""
    out = torch.empty(sizes, device=DEVICE, dtype=torch.bfloat16)
    for piece in out.view(-1).split(1 << 26):
        piece.normal_()
    return out


def ceilings():
    x = torch.empty((1 << 31) if CUDA else 1 << 20, device=DEVICE, dtype=torch.uint8)
    y = torch.empty_like(x)
    tell("copy of 2 GiB", clock(lambda: y.copy_(x)), 0, 2 * x.numel())
    n = 8192 if CUDA else 128
    a, b = big(n, n), big(n, n)
    tell("product 8192^3", clock(lambda: a @ b), 2 * n**3)


def products():
    x, h = big(N, C), big(N, K)
    total = flops = 0

    def one(name, f, n, k, m, times):
        nonlocal total, flops
        ms = clock(f)
        tell(name, ms, 2 * n * k * m)
        total += times * ms
        flops += times * 2 * n * k * m
    w = {"qkv": big(3 * C, C), "out": big(C, C), "in": big(K, C), "back": big(C, K)}
    q3 = big(N, 3 * C)
    L = 8
    one("qkv           x w^T", lambda: x @ w["qkv"].t(), N, C, 3 * C, L)
    one("qkv      dx = g w", lambda: q3 @ w["qkv"], N, 3 * C, C, L)
    one("qkv      dw = g^T x", lambda: q3.t() @ x, 3 * C, N, C, L)
    del q3
    y = big(N, C)
    one("attn_out  y += h w^T", lambda: y.addmm_(x, w["out"].t()), N, C, C, L)
    one("attn_out dh = g w", lambda: x @ w["out"], N, C, C, L)
    one("attn_out dw = g^T h", lambda: y.t() @ x, C, N, C, L)
    one("mlp_in        x w^T", lambda: x @ w["in"].t(), N, C, K, L)
    one("mlp_in   dx = g w", lambda: h @ w["in"], N, K, C, L)
    one("mlp_in   dw = g^T x", lambda: h.t() @ x, K, N, C, L)
    y.zero_()
    one("mlp_out   y += h w^T", lambda: y.addmm_(h, w["back"].t()), N, K, C, L)
    one("mlp_out  dh = g w", lambda: x @ w["back"], N, C, K, L)
    one("mlp_out  dw = g^T h", lambda: x.t() @ h, C, N, K, L)
    ms = clock(lambda: torch.relu(h).square())
    tell("relu squared, two ATen passes", ms, 0, 4 * h.numel() * 2)
    del h
    gate = big(4, 32)
    tell("gate     x[:, :32] w^T", clock(lambda: x[:, :32] @ gate.t()))
    g4 = big(N, 4)
    tell("gate dw = g^T x[:, :32]", clock(lambda: g4.t() @ x[:, :32]))
    tell("gate dx += g w", clock(lambda: y[:, :32].addmm_(g4, gate)))
    head = big(V, C)
    one("head          x w^T", lambda: x @ head.t(), N, C, V, 1)
    z = x @ head.t()
    one("head     dx = z w", lambda: z @ head, N, V, C, 1)
    one("head     dw = z^T x", lambda: z.t() @ x, V, N, C, 1)
    tell("all products of a micro-batch", total, flops)


def flash2():
    q, k, v, g = (big(B, T, H, D) for _ in range(4))
    total = 0
    for window, layers in ((T // 2, 6), (-1, 2)):
        keys = sum(min(i, window if window > 0 else T) + 1 for i in range(T)) / T
        f = lambda: torch.ops.aten._flash_attention_forward(
            q, k, v, None, None, T, T, 0.0, True, False, window_size_left=window,
            window_size_right=0)
        ms = clock(f)
        tell(f"FlashAttention-2 forward, window {window}", ms, 4 * N * H * D * keys)
        out, lse, state, unused, _ = f()
        b = lambda: torch.ops.aten._flash_attention_backward(
            g, q, k, v, out, lse, None, None, T, T, 0.0, True, state, unused,
            window_size_left=window, window_size_right=0)
        back = clock(b)
        tell(f"FlashAttention-2 backward, window {window}", back, 10 * N * H * D * keys)
        total += layers * (ms + back)
    tell("attention of a micro-batch, FlashAttention-2", total)


def cudnn_in_aten():
    q, k, v, g = (big(B, T, H, D).transpose(1, 2) for _ in range(4))
    keys = (T + 1) / 2
    f = lambda: torch.ops.aten._scaled_dot_product_cudnn_attention(
        q, k, v, None, True, 0.0, True, False)
    tell("cuDNN in ATen, causal, forward", clock(f), 4 * N * H * D * keys)
    out, lse, cq, ck, mq, mk, seed, offset, _ = f()
    b = lambda: torch.ops.aten._scaled_dot_product_cudnn_attention_backward(
        g, q, k, v, out, lse, seed, offset, None, cq, ck, mq, mk, 0.0, True)
    tell("cuDNN in ATen, causal, backward", clock(b), 10 * N * H * D * keys)


def cudnn_windowed():
    import cudnn
    import cudnn_graphs as G
    handle = cudnn.create_handle()
    cudnn.set_stream(handle=handle, stream=torch.cuda.current_stream().cuda_stream)
    q, k, v, do = (big(B, T, H, D) for _ in range(4))
    o, dq, dk, dv = (torch.empty_like(q) for _ in range(4))
    stats = torch.empty(B, H, T, 1, device=DEVICE, dtype=torch.float32)
    total = 0
    for window, layers in ((T // 2, 6), (None, 2)):
        keys = sum(min(i, window or T) + 1 for i in range(T)) / T
        begin = time.time()
        (fwd, ft), (bwd, bt) = G.attention(B, T, H, D, window, handle=handle)
        for g in (fwd, bwd):
            G.finish(g)
        print(f"cuDNN graphs, window {window}: built in {time.time() - begin:.1f} s", flush=True)
        bytes = max(fwd.get_workspace_size(), bwd.get_workspace_size(), 1)
        room = torch.empty(bytes, device=DEVICE, dtype=torch.uint8)
        data = dict(q=q, k=k, v=v, o=o, stats=stats, do=do, dq=dq, dk=dk, dv=dv)
        pack = lambda tensors: {tensor: data[name] for name, tensor in tensors.items()}
        a, b = pack(ft), pack(bt)
        ms = clock(lambda: fwd.execute(a, room, handle=handle))
        tell(f"cuDNN forward, window {window}", ms, 4 * N * H * D * keys)
        back = clock(lambda: bwd.execute(b, room, handle=handle))
        tell(f"cuDNN backward, window {window}", back, 10 * N * H * D * keys)
        total += layers * (ms + back)
        left = -1 if window is None else window
        sides = dict(window_size_left=left, window_size_right=0)
        ref = torch.ops.aten._flash_attention_forward(
            q, k, v, None, None, T, T, 0.0, True, False, **sides)
        grads = torch.ops.aten._flash_attention_backward(
            do, q, k, v, ref[0], ref[1], None, None, T, T, 0.0, True, ref[2], ref[3], **sides)
        rel = lambda x, y: ((x.float() - y.float()).norm() / y.float().norm()).item()
        print("   relative difference from FlashAttention-2: out %.4f, dq %.4f, dk %.4f, dv %.4f" %
              (rel(o, ref[0]), *(rel(x, y) for x, y in zip((dq, dk, dv), grads))), flush=True)
    tell("attention of a micro-batch, cuDNN", total)


def cudnn_relu_squared():
    import cudnn
    import cudnn_graphs as G
    handle = cudnn.create_handle()
    cudnn.set_stream(handle=handle, stream=torch.cuda.current_stream().cuda_stream)
    x, w, y = big(N, C), big(K, C), torch.empty(N, K, device=DEVICE, dtype=torch.bfloat16)
    begin = time.time()
    g, t = G.mlp_in(N, C, K, handle=handle)
    G.finish(g)
    print(f"cuDNN relu(x w^T)^2: built in {time.time() - begin:.1f} s", flush=True)
    room = torch.empty(max(g.get_workspace_size(), 1), device=DEVICE, dtype=torch.uint8)
    pack = {t["x"]: x, t["w"]: w, t["y"]: y}
    ms = clock(lambda: g.execute(pack, room, handle=handle))
    tell("cuDNN relu(x w^T)^2 in one", ms, 2 * N * C * K)
    want = torch.relu(x[:4096] @ w.t()).square().float()
    error = ((y[:4096].float() - want).norm() / want.norm()).item()
    print(f"   relative difference: {error:.4f}")
    grad, w2, out = big(N, C), big(C, K), torch.empty_like(y)
    g, t = G.mlp_out_backward(N, C, K, handle=handle)
    G.finish(g)
    room = torch.empty(max(g.get_workspace_size(), 1), device=DEVICE, dtype=torch.uint8)
    two = torch.full((1, 1, 1), 2.0)
    pack = {t["g"]: grad, t["w"]: w2, t["y"]: y, t["two"]: two, t["out"]: out}
    ms = clock(lambda: g.execute(pack, room, handle=handle))
    tell("cuDNN 2 sqrt(y) (g w) in one", ms, 2 * N * C * K)


def invariance():
    """Whether a row's product depends on its place, on other rows, or on how many there are."""
    x, w = big(65536 if CUDA else 64, C), big(3 * C, C)
    y = x @ w.t()
    order = torch.randperm(x.size(0), device=DEVICE)
    other = x.clone(); other[1::2] = other[1::2].flip(0)
    print("rows permuted: equal", torch.equal((x[order] @ w.t()), y[order]),
          "| other rows changed: equal", torch.equal((other @ w.t())[::2], y[::2]),
          "| 2048 rows alone: equal", torch.equal(x[:2048] @ w.t(), y[:2048]), flush=True)


if __name__ == "__main__":
    name = torch.cuda.get_device_name() if CUDA else "cpu"
    print(f"{name}, torch {torch.__version__}, micro-batch {B} x {T}", flush=True)
    torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction = True
    for f in (ceilings, products, flash2, cudnn_in_aten, cudnn_windowed, cudnn_relu_squared,
              invariance):
        section(f)
    if out := os.environ.get("OUT"):
        with open(os.path.join(out, "parts.json"), "w") as file:
            json.dump(results, file, indent=1)

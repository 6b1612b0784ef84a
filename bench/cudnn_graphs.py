"""cuDNN graphs of the shapes that train.cpp has, for bench/parts.py: windowed attention, and the
products of the MLP with relu squared in their epilogue.
"""

import math

import cudnn

BF, F = cudnn.data_type.BFLOAT16, cudnn.data_type.FLOAT


def new_graph(**options):
    return cudnn.pygraph(io_data_type=BF, intermediate_data_type=F, compute_data_type=F, **options)


def finish(graph):
    graph.validate()
    graph.build_operation_graph()
    graph.create_execution_plans([cudnn.heur_mode.A, cudnn.heur_mode.FALLBACK])
    graph.check_support()
    graph.build_plans()
    return graph


def attention(B, T, H, D, window, **options):
    """(B, T, H, D) in memory. window: keys before its own that a query sees, or None."""
    dim, stride = [B, H, T, D], [T * H * D, D, H * D, 1]
    mask = dict(diagonal_alignment=cudnn.diagonal_alignment.TOP_LEFT, diagonal_band_right_bound=0)
    if window is not None:
        mask["diagonal_band_left_bound"] = window + 1
    tensor = lambda g, name: g.tensor(name=name, dim=dim, stride=stride, data_type=BF)
    fwd = new_graph(**options)
    q, k, v = (tensor(fwd, n) for n in "qkv")
    scale = 1 / math.sqrt(D)
    o, stats = fwd.sdpa(name="sdpa", q=q, k=k, v=v, generate_stats=True, attn_scale=scale, **mask)
    o.set_output(True).set_dim(dim).set_stride(stride)
    stats.set_output(True).set_data_type(F)
    bwd = new_graph(**options)
    bq, bk, bv, bo, bdo = (tensor(bwd, n) for n in ("q", "k", "v", "o", "do"))
    bs = bwd.tensor(name="stats", dim=[B, H, T, 1], stride=[H * T, T, 1, 1], data_type=F)
    dq, dk, dv = bwd.sdpa_backward(name="sdpa_backward", q=bq, k=bk, v=bv, o=bo, dO=bdo, stats=bs,
                                   attn_scale=scale, **mask)
    for x in (dq, dk, dv):
        x.set_output(True).set_dim(dim).set_stride(stride)
    return (fwd, dict(q=q, k=k, v=v, o=o, stats=stats)), \
           (bwd, dict(q=bq, k=bk, v=bv, o=bo, do=bdo, stats=bs, dq=dq, dk=dk, dv=dv))


def mlp_in(N, C, K, **options):
    """relu(x w^T)^2, x: (N, C), w: (K, C) -> (N, K)."""
    g = new_graph(**options)
    x = g.tensor(name="x", dim=[1, N, C], stride=[N * C, C, 1], data_type=BF)
    w = g.tensor(name="w", dim=[1, C, K], stride=[K * C, 1, C], data_type=BF)
    z = g.matmul(name="z", A=x, B=w)
    r = g.relu(name="relu", input=z)
    y = g.mul(name="square", a=r, b=r)
    y.set_output(True).set_data_type(BF)
    return g, dict(x=x, w=w, y=y)


def mlp_out_backward(N, C, K, **options):
    """2 sqrt(y) * (g w), g: (N, C), w: (C, K), y: (N, K)."""
    G = new_graph(**options)
    g = G.tensor(name="g", dim=[1, N, C], stride=[N * C, C, 1], data_type=BF)
    w = G.tensor(name="w", dim=[1, C, K], stride=[C * K, K, 1], data_type=BF)
    y = G.tensor(name="y", dim=[1, N, K], stride=[N * K, K, 1], data_type=BF)
    two = G.tensor(name="two", dim=[1, 1, 1], stride=[1, 1, 1], data_type=F, is_pass_by_value=True)
    z = G.matmul(name="z", A=g, B=w)
    s = G.sqrt(name="sqrt", input=y)
    p = G.mul(name="p", a=z, b=s)
    out = G.mul(name="twice", a=p, b=two)
    out.set_output(True).set_data_type(BF)
    return G, dict(g=g, w=w, y=y, two=two, out=out)

"""Matrix products of a traced graph by oneDNN, on processors where that is twice as fast as torch's own choice.

For float32, torch asks MKL, which on AMD's processors leaves AVX-512 unused; oneDNN, which torch has for convolutions
and bf16, uses it. Its sums are rounded otherwise, the same way every time.
"""

import functools
import math
from pathlib import Path
from typing import Any

import torch
from torch import fx

LEAST = 2**22
"""Multiplications from which a product is worth oneDNN's preparations."""


@functools.cache
def onednn_is_faster() -> bool:
    """Whether this is a processor of AMD with AVX-512, and a torch with MKL and oneDNN."""
    if not (torch.backends.mkl.is_available() and torch.backends.mkldnn.is_available()):
        return False
    if torch.backends.cpu.get_cpu_capability() != "AVX512" or not hasattr(torch.ops.mkldnn, "_linear_pointwise"):
        return False
    cpuinfo = Path("/proc/cpuinfo")
    return cpuinfo.is_file() and "AuthenticAMD" in cpuinfo.read_text()


def by_onednn(graph: fx.GraphModule) -> None:
    """Puts oneDNN's x Wᵀ + b in the place of large float32 products, forwards and backwards; `graph` is simplified."""
    for node in list(graph.graph.nodes):
        if node.target not in (torch.mm, torch.addmm) or node.kwargs or not _is_large(node):
            continue
        *bias, left, right = node.args
        if bias and bias[0].meta["val"].dim() != 1:
            continue
        with graph.graph.inserting_before(node):
            weight = right.args[0] if right.target is torch.t else graph.graph.call_function(torch.t, (right,))
            arguments: tuple[Any, ...] = (left, weight, bias[0] if bias else None, "none", [], "")
            new = graph.graph.call_function(torch.ops.mkldnn._linear_pointwise.default, arguments)
        new.meta = dict(node.meta)
        node.replace_all_uses_with(new)
        graph.graph.erase_node(node)
    graph.graph.eliminate_dead_code()
    graph.recompile()


def _is_large(node: fx.Node) -> bool:
    left, right = (each.meta["val"] for each in node.args[-2:] if isinstance(each, fx.Node))
    return left.dtype == torch.float32 and math.prod(left.shape) * right.shape[1] >= LEAST

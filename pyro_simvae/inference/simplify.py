"""The same numbers by fewer operations: what a traced graph repeats, copies or spreads out for nothing is left away.

On small networks each operation costs its call, whatever its size. All that is done here is exact to the bit.
"""

from typing import Any

import torch
from torch import Tensor, fx
from torch.fx.node import map_arg
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._pytree import tree_leaves

aten = torch.ops.aten

LARGEST_CONSTANT = 2**20
"""Most bytes of a constant that is kept between steps."""

UNARY = {aten.neg.default, aten.log.default, aten.exp.default, aten.mul.Scalar, aten.div.Scalar, aten.add.Scalar}
UNARY |= {aten.rsub.Scalar, aten.pow.Tensor_Scalar, aten.reciprocal.default, aten.sqrt.default, aten.rsqrt.default}
POINTWISE = {aten.add.Tensor, aten.sub.Tensor, aten.mul.Tensor, aten.div.Tensor, aten.addcmul.default}
FUNCTIONS = {"add", "sub", "mul", "div", "neg", "log", "exp", "sum", "mean", "mm", "addmm", "bmm", "t", "sigmoid"}
FUNCTIONS |= {"addcmul", "rsub"}
METHODS = {"view", "expand", "unsqueeze", "transpose", "permute"}
RESHAPES = {aten.view.default, aten.unsqueeze.default, aten.expand.default}


def simplified(traced: fx.GraphModule) -> fx.GraphModule:
    """The same graph with fewer operations; it takes tensors and gives a flat tuple."""
    graph = traced.graph
    for node in graph.nodes:
        if node.op == "output":
            node.args = (tuple(node.args[0]),)
    written = _written(graph)
    _drop_copies(graph)
    _compute_constants(traced, written)
    _drop_broadcasts(graph)
    _drop_repeats(graph, written)
    graph.eliminate_dead_code()
    _call_directly(graph)
    graph.set_codegen(fx.graph.CodeGen())
    return fx.GraphModule(traced, graph)


def storages(node: fx.Node) -> dict[StorageWeakRef, int]:
    """The memory behind a node's tensors, and its size in bytes; views share that of what they look at."""
    tensors = [value for value in tree_leaves(node.meta.get("val")) if isinstance(value, Tensor)]
    return {StorageWeakRef(value.untyped_storage()): value.untyped_storage().nbytes() for value in tensors}


def _written(graph: fx.Graph) -> set[StorageWeakRef]:
    """Memory that some operation writes into, or whoever gets the outputs might."""
    written: set[StorageWeakRef] = set()
    for node in graph.nodes:
        if node.op == "output" or (node.op == "call_function" and _mutates(node)):
            written.update(*map(storages, node.all_input_nodes))
    return written


def _mutates(node: fx.Node) -> bool:
    schema = getattr(node.target, "_schema", None)
    return schema is not None and schema.is_mutable


def _draws(node: fx.Node) -> bool:
    return isinstance(node.target, torch._ops.OpOverload) and torch.Tag.nondeterministic_seeded in node.target.tags


def _drop_copies(graph: fx.Graph) -> None:
    """Aliases, and transposes of transposes."""
    for node in list(graph.nodes):
        source = node.args[0] if node.op == "call_function" and node.args else None
        if node.target in (aten.alias.default, aten.detach.default):
            same: Any = source
        elif node.target is aten.t.default and isinstance(source, fx.Node) and source.target is aten.t.default:
            same = source.args[0]
        else:
            continue
        node.replace_all_uses_with(same)
        graph.erase_node(node)


def _compute_constants(traced: fx.GraphModule, written: set[StorageWeakRef]) -> None:
    """What no input has a part in, such as numbers and index tensors, once instead of at each step.

    On a GPU this also takes copies from the host out of the graph, which a CUDA graph cannot hold.
    """
    for place, node in enumerate(list(traced.graph.nodes)):
        if node.op != "call_function" or not all(each.op == "get_attr" for each in node.all_input_nodes):
            continue
        if _draws(node) or _mutates(node) or storages(node).keys() & written:
            continue
        if not isinstance(node.meta.get("val"), Tensor) or sum(storages(node).values()) > LARGEST_CONSTANT:
            continue
        args, kwargs = map_arg((node.args, node.kwargs), lambda each: getattr(traced, str(each.target)))
        name = f"_constant{place}"
        with torch.no_grad():
            traced.register_buffer(name, node.target(*args, **kwargs))
        with traced.graph.inserting_before(node):
            constant = traced.graph.get_attr(name)
        constant.meta = dict(node.meta)
        node.replace_all_uses_with(constant)
        traced.graph.erase_node(node)


def _drop_broadcasts(graph: fx.Graph) -> None:
    """Tensors spread out before pointwise operations, which spread them out themselves."""
    small: dict[fx.Node, fx.Node] = {}  # what a node only spreads out

    def least(node: Any) -> Any:
        return small.get(node, node)

    for node in list(graph.nodes):
        if node.op != "call_function" or not node.all_input_nodes:
            continue
        source = node.all_input_nodes[0]
        if node.target is aten.expand.default or (node.target in RESHAPES and _shape(least(source)) == ()):
            small[node] = least(source)
        elif node.target in UNARY and source in small:
            with graph.inserting_before(node):
                new = graph.node_copy(node, least)
            new.meta["val"] = _result(new)
            small[node] = new
        elif node.target in POINTWISE and any(each in small for each in node.all_input_nodes):
            inputs = [least(each) for each in node.all_input_nodes]
            # Beside larger tensors, one without dimensions does not count for the type of the result.
            same_type = len({each.meta["val"].dtype for each in inputs}) == 1
            if same_type and torch.broadcast_shapes(*map(_shape, inputs)) == _shape(node):
                node.args = map_arg(node.args, least)


def _drop_repeats(graph: fx.Graph, written: set[StorageWeakRef]) -> None:
    """Operations done before on the same tensors."""
    seen: dict[Any, fx.Node] = {}
    for node in list(graph.nodes):
        if node.op != "call_function" or _mutates(node) or not isinstance(node.target, torch._ops.OpOverload):
            continue
        if node.target.namespace == "_c10d_functional":  # all processes must send alike, whatever their own rows are
            continue
        if _draws(node) or any(storages(each).keys() & written for each in (node, *node.all_input_nodes)):
            continue
        key = node.target, repr(node.args), repr(node.kwargs)
        if key in seen:
            node.replace_all_uses_with(seen[key])
            graph.erase_node(node)
        else:
            seen[key] = node


def _call_directly(graph: fx.Graph) -> None:
    """The frequent operations by torch's own functions, whose calls take half the time of an operator's."""
    for node in graph.nodes:
        name = node.target.overloadpacket.__name__ if isinstance(node.target, torch._ops.OpOverload) else ""
        if name in FUNCTIONS:
            node.target = getattr(torch, name)
        elif name in METHODS:
            node.op, node.target = "call_method", name


def _shape(node: fx.Node) -> torch.Size | None:
    value = node.meta.get("val")
    return value.shape if isinstance(value, Tensor) else None


def _result(node: fx.Node) -> Any:
    """What an operation gives, as a tensor without numbers."""
    target: Any = node.target
    args, kwargs = map_arg((node.args, node.kwargs), lambda each: each.meta["val"])
    mode = next(each.meta["val"] for each in node.all_input_nodes).fake_mode
    with mode:
        return target(*args, **kwargs)

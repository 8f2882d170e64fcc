"""A forward pass recorded once for each shape, and replayed without Python in between."""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_map, tree_unflatten

logger = logging.getLogger(__name__)

_TOLERANCE = 2e-2  # of bfloat16, whose kernels may differ between capture and eager pass

Capture = Callable[[Callable[[], Any]], tuple[Callable[[], None], Any]]
"""Records a function without arguments: what replays it, and the outputs each replay rewrites."""


@dataclass(frozen=True, slots=True)
class _Graph:
    inputs: list[Tensor]  # where a replay reads
    outputs: Any  # where it writes
    replay: Callable[[], None]


class CudaGraphs:
    """Stands in for a module's ``forward``.

    The first call of a shape runs as ever, which compiles what compiles; the second captures,
    later ones replay. A shape that cannot be captured, or does not replay what was computed,
    goes on as ever with a warning. The least recently used of more than ``limit`` shapes goes.
    """

    def __init__(
        self,
        forward: Callable[..., Any],
        capture: Capture,
        bypass: Callable[[], bool] = lambda: False,
        limit: int = 32,
    ) -> None:
        """While ``bypass`` says so, passes hold more than their arguments tell, and run as ever."""
        self._forward = forward
        self._capture = capture
        self._bypass = bypass
        self._limit = limit
        self._graphs: OrderedDict[Hashable, _Graph | None] = OrderedDict()
        """None for a shape that was seen once."""
        self._eager: set[Hashable] = set()
        """Shapes that cannot be captured."""

    @property
    def captured(self) -> int:
        """Graphs that are held."""
        return sum(graph is not None for graph in self._graphs.values())

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        leaves, structure = tree_flatten((args, kwargs))
        key = structure, tuple(map(_signature, leaves))
        if self._bypass() or key in self._eager:
            return self._forward(*args, **kwargs)
        if key not in self._graphs:
            self._keep(key, None)
            return self._forward(*args, **kwargs)
        tensors = [leaf for leaf in leaves if isinstance(leaf, Tensor)]
        graph = self._graphs[key] or self._record(leaves, structure)
        if graph is None:
            del self._graphs[key]
            self._eager.add(key)
            return self._forward(*args, **kwargs)
        self._keep(key, graph)
        return _replayed(graph, tensors)

    def _keep(self, key: Hashable, graph: _Graph | None) -> None:
        self._graphs[key] = graph
        self._graphs.move_to_end(key)
        if len(self._graphs) > self._limit:
            self._graphs.popitem(last=False)

    def _record(self, leaves: list[Any], structure: Any) -> _Graph | None:
        """Static copies of the inputs, and the pass over them."""
        static = [leaf.clone() if isinstance(leaf, Tensor) else leaf for leaf in leaves]
        inputs = [leaf for leaf in static if isinstance(leaf, Tensor)]
        args, kwargs = tree_unflatten(static, structure)
        expected = self._forward(*args, **kwargs)
        try:
            replay, outputs = self._capture(lambda: self._forward(*args, **kwargs))
            graph = _Graph(inputs, outputs, replay)
            tree_map(lambda leaf: leaf.zero_() if isinstance(leaf, Tensor) else leaf, outputs)
            if _close(_replayed(graph, inputs), expected):
                return graph
            reason = "it replays something else"
        except RuntimeError as error:  # a broken device is told by the eager pass that follows
            reason = str(error)
        logger.warning("A forward pass runs without a CUDA graph: %s.", reason)
        return None


class CudaCapture:
    """``Capture`` by torch.cuda.graph; all graphs share a memory pool, as they run in turn."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self._pool = torch.cuda.graph_pool_handle()
        self._failed: list[Any] = []

    def __call__(self, run: Callable[[], Any]) -> tuple[Callable[[], None], Any]:
        """Raises what ``run`` or the capture raises; torch is then as it was before."""
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.device(self._device):
            before = torch.cuda.current_stream()
            try:
                # What another thread of the process does meanwhile is no part of it.
                with torch.cuda.graph(
                    graph, self._pool, self._stream, capture_error_mode="thread_local"
                ):
                    outputs = run()
            except Exception:
                self._clean_up(graph, before)
                raise
        return graph.replay, outputs

    def _clean_up(self, graph: Any, before: Any) -> None:
        """What torch.cuda.graph leaves undone where the capture cannot even be ended.

        The capture's stream is current still, and its pool open. That is closed as torch's own
        use_mem_pool does it; the graph stays, as the host's allocator goes on asking it.
        """
        torch.cuda.set_stream(before)
        device = torch.cuda.current_device()
        try:
            torch._C._cuda_endAllocateToPool(device, self._pool)
        except RuntimeError:
            return  # the capture was ended, and only what it ran had raised
        torch._C._cuda_releasePool(device, self._pool)
        self._failed.append(graph)
        self._pool = torch.cuda.graph_pool_handle()


def _signature(leaf: Any) -> Hashable:
    if isinstance(leaf, Tensor):
        return leaf.shape, leaf.stride(), leaf.dtype, leaf.device
    return type(leaf), leaf


def _replayed(graph: _Graph, tensors: list[Tensor]) -> Any:
    for static, given in zip(graph.inputs, tensors, strict=True):
        static.copy_(given)
    graph.replay()
    return tree_map(lambda leaf: leaf.clone() if isinstance(leaf, Tensor) else leaf, graph.outputs)


def _close(ours: Any, theirs: Any) -> bool:
    pairs = zip(tree_flatten(ours)[0], tree_flatten(theirs)[0], strict=True)
    return all(
        torch.allclose(a, b, rtol=_TOLERANCE, atol=_TOLERANCE, equal_nan=True)
        for a, b in pairs
        if isinstance(a, Tensor)
    )

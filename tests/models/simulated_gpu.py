"""A GPU that computes shapes alone: a machine without one shows which operations a program starts, and where it waits."""

import contextlib
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode, unset_fake_temporarily
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map

GPU = torch.device("cuda:0")
NO_KERNELS = frozenset(
    (
        "view", "_unsafe_view", "t", "transpose", "unbind", "slice", "select", "split", "split_with_sizes", "unsqueeze",
        "squeeze", "expand", "unfold", "as_strided", "permute", "detach", "alias", "reshape", "unflatten", "lift_fresh",
        "device", "empty", "empty_strided", "new_empty", "is_pinned",
    )
)  # fmt: skip
"""Operations that start nothing on a GPU: views, memory, questions."""
WAITS = frozenset(["_local_scalar_dense", "nonzero"])


class SimulatedGpu(TorchDispatchMode):
    """Tensors on GPU have shapes and no numbers; those on the CPU are real, as sizes follow from them."""

    def __init__(self) -> None:
        super().__init__()
        self.fake = FakeTensorMode(allow_non_fake_inputs=True)
        self.kernels: Counter[str] = Counter()
        """How often each operation was started."""
        self.waits: list[str] = []
        """Operations that end when the GPU has done all that was started before them."""

    def forget(self) -> None:
        """Count from now on."""
        self.kernels.clear()
        self.waits.clear()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """The result of an operation, which is counted where it works on the GPU."""
        kwargs = kwargs or {}
        name, target = func.overloadpacket.__name__, kwargs.get("device")
        tensors = [leaf for leaf in tree_flatten((args, kwargs))[0] if isinstance(leaf, Tensor)]
        if name in ("pin_memory", "_pin_memory"):
            return tensors[0]
        from_gpu = any(isinstance(tensor, FakeTensor) for tensor in tensors)
        to_gpu = target is not None and torch.device(target).type == "cuda"
        if not from_gpu and not to_gpu:
            with unset_fake_temporarily():
                return func(*args, **kwargs)
        is_copy = name == "_to_copy" and target is not None and from_gpu != to_gpu
        if name in WAITS:
            self.waits.append(name)
        elif is_copy and not kwargs.get("non_blocking", False):
            self.waits.append(f"_to_copy of {tuple(tensors[0].shape)} {'to' if to_gpu else 'from'} the GPU")
        if name not in NO_KERNELS:
            self.kernels[name] += 1
        args, kwargs = tree_map(self._simulated, (args, kwargs))
        return func(*args, **kwargs)

    def _simulated(self, leaf: Any) -> Any:
        is_real = isinstance(leaf, Tensor) and not isinstance(leaf, FakeTensor)
        return self.fake.from_tensor(leaf) if is_real else leaf


@contextlib.contextmanager
def simulated(monkeypatch: pytest.MonkeyPatch, precision: str = "bf16") -> Iterator[SimulatedGpu]:
    """A block in which tensors on GPU are simulated, under autocast where the precision is bf16."""
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda *_: (9, 0))
    gpu = SimulatedGpu()
    # torch.autocast itself refuses a GPU that is not there.
    before, dtype = torch.is_autocast_enabled("cuda"), torch.get_autocast_dtype("cuda")
    with gpu.fake, gpu:
        torch.set_autocast_enabled("cuda", precision == "bf16")
        torch.set_autocast_dtype("cuda", torch.bfloat16)
        try:
            yield gpu
        finally:
            torch.set_autocast_enabled("cuda", before)
            torch.set_autocast_dtype("cuda", dtype)

"""Outputs of a model in memory for clips, and the device it runs on."""

import contextlib
from collections.abc import Callable, Iterator

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from w2v2.errors import UserError
from w2v2.features.batches import ClipSet, scoring_batches
from w2v2.models.classifier import Classifier
from w2v2.models.device import fetched, on_device, select_device
from w2v2.models.malloc import malloc_keeps_freed_memory
from w2v2.training.process_group import ProcessGroup


@malloc_keeps_freed_memory()
@torch.no_grad()
def predict_logits(
    model: Classifier, clips: ClipSet, *, precision: str = "float32", group: ProcessGroup | None = None
) -> Float[np.ndarray, "clips outputs"]:
    """Outputs of every clip in order, in evaluation mode; batches change nothing but rounding.

    Each of several processes computes a share of the clips, and all return the outputs of all clips. Raises UserError
    where the GPU's memory does not suffice.
    """
    model.eval()
    group = group or ProcessGroup()
    device = next(model.parameters()).device
    share = group.share(np.arange(len(clips)))
    longest = int(clips.lengths.max(initial=1))
    computed: list[tuple[Int[np.ndarray, " batch"], Callable[[], Tensor]]] = []
    num_longest = 64 if device.type == "cuda" else 8
    for rows in scoring_batches(clips.lengths[share], num_longest=num_longest, longest=longest):
        batch = share[rows]
        inputs = [*clips.select(batch), clips.descriptors_of(batch)]
        with memory_hint(), torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
            computed.append((batch, fetched(model(*on_device(device, *inputs)).float())))
    outputs = torch.zeros(len(clips), model.num_outputs)
    for batch, fetch in computed:
        outputs[batch] = fetch()
    return group.sum(outputs.to(device)).cpu().numpy()


def device_for(precision: str) -> torch.device:
    """The GPU if this process has one, else the CPU. Raises UserError for bf16 without a GPU."""
    device = select_device()
    if precision == "bf16" and device.type == "cpu":
        raise UserError("resources.precision is bf16 but there is no GPU here; wanted float32 on a CPU")
    return device


LESS_MEMORY = (
    "lower --optim.batch_size or raise --optim.accumulation_steps, cut long clips with --audio.crop_s, or train less "
    "with --encoder.train last"
)


@contextlib.contextmanager
def memory_hint(less_memory: str = LESS_MEMORY) -> Iterator[None]:
    """A block that, out of GPU memory, raises UserError with the settings to change."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise UserError(f"out of GPU memory ({str(error).splitlines()[0][:120]}); {less_memory}") from error

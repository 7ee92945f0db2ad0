"""The weights of a model that training changes: their values and their number."""

from jaxtyping import Float
from torch import Tensor, nn

from w2v2.models.ctc import SpeechModel
from w2v2.models.pretraining import PretrainingModel


def trained_state(model: SpeechModel | PretrainingModel) -> dict[str, Float[Tensor, "..."]]:
    """All tensors that training changes: trained weights, and statistics of the training clips."""
    frozen = {name for name, parameter in model.named_parameters() if not parameter.requires_grad}
    frozen |= {name for name, _ in model.encoder.named_buffers(prefix="encoder")}
    return {name: value for name, value in model.state_dict().items() if name not in frozen}


def num_trained_parameters(model: nn.Module) -> int:
    """How many numbers are trained."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)

"""A check that the gradient of the loss reaches every weight that is to be trained."""

from torch import nn

from w2v2.errors import UserError
from w2v2.wording import listed

NUM_SHOWN = 8


def check_gradients(model: nn.Module) -> None:
    """Raises UserError naming the trained parameters that have no gradient after the backward pass of a step.

    A gradient of zeros counts as a gradient. Without one, a weight would never change, although the settings say that
    it is trained: some forwards, such as WavLM's attention, read the weights of layers and never call the modules that
    are wrapped around them.
    """
    trained = [(name, p.grad is not None) for name, p in model.named_parameters() if p.requires_grad]
    missing = [name for name, has_gradient in trained if not has_gradient]
    if missing:
        raise UserError(
            f"{len(missing)} of {len(trained)} trained weights of this encoder get no gradient from the loss, so they would "
            f"stay as they are: {listed(missing, num_shown=NUM_SHOWN)}; train less of it (--encoder.train head), or "
            "another encoder"
        )

"""The vocabulary and output layer of a CTC model in transformers' format, such as facebook/wav2vec2-base-960h."""

import json

from jaxtyping import Float
from torch import Tensor
from transformers import AutoModelForCTC, Wav2Vec2CTCTokenizer

from w2v2.config.model import EncoderConfig
from w2v2.data.text import Vocabulary
from w2v2.errors import UserError
from w2v2.models.architecture import KEPT_VOCABULARY, WANTED_VOCABULARY, check_vocabulary
from w2v2.models.model_files import is_on_hub, read_model_file
from w2v2.models.pretrained import missing_weights, open_folder, read_checkpoint


def read_vocabulary(
    name: str, *, field: str = KEPT_VOCABULARY, wanted: str = WANTED_VOCABULARY
) -> Vocabulary:
    """The vocabulary of the CTC model in a hub repository, a local or a gs:// folder.

    Raises UserError, which begins with the field and ends with what is wanted, where it has none, and where its
    tokens are no single characters.
    """
    check_vocabulary(name, field=field, wanted=wanted)
    if is_on_hub(name):  # transformers would do with other special tokens where the hub does not give them
        read_model_file(name, "tokenizer_config.json", field=field)
    try:
        tokenizer = Wav2Vec2CTCTokenizer.from_pretrained(open_folder(name))
    except (OSError, TypeError, json.JSONDecodeError) as error:
        raise UserError(
            f"{field} {name!r} has no vocabulary that can be read "
            f"({str(error).splitlines()[0][:160]}): {wanted}"
        ) from error
    numbers, delimiter = tokenizer.get_vocab(), tokenizer.word_delimiter_token
    if delimiter not in tokenizer.encoder:  # added when it was read, so that no output has its number
        numbers.pop(delimiter, None)
    tokens = tuple(sorted(numbers, key=numbers.__getitem__))
    if sorted(numbers.values()) != list(range(len(tokens))):
        raise UserError(
            f"{field} {name!r}: the numbers of vocab.json are not 0 to {len(tokens) - 1}: {wanted}"
        )
    special = {tokenizer.bos_token, tokenizer.eos_token, tokenizer.unk_token} & set(tokens)
    return Vocabulary(
        tokens=tokens,
        blank=tokenizer.pad_token_id,
        word_delimiter=delimiter if delimiter in tokens and delimiter != tokenizer.pad_token else None,
        special=tuple(sorted(special - {tokenizer.pad_token, delimiter})),
    )


def read_output_layer(
    config: EncoderConfig,
    num_outputs: int,
    *,
    field: str = "text.vocab=model, but the output layer of encoder.name",
    wanted: str = "set --text.vocab train",
) -> tuple[Float[Tensor, "outputs dim"], Float[Tensor, " outputs"]]:
    """Weight and bias of the model's output layer. Raises UserError where it does not have num_outputs outputs."""
    model, report, _ = read_checkpoint(config.name, AutoModelForCTC)
    lost = any(key.startswith("lm_head") for key in missing_weights(report))
    if lost or model.lm_head.out_features != num_outputs:
        raise UserError(
            f"{field} {config.name!r} is missing or has {model.lm_head.out_features} outputs where its vocab.json has "
            f"{num_outputs}: {wanted}"
        )
    return model.lm_head.weight.detach(), model.lm_head.bias.detach()

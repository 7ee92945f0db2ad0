"""The characters that a model of transcripts is trained to write."""

from w2v2.config.finetune import FinetuneConfig
from w2v2.data import text, transcripts
from w2v2.data.manifest import Manifest


def vocabulary_of(config: FinetuneConfig, manifest: Manifest) -> text.Vocabulary:
    """The characters of the training split, or the vocabulary of the CTC model that is trained further.

    Raises UserError where that model has no vocabulary, or one that lacks too many of the training characters.
    """
    references = transcripts.references_of(manifest.clips, "train")
    if config.text.vocab == "train":
        return text.vocabulary_of(references, config.text)
    from w2v2.models.ctc_checkpoint import read_vocabulary  # imports torch

    vocabulary = read_vocabulary(config.encoder.name)
    transcripts.refuse_unknown(references, vocabulary, max_fraction=config.text.max_unknown_fraction)
    return vocabulary

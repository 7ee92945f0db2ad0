"""What metrics.json and the model card report of a training before it begins: the encoder, the data, settings and versions."""

import pyarrow.compute as pc

from w2v2.config import command_line
from w2v2.config.finetune import FinetuneConfig
from w2v2.config.pretrain import PretrainConfig
from w2v2.data import splits
from w2v2.data.manifest import Manifest
from w2v2.features.encoder_info import EncoderInfo
from w2v2.json_types import Json
from w2v2.models import provenance
from w2v2.versions import library_versions


def encoder_of_finetuning(config: FinetuneConfig, info: EncoderInfo, corpus: Manifest) -> dict[str, str]:
    """`encoder` of metrics.json and of the model card, with the overlap of the test clips and its training data."""
    test = corpus.clips.select(["speaker", "audio_digest"]).filter(pc.equal(corpus.clips["split"], "test"))
    return {
        "name": config.encoder.name,
        "train": config.encoder.train,
        "digest": info.digest,
        "cut": info.cut,
        **provenance.encoder_overlap(config.encoder.name, test),
    }


def card_of_finetuning(config: FinetuneConfig, corpus: Manifest, encoder: dict[str, str]) -> dict[str, Json]:
    """The model card of a fine-tuning: data, encoder, settings and versions."""
    data: dict[str, Json] = {
        "uri": config.data.uri,
        "num_clips": len(corpus.clips),
        "num_speakers": len(corpus.clips["speaker"].unique()),
        "num_rejects": len(corpus.rejects),
        "splits": dict(splits.num_clips(corpus.clips)),
    }
    return _card(data, encoder, config)


def encoder_of_pretraining(config: PretrainConfig, *, digest: str) -> dict[str, str]:
    """`encoder` of metrics.json and of the model card: the encoder that training began with."""
    return {
        "name": config.encoder.name,
        "weights": "random" if config.encoder.is_random else "checkpoint",
        "train": config.encoder.train,
        "digest": digest,
    }


def card_of_pretraining(config: PretrainConfig, corpus: Manifest, encoder: dict[str, str]) -> dict[str, Json]:
    """The model card of a pre-training: data, encoder, settings and versions."""
    data: dict[str, Json] = {
        "uri": config.data.uri,
        "num_clips": len(corpus.clips),
        "num_speakers": len(corpus.clips["speaker"].unique()),
        "hours": round(pc.sum(corpus.clips["duration_s"]).as_py() / 3600, 3),
    }
    return _card(data, encoder, config)


def _card(
    data: dict[str, Json], encoder: dict[str, str], config: FinetuneConfig | PretrainConfig
) -> dict[str, Json]:
    return {
        "data": data,
        "encoder": encoder,
        "settings": command_line.tree(config),
        "versions": library_versions("torch", "transformers", "ray"),
    }

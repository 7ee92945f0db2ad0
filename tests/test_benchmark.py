import importlib.util
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import Wav2Vec2Config, Wav2Vec2FeatureExtractor, Wav2Vec2Model

from w2v2 import (
    bench_clips,
    bench_decode,
    bench_encoder,
    bench_extract,
    bench_memory,
    bench_process,
    bench_reading,
    bench_recomputed,
    bench_report,
    bench_search,
    bench_startup,
    bench_train,
    bench_trainer,
    cli,
    folds,
    manifest,
    rundir,
)
from w2v2.bench_config import (
    BenchmarkConfig,
    ExtractSizes,
    MemorySizes,
    ReadingSizes,
    SearchSizes,
    TrainSizes,
)
from w2v2.bench_loop import Loop, embed_files
from w2v2.bench_result import OURS, Agreement, CaseResult, Comparison, alternate, lines_of, table_of
from w2v2.clips import shuffled_batches
from w2v2.config import DataConfig, FoldsConfig, UserError
from w2v2.features import normalized
from w2v2.heads import Classifier, fresh
from w2v2.model_config import EncoderConfig, HeadConfig, OptimConfig, TrainingConfig
from w2v2.search import Study, distribution, field_at
from w2v2.training import score_fold
from w2v2.weights import load_encoder

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "jobs"))

import benchmark  # noqa: E402

OPTIM = OptimConfig(learning_rate=1e-3, schedule="linear", warmup_fraction=0.0, batch_size=4)


@pytest.fixture(scope="module")
def group_norm(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A small encoder of the kind that stock code gets wrong under padding, with 48 kernels of positions."""
    folder = tmp_path_factory.mktemp("group_norm")
    config = Wav2Vec2Config(
        hidden_size=24, num_hidden_layers=3, num_attention_heads=2, intermediate_size=40, conv_dim=(16, 20, 28),
        conv_kernel=(10, 3, 2), conv_stride=(5, 8, 8), num_conv_pos_embeddings=48, num_conv_pos_embedding_groups=4,
        layerdrop=0.0, hidden_dropout=0.0, attention_dropout=0.0, activation_dropout=0.0, feat_proj_dropout=0.0,
        apply_spec_augment=False,
    )  # fmt: skip
    torch.manual_seed(3)
    Wav2Vec2Model(config).save_pretrained(folder)
    Wav2Vec2FeatureExtractor(do_normalize=True, return_attention_mask=False).save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> str:
    return bench_encoder.encoder_folder("tiny", tmp_path_factory.mktemp("tiny"), seed=5)


@pytest.fixture(scope="module")
def clips() -> bench_trainer.Labelled:
    lengths_s = np.linspace(0.5, 1.3, 11)
    return bench_trainer.Labelled(
        waveforms=bench_clips.waveforms(lengths_s, seed=2),
        targets=np.arange(11) % 3,
        folds=np.arange(11) % 2,
        num_classes=3,
    )


# -- settings


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: BenchmarkConfig(), "cases is empty: name one or more of search, head, all, extract, reading"),
        (lambda: BenchmarkConfig(cases=("all", "all")), "cases must be different, got all, all"),
        (lambda: BenchmarkConfig(cases=("all",), encoder=""), "encoder is empty: give base, tiny"),
        (lambda: BenchmarkConfig(cases=("all",), rounds=-1), "rounds must be at least 0, got -1"),
        (lambda: SearchSizes(num_clips=11), "search.num_clips must be at least twice search.num_folds=6, got 11"),
        (lambda: SearchSizes(num_folds=1), "search.num_folds must be at least 2, got 1"),
        (lambda: TrainSizes(num_clips=1), "train.num_clips must be at least 2, got 1"),
        (lambda: ExtractSizes(batch_size=0), "extract.batch_size must be at least 1, got 0"),
        (lambda: ReadingSizes(num_objects=0), "reading.num_objects must be at least 1, got 0"),
        (lambda: MemorySizes(num_trials=(3, 3)), "memory.num_trials must be a small and a larger number, got 3 and 3"),
        (lambda: MemorySizes(clip_s=0.01), "memory.clip_s must be at least 0.1, got 0.01"),
    ],
)  # fmt: skip
def test_settings_that_make_no_sense_are_refused(make, message):
    with pytest.raises(UserError, match=message):
        make()


def test_words_before_the_flags_are_cases():
    args = benchmark.with_cases(["search", "head", "--encoder", "tiny", "--rounds", "2"])
    config = cli.parse(BenchmarkConfig, args)
    assert (config.cases, config.encoder, config.rounds) == (("search", "head"), "tiny", 2)
    assert benchmark.with_cases(["--cases", "[all]"]) == ["--cases", "[all]"]
    with pytest.raises(UserError, match="cases"):
        cli.parse(BenchmarkConfig, benchmark.with_cases(["extrakt"]))


def test_rounds_are_those_of_the_case_unless_given():
    config = BenchmarkConfig(cases=("all",))
    assert [config.rounds_of(case) for case in ("extract", "all", "search")] == [3, 4, 1]
    assert replace(config, rounds=5).rounds_of("search") == 5


# -- results


def test_sides_run_in_turn_and_in_reverse_every_other_round():
    order = []
    sides = {name: (lambda number, name=name: order.append((number, name)) or name) for name in "abc"}
    rounds = alternate(sides, rounds=3, what="test")
    assert [name for _, name in order] == list("abccbaabc")
    assert [number for number, _ in order] == [0] * 3 + [1] * 3 + [2] * 3
    assert rounds.results == {name: [name] * 3 for name in "abc"}
    assert all(len(values) == 3 and min(values) >= 0 for values in rounds.seconds.values())


def made_result() -> CaseResult:
    comparison = Comparison(
        part="part",
        seconds={OURS: [1.0, 2.0, 4.0], "peer": [5.0, 6.0, 8.0], "other": [1.0, 1.0, 1.0]},
        amount=8,
        unit="clips",
        wanted={"peer": 3.5},
    )
    agreements = [
        Agreement(part="part", side=OURS, what="error", value=0.5, at_most=0.25),
        Agreement(part="part", side="peer", what="error", value=float("nan")),
    ]
    return CaseResult(case="extract", comparisons=[comparison], agreements=agreements, notes=["a note"])


def test_ratios_are_taken_round_by_round():
    (comparison,) = made_result().comparisons
    assert comparison.ratios("peer") == [5.0, 3.0, 2.0]
    assert comparison.median(OURS) == 2.0


def test_lines_say_what_was_reached_and_what_does_not_hold():
    lines = lines_of(made_result())
    assert lines[0] == "extract: part, 8 clips, median of 3"
    assert lines[1].split() == ["w2v2", "2", "s", "4", "clips/s"]
    assert lines[2].endswith("3 x ours (2 to 5), wanted 3.5: MISSED")
    assert lines[3].endswith("0.5 x ours (0.25 to 1)")
    assert lines[4] == "extract: part: w2v2: error 0.5, at most 0.25: DOES NOT HOLD"
    assert lines[5:] == ["extract: part: peer: error nan", "extract: a note"]
    better = replace(made_result().comparisons[0], wanted={"peer": 3.0})
    assert "wanted 3: reached" in "\n".join(lines_of(CaseResult(case="all", comparisons=[better])))


def test_nan_never_agrees():
    assert not Agreement(part="", side="", what="", value=float("nan")).holds
    assert Agreement(part="", side="", what="", value=3.0).holds


def test_a_case_that_is_run_again_replaces_its_own_numbers_alone(tmp_path):
    config = BenchmarkConfig(cases=("extract",), run=str(tmp_path))
    first, other = made_result(), replace(made_result(), case="reading")
    told = bench_report.machine()
    bench_report.write(config, [first, other], told)
    again = replace(first, comparisons=(), agreements=[Agreement(part="p", side=OURS, what="w", value=7.0)])
    bench_report.write(config, [again], told)
    table = rundir.read_table(str(tmp_path), "benchmark")
    kept = table.filter(pa.compute.equal(table["case"], "reading"))
    assert repr(kept.to_pylist()) == repr(table_of([other]).to_pylist())  # NaN is not equal to itself
    assert table.filter(pa.compute.equal(table["case"], "extract"))["value"].to_pylist() == [7.0]


def test_the_summary_is_plain_json_with_machine_and_settings(tmp_path):
    config = BenchmarkConfig(cases=("extract",), run=str(tmp_path))
    told = bench_report.machine()
    bench_report.write(config, [made_result()], told)
    found = json.loads((tmp_path / "benchmark-extract.json").read_text())
    assert found["machine"]["date"][:2] == "20" and found["machine"]["num_cores"] >= 1
    assert found["comparisons"][0]["sides"]["peer"]["ratios"] == [5.0, 3.0, 2.0]
    assert [row["value"] for row in found["agreements"]] == [0.5, None]
    assert [row["holds"] for row in found["agreements"]] == [False, False]
    assert found["config"]["search"]["num_trials"] == 3
    assert (tmp_path / "plots/benchmark-extract.png").read_bytes()[:4] == b"\x89PNG"
    assert f"{told['num_cores']} cores" in bench_report.machine_line(told)


# -- audio


def test_lengths_are_ravdess_like_or_heavy_tailed():
    ravdess, heavy = (f(4000, seed=1) for f in (bench_clips.ravdess_lengths_s, bench_clips.heavy_lengths_s))
    assert (ravdess.min(), ravdess.max()) == (2.94, pytest.approx(5.27, abs=0.5))
    assert ravdess.mean() == pytest.approx(3.7, abs=0.03)
    assert 2 <= heavy.min() < 2.1 and 25 < heavy.max() <= 30
    assert np.mean(heavy == 2) == 0  # drawn again, not cut
    assert np.array_equal(heavy, bench_clips.heavy_lengths_s(4000, seed=1))


@pytest.mark.parametrize("length_s", [0.1, 3.7, 6.3])
def test_speech_has_its_length_and_no_clipping(length_s):
    waveform = bench_clips.speech(length_s, actor=7, emotion=4, seed=0)
    assert waveform.dtype == np.float32 and len(waveform) == round(16_000 * length_s)
    assert np.isfinite(waveform).all() and np.abs(waveform).max() <= 1
    # Speech, not only the noise around it, wherever there is room for some.
    assert length_s < 0.3 or np.abs(waveform).max() > 0.05


@pytest.mark.parametrize(("num_clips", "num_folds"), [(12, 6), (31, 5), (60, 6)])
def test_the_corpus_can_be_dealt_into_folds(tmp_path, num_clips, num_folds):
    lengths_s = np.full(num_clips, 0.3)
    bench_clips.write_corpus(tmp_path, lengths_s, seed=0)
    found = manifest.read(DataConfig(uri=str(tmp_path)))
    assert (len(found.clips), len(found.rejects)) == (num_clips, 0)
    dealt = folds.assign(found.clips, FoldsConfig(kind="consecutive", num_folds=num_folds))
    assert set(dealt["fold"].to_pylist()) == set(range(num_folds))
    assert set(dealt["label"].to_pylist()) == {"sad", "angry"}


def test_short_clips_are_all_different(tmp_path):
    bench_clips.write_short_clips(tmp_path / "clips", num_clips=7, clip_s=0.1, seed=0)
    contents = {path.read_bytes() for path in (tmp_path / "clips").rglob("*.wav")}
    assert len(contents) == 7


# -- encoder


@pytest.mark.parametrize("num_samples", [16_000, 23_451])
def test_flops_are_those_that_torch_counts(group_norm, num_samples):
    model = Wav2Vec2Model.from_pretrained(group_norm, attn_implementation="eager").eval()
    with FlopCounterMode(display=False) as counted, torch.no_grad():
        model(torch.randn(1, num_samples))
    # The positional convolution pads by half a kernel on both sides and drops the last frame.
    assert bench_encoder.forward_flops(group_norm, [num_samples / 16_000]) == pytest.approx(
        counted.get_total_flops(), rel=0.02
    )


def test_flops_of_base_are_those_of_the_arithmetic_on_paper(tmp_path):
    bench_encoder.base_config().save_pretrained(tmp_path)
    assert bench_encoder.forward_flops(str(tmp_path), [3.7]) / 3.7 == pytest.approx(14.2e9, rel=0.01)


def test_base_has_nothing_random_left_in_training():
    config = bench_encoder.base_config()
    random = ("hidden_dropout", "attention_dropout", "activation_dropout", "feat_proj_dropout", "layerdrop")
    assert all(getattr(config, name) == 0 for name in random) and not config.apply_spec_augment
    assert (config.hidden_size, config.num_hidden_layers, config.feat_extract_norm) == (768, 12, "group")


def test_a_hub_name_or_folder_is_taken_as_it_is(tmp_path):
    assert (
        bench_encoder.encoder_folder("facebook/wav2vec2-base", tmp_path, seed=0) == "facebook/wav2vec2-base"
    )


# -- extraction


def test_the_loop_pads_as_its_name_says(group_norm):
    clips = bench_clips.waveforms([1.0, 1.0, 2.1], seed=0)
    loop = Loop(group_norm)
    single = loop.vectors(clips, padding="single", batch_size=2)
    longest = loop.vectors(clips, padding="longest", batch_size=2)
    # Two clips of one length need no padding, nor does a batch of one.
    np.testing.assert_allclose(longest, single, atol=1e-5)
    mixed = loop.vectors(clips[1:], padding="longest", batch_size=2)
    assert np.abs(mixed[0] - single[1]).max() > 1e-2
    np.testing.assert_allclose(mixed[1], single[2], atol=1e-5)
    model = Wav2Vec2Model.from_pretrained(group_norm).eval()
    ten = np.zeros(160_000, np.float32)
    ten[: len(clips[0])] = clips[0]
    with torch.no_grad():
        wanted = model(torch.from_numpy(normalized(ten))[None]).last_hidden_state.mean(1)[0].numpy()
    padded = loop.vectors(clips[:1], padding="10 s", batch_size=2)[0]
    np.testing.assert_allclose(padded, wanted, atol=1e-4)


def test_case_extract_writes_its_numbers_and_ours_agree(tmp_path, group_norm, capsys):
    config = BenchmarkConfig(
        cases=("extract",),
        run=str(tmp_path / "run"),
        rounds=2,
        encoder=group_norm,
        num_threads=1,
        extract=ExtractSizes(num_clips=5, batch_size=3),
    )
    (result,) = benchmark.main(config)
    parts = {comparison.part: comparison for comparison in result.comparisons}
    assert list(parts["RAVDESS lengths"].seconds) == [OURS, bench_extract.TO_10_S, bench_extract.SINGLE]
    assert list(parts["heavy-tailed lengths"].seconds)[1] == bench_extract.TO_LONGEST
    apart = {(a.part, a.side): a for a in result.agreements if "max abs difference from" in a.what}
    for part in parts:
        assert apart[part, OURS].holds and apart[part, OURS].value < 1e-5
    assert apart["RAVDESS lengths", bench_extract.TO_10_S].value > 1e-2
    assert apart["heavy-tailed lengths", bench_extract.TO_LONGEST].value > 1e-2
    table = rundir.read_table(str(tmp_path / "run"), "benchmark").to_pylist()
    assert sum(row["what"] == "seconds" for row in table) == 2 * 3 * 2
    assert (tmp_path / "run/plots/benchmark-extract.png").exists()


def test_the_loop_reads_files_in_the_order_given(tmp_path, tiny):
    sounds = bench_clips.waveforms([0.6, 0.9, 0.7], seed=0)
    paths = bench_clips.write_wavs(tmp_path / "audio", sounds)
    made = embed_files(tiny, paths, "single", 2, torch.get_num_threads())
    # The files have 16 bits.
    np.testing.assert_allclose(made, Loop(tiny).vectors(sounds, padding="single", batch_size=2), atol=1e-2)


@pytest.mark.slow
def test_vectors_of_the_whole_job_come_in_the_order_of_the_files(tmp_path, tiny):
    paths = bench_clips.write_wavs(tmp_path / "audio", bench_clips.waveforms([0.6, 0.9, 0.7], seed=0))
    job = bench_extract.extraction_of(tmp_path / "run", tmp_path / "audio", tiny)
    bench_process.run_job("extract_embeddings", job)
    made = bench_extract.table_vectors(tmp_path / "run/embeddings.db")
    wanted = embed_files(tiny, paths, "single", 1, torch.get_num_threads())
    np.testing.assert_allclose(made, wanted, atol=1e-5)


# -- training


def test_trainer_needs_accelerate(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"needs accelerate: install it with pip install 'w2v2\[bench\]'"):
        bench_trainer.check_trainer()
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: "found")
    bench_trainer.check_trainer()


def test_trainer_gets_our_batches_epoch_by_epoch():
    lengths = np.array([5, 3, 8, 1, 9, 2, 7])
    batches = bench_trainer._Batches(lengths, batch_size=3, seed=4)
    for epoch in range(3):
        wanted = shuffled_batches(lengths, batch_size=3, seed=4, epoch=epoch)
        assert list(batches) == [batch.tolist() for batch in wanted]
    assert len(batches) == 3


@pytest.mark.parametrize("train", ["head", "last", "no_conv", "all"])
def test_the_peer_trains_the_same_weights_and_has_no_graph_below_them(group_norm, train):
    encoder = EncoderConfig(name=group_norm, train=train, num_last_layers=1)
    peer = bench_trainer.load_peer(group_norm, encoder, 3).train()
    ours = load_encoder(encoder, seed=0)
    named = {name for name, p in ours.model.named_parameters() if p.requires_grad}
    assert {name for name, p in peer.model.named_parameters() if p.requires_grad} == named
    assert {"head": 0, "last": 16}.get(train, len(named)) == len(named)
    seen = {}
    peer.model.feature_extractor.register_forward_hook(
        lambda module, args, output: seen.update(graph=output.requires_grad)
    )
    peer(torch.randn(2, 4000), torch.ones(2, 4000, dtype=torch.long), torch.tensor([0, 1]))["loss"].backward()
    assert seen["graph"] == (train == "all")


def test_the_peer_computes_our_loss_where_padding_does_no_harm(tiny, clips):
    """tiny normalises layer by layer, so stock code with an attention mask is right."""
    config = EncoderConfig(name=tiny, train="all")
    encoder = load_encoder(config, seed=0)
    torch.manual_seed(1)
    ours = Classifier(encoder, HeadConfig(dropout=0.0), groups=[3]).eval()
    peer = bench_trainer.load_peer(tiny, config, 3).eval()
    torch.manual_seed(1)
    peer.head.reset_parameters()
    torch.testing.assert_close(peer.head.weight, ours.heads[0].layers[-1].weight)
    items = [(normalized(w), int(t)) for w, t in zip(clips.waveforms, clips.targets, strict=True)]
    batch = bench_trainer._collated(items)
    with torch.no_grad():
        theirs = peer(**batch)
        logits = ours(batch["input_values"], torch.from_numpy(clips.lengths))
    torch.testing.assert_close(theirs["logits"], logits, atol=1e-5, rtol=1e-5)
    wanted = torch.nn.functional.cross_entropy(logits, batch["labels"])
    torch.testing.assert_close(theirs["loss"], wanted)


def test_scores_of_the_peer():
    logits = np.log(np.array([[0.7, 0.2, 0.1], [0.1, 0.8, 0.1], [0.6, 0.3, 0.1]]))
    loss, uar = bench_trainer._scores(logits, np.array([0, 1, 1]), 3)
    assert loss == pytest.approx(-np.log([0.7, 0.8, 0.3]).mean())
    assert uar == pytest.approx((1 + 0.5) / 2)  # over the classes that are there
    assert np.isnan(bench_trainer._scores(np.empty((0, 3)), np.empty(0, int), 3)).all()


def test_epoch_losses_count_clips_not_batches():
    losses = [(torch.tensor(value), num) for value, num in ((1.0, 3), (5.0, 1), (2.0, 3), (4.0, 1))]
    assert bench_trainer._epoch_losses(losses, 2) == [2.0, 2.5]


def test_one_schedule_alone_is_the_same_on_both_sides(tmp_path):
    with pytest.raises(AssertionError, match="warm-ups differ"):
        bench_trainer.arguments_of(str(tmp_path), replace(OPTIM, warmup_fraction=0.1), num_epochs=1, seed=0)
    made = bench_trainer.arguments_of(str(tmp_path), OPTIM, num_epochs=7, seed=0)
    assert (made["num_train_epochs"], made["learning_rate"], made["warmup_steps"]) == (7, 1e-3, 0)


@pytest.mark.parametrize("train", ["head", "last", "no_conv"])
def test_training_without_cache_gives_the_same_losses(tiny, clips, train):
    encoder = load_encoder(EncoderConfig(name=tiny, train=train, num_last_layers=1), seed=0)
    whole = {
        name: bench_recomputed.clip_set(clips, clips.folds == fold)
        for name, fold in (("train", 0), ("held_out", 1))
    }
    cached = {name: bench_recomputed.features_of(encoder, waveforms) for name, waveforms in whole.items()}
    scores = []
    for kind, sets in ((Classifier, cached), (bench_recomputed.Recomputed, whole)):
        torch.manual_seed(6)
        scores.append(
            score_fold(
                kind(fresh(encoder), HeadConfig(dropout=0.0), groups=[3]),
                fold=1, held_out_ids=[""] * 5, optim=OPTIM, training=TrainingConfig(num_epochs=2), seed=6, **sets,
            )
        )  # fmt: skip
    assert scores[0].loss == pytest.approx(scores[1].loss, abs=1e-6)
    assert [e.train_loss for e in scores[0].curve] == pytest.approx(
        [e.train_loss for e in scores[1].curve], abs=1e-6
    )


@pytest.mark.skipif(importlib.util.find_spec("accelerate") is None, reason="Trainer needs accelerate")
def test_trainer_has_our_losses(tmp_path, tiny):
    config = BenchmarkConfig(
        cases=("all",), rounds=1, encoder=tiny, num_threads=1, train=TrainSizes(num_clips=7, batch_size=3)
    )
    result = bench_train.train(config, tmp_path)
    assert len(result.agreements) == 3 and all(found.value < 1e-5 for found in result.agreements)
    assert [list(comparison.seconds) for comparison in result.comparisons] == [[OURS, "Trainer"]] * 2


# -- searches


@pytest.fixture(scope="module")
def search_job(tmp_path_factory: pytest.TempPathFactory, tiny: str):
    corpus = bench_clips.write_corpus(tmp_path_factory.mktemp("corpus"), np.linspace(0.4, 0.6, 14), seed=0)
    config = BenchmarkConfig(cases=("search",), num_threads=1, search=SearchSizes(num_trials=4, num_epochs=1))
    return bench_search.job_of(config, corpus, tiny, train="last")


def test_trainer_gets_the_hyperparameters_that_the_job_will_propose(tmp_path, search_job):
    given = bench_search.proposals(search_job, tmp_path / "before")
    space = search_job.search.space
    defaults = {path: field_at(search_job, path) for path in space}
    made = {path: distribution(path, dimension, defaults[path]) for path, dimension in space.items()}
    study = Study(str(tmp_path / "run"), search=search_job.search, space=made, defaults=defaults, seed=0)
    for number, optim in enumerate(given):
        proposal = study.ask()
        assert proposal.params == {
            "optim.learning_rate": optim.learning_rate,
            "optim.weight_decay": optim.weight_decay,
        }
        study.report(proposal.number, [0.3 * number], num_folds=6)
        study.complete(proposal.number, [0.1 * number] * 6)
    assert study.ask() is None
    assert given[0] == search_job.optim and len({optim.learning_rate for optim in given}) == 4


def test_the_peer_sees_the_clips_as_the_job_does(search_job):
    clips = bench_search.labelled(search_job)
    found = folds.assign(manifest.read(search_job.data).clips, search_job.folds)
    assert clips.num_classes == 2 and len(clips.waveforms) == 14
    assert clips.folds.tolist() == found["fold"].to_pylist()
    names = manifest.classes_of(found)
    assert [names[target] for target in clips.targets] == found["label"].to_pylist()


def test_a_search_is_read_from_its_run_directory(tmp_path):
    trials = [
        {"trial": 0, "state": "COMPLETE", "uar_mean": 0.5},
        {"trial": 1, "state": "PRUNED", "uar_mean": 0.9},
        {"trial": 2, "state": "COMPLETE", "uar_mean": 0.7},
    ]
    rows = [{"trial": t, "fold": f, "train_loss": t + f / 10, "seconds": 2.0} for t in (0, 2) for f in (0, 1)]
    rundir.write_table(str(tmp_path), "trials", pa.Table.from_pylist(trials))
    rundir.write_table(str(tmp_path), "folds", pa.Table.from_pylist(rows))
    found = bench_search.read_search(str(tmp_path))
    assert (found.best, found.scores, found.train_seconds) == (2, {0: 0.5, 2: 0.7}, 8.0)
    assert found.losses == {(0, 0): 0.0, (0, 1): 0.1, (2, 0): 2.0, (2, 1): 2.1}
    folds_of_peer = [
        bench_trainer.PeerFold(
            trial=t,
            fold=f,
            train_losses=[9.0, t + f / 10],
            loss=1.0,
            uar=0.5 + 0.1 * t + 0.2 * f,
            seconds=2.0,
        )
        for t in (0, 2)
        for f in (0, 1)
    ]
    same = bench_search.summarised(folds_of_peer, 2)
    assert (same.best, same.losses, same.train_seconds) == (2, found.losses, 8.0)
    assert same.scores == pytest.approx({0: 0.6, 2: 0.8})


def test_a_search_is_compared_whole_and_in_its_training(tmp_path):
    config = BenchmarkConfig(cases=("search",))
    sides = (OURS, bench_search.PRUNED, bench_search.TRAINER)
    results = {
        side: [bench_search.Searched(best=0, scores={0: 1.0}, losses={(0, 0): 1.0}, train_seconds=seconds)]
        for side, seconds in zip(sides, (2.0, 1.0, 8.0), strict=True)
    }
    rounds = bench_search.Rounds(
        seconds=dict(zip(sides, ([20.0], [10.0], [30.0]), strict=True)), results=results
    )
    found = bench_search.compared(rounds, config, (3.5, 7.0))
    assert [c.ratios("Trainer") for c in found] == [[1.5], [3.0], [4.0], [8.0]]
    assert [c.wanted["Trainer"] for c in found] == [3.5, 7.0, 3.5, 7.0]


# -- reading


def test_all_ways_to_read_a_bucket_give_the_same(bucket, monkeypatch):
    sizes = ReadingSizes(num_objects=5, object_bytes=1000, latency_s=0.0, num_at_once=3)
    for number in range(5):
        bucket.put("bench", bench_reading._name(number), bytes([number]) * 1000)
    rounds = bench_reading.read_rounds(sizes, {}, 1)
    assert len(rounds.results) == 3
    assert len({digests[0] for digests in rounds.results.values()}) == 1
    # 3 ways to read 5 objects, and one warm-up for each of two clients.
    assert bucket.count("GET", "clips/") >= 17


def test_the_loopback_bucket_waits(monkeypatch):
    sizes = ReadingSizes(num_objects=2, object_bytes=10, latency_s=0.15)
    with bench_reading.loopback_bucket(sizes, seed=0) as environment:
        url = f"{environment['STORAGE_EMULATOR_HOST']}/storage/v1/b/bench/o/clips%2F00001.wav?alt=media"
        code = f"import time, urllib.request as u; t = time.time(); b = u.urlopen({url!r}).read(); print(len(b), time.time() - t > 0.15)"
        told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert told.split() == ["10", "True"]


def test_reading_and_jobs_need_a_checkout(monkeypatch, tmp_path):
    monkeypatch.setattr(bench_reading, "ROOT", tmp_path)
    monkeypatch.setattr(bench_process, "ROOT", tmp_path)
    with pytest.raises(
        UserError, match=r"needs the loopback bucket of the tests, and there is no .*gcs.py: run it from a"
    ):
        bench_reading.check_server()
    with pytest.raises(
        UserError, match=r"there is no .*tune_folds.py: run jobs/benchmark.py from a checkout"
    ):
        bench_process.job_file("tune_folds")


def test_every_decoder_gives_the_waveform():
    sides, notes = bench_decode.decoders()
    assert len(sides) + len(notes) == 5 and OURS in sides
    data = bench_decode.encoded("WAV", rate=44_100, channels=2, length_s=1.1, seed=0)
    exact = bench_decode.exactly(data)
    for decoder in sides.values():
        assert bench_decode.snr_db(exact, decoder(data)) > 25
    assert bench_decode.snr_db(exact, sides[OURS](data)) > 50


def test_the_ratio_of_signal_to_error():
    exact = np.array([1.0, -1.0, 1.0])
    assert bench_decode.snr_db(exact, np.array([1.1, -0.9, 1.1, 5.0], np.float32)) == pytest.approx(
        20, abs=1e-4
    )


# -- processes


def test_memory_is_summed_over_a_process_and_those_below_it():
    pytest.importorskip("psutil")
    hold = "b = bytearray(120_000_000); import time; time.sleep(0.6)"
    code = f"import subprocess, sys; p = subprocess.Popen([sys.executable, '-c', {hold!r}]); {hold}; p.wait()"
    ended = bench_process.run_command([sys.executable, "-c", code], watch_memory=True)
    assert 240e6 < ended.peak_bytes < 340e6


def test_memory_needs_psutil(monkeypatch):
    monkeypatch.setitem(sys.modules, "psutil", None)
    with pytest.raises(
        UserError, match=r"the case memory needs psutil: install it with pip install 'w2v2\[bench\]'"
    ):
        bench_process.Watch(1)


def test_a_command_that_fails_is_told_with_its_last_words():
    code = "import sys; print('one'); print('the reason', file=sys.stderr); sys.exit(3)"
    with pytest.raises(UserError, match=r"ended with code 3: .*the reason"):
        bench_process.run_command([sys.executable, "-c", code])


def test_lines_come_with_their_times():
    code = "import time; print('a'); time.sleep(0.2); print('b')"
    (first_s, first), (second_s, second) = bench_process.run_command([sys.executable, "-c", code]).lines
    assert (first, second) == ("a", "b") and 0.2 <= second_s - first_s < 2


def test_memory_is_told_by_size_with_the_ratio():
    told = bench_memory._told(
        "extraction", "clips", {1000: [100_000_000, 90_000_000], 20_000: [120_000_000, 80_000_000]}
    )
    assert [found.value for found in told] == pytest.approx([100, 120, 1.2])
    assert [found.holds for found in told] == [True, True, False]
    assert told[2].side == "20,000 clips" and told[2].what == "peak over that of 1,000"


# -- start-up


def test_phases_are_the_first_words_of_the_log():
    lines = [
        (0.5, "07:20:24 run: /somewhere (new)"),
        (0.6, "no stamp: is not ours"),
        (1.0, "07:20:25 ray: 1 node(s)"),
        (2.0, "07:20:26 features: 1 of 2 clips"),
        (3.0, "07:20:27 features: 2 of 2 clips"),
        (9.0, "07:20:33 trial 0 fold 1/6: uar 0.5, mean 0.5"),
        (9.5, "07:20:33 after: it"),
    ]
    found = bench_startup.phases_of(bench_process.Ended(lines=lines, seconds=10.0), 1.5)
    assert found == [("run", 0.5), ("ray", 1.0), ("features", 2.0), ("first training step", 7.5)]
    with pytest.raises(AssertionError, match="no first fold"):
        bench_startup.phases_of(bench_process.Ended(lines=lines[:3], seconds=10.0), 1.5)


def test_imports_are_summed_by_package():
    lines = [
        "import time: self [us] | cumulative | imported package",
        "import time:       100 |        100 |   numpy.core",
        "import time:      2000 |       2100 | numpy",
        "import time:       300 |        300 | zlib",
        "something else",
    ]
    assert bench_startup.import_seconds(lines) == pytest.approx({"numpy": 0.0021, "zlib": 0.0003})


@pytest.mark.slow
def test_a_search_tells_its_phases_and_its_folds(tmp_path):
    """What the cases search, memory and startup read of jobs/tune_folds.py is there."""
    corpus = bench_clips.write_corpus(tmp_path / "corpus", np.full(12, 0.5), seed=0)
    job = bench_memory.small_search(corpus, tmp_path, num_trials=1, seed=0)
    ended = bench_process.run_job("tune_folds", job)
    phases = dict(bench_startup.phases_of(ended, bench_startup.first_fold_s(job.run)))
    assert list(phases)[-1] == "first training step"
    assert {"run", "data", "ray", "encoder", "features", "folds"} <= phases.keys()
    assert list(phases.values()) == sorted(phases.values())
    found = bench_search.read_search(job.run)
    assert found.best == 0 and len(found.losses) == 6

"""Ensembles: what each member trains on, their average, and one model folder that gives it."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.made.corpora import deam_corpus, labelled_csv
from tests.training.test_finetuning import make_config, make_plan
from w2v2.config.data import DataConfig
from w2v2.config.finetune import FinetuneConfig
from w2v2.config.model import EncoderConfig, TaskConfig
from w2v2.errors import UserError
from w2v2.inference.prediction import predict_waveforms
from w2v2.models import provenance
from w2v2.models.model_info import read_info, read_members
from w2v2.models.pretrained import load_encoder
from w2v2.models.saved_model import load_model
from w2v2.training.ensembles import member_plans, train_ensemble
from w2v2.training.finetuning import HELD_OUT, finetune


@pytest.fixture(scope="module")
def plan(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ensemble")
    config = make_config(labelled_csv(folder / "data"), folder, "run")
    config = replace(config, ensemble="folds", ensemble_size=3)
    return make_plan(config)


@pytest.fixture(scope="module")
def trained(plan):
    return train_ensemble(plan, train=finetune)


def test_each_member_of_folds_leaves_out_other_speakers_and_all_are_left_out_once(plan):
    plans = member_plans(plan)
    train = {plan.clips["speaker"][row].as_py() for row in plan.rows("train")}
    held_out = [
        {member_plan.clips["speaker"][row].as_py() for row in member_plan.rows(HELD_OUT)}
        for member_plan in plans
    ]
    assert len(plans) == 3 and sum(map(len, held_out)) == len(train) and set.union(*held_out) == train
    for member_plan, speakers in zip(plans, held_out, strict=True):
        assert speakers and not speakers & {
            member_plan.clips["speaker"][row].as_py() for row in member_plan.rows("train")
        }
        assert member_plan.rows("test").tolist() == plan.rows("test").tolist()
    assert len({member_plan.seed for member_plan in plans}) == 3


def test_members_of_seeds_differ_by_their_seed_alone(plan):
    plans = member_plans(replace(plan, config=replace(plan.config, ensemble="seeds", ensemble_size=4)))
    assert [member_plan.seed for member_plan in plans] == [plan.config.seed + 100_003 * k for k in range(4)]
    assert all(
        member_plan.clips.equals(plan.clips) and member_plan.config.seed == plan.config.seed
        for member_plan in plans
    )


def test_the_folder_gives_the_mean_of_its_members(plan, trained):
    uri = f"{plan.config.run}/model"
    waveforms = [np.random.default_rng(seed).normal(0, 0.1, 9000).astype(np.float32) for seed in range(3)]
    saved = load_model(uri)
    assert len(saved.others) == 2 and saved.digest == trained.averaged.digest == read_info(uri)[1]
    each = [predict_waveforms(waveforms, load_model(member)) for member in read_members(uri)]
    assert np.abs(each[0] - each[1]).max() > 1e-3
    np.testing.assert_allclose(predict_waveforms(waveforms, saved), np.mean(each, axis=0), atol=1e-6)
    values = [one.values for one in trained.members]
    np.testing.assert_allclose(trained.averaged.values, np.mean(values, axis=0), atol=1e-6)
    assert trained.averaged.rows.tolist() == plan.rows("val", "test").tolist()
    assert trained.averaged.curve[-1].train_loss == pytest.approx(
        np.mean([one.curve[-1].train_loss for one in trained.members])
    )


def test_out_of_fold_every_training_clip_is_predicted_by_the_model_that_lacks_its_speaker(plan, trained):
    held_out = trained.out_of_fold
    assert sorted(held_out.rows.tolist()) == plan.rows("train").tolist()
    members = read_members(f"{plan.config.run}/model")
    for fold, member in enumerate(members):
        held_out_clips = plan.clips.take(held_out.rows[held_out.fold == fold])
        assert (
            provenance.overlap(member, held_out_clips).num_clips == 0
        )  # the folder keeps marks of what trained it
        assert provenance.overlap(member, held_out_clips).num_speakers == 0
    whole = plan.clips.take(plan.rows("train"))
    assert provenance.overlap(f"{plan.config.run}/model", whole).num_clips == len(whole)


def test_what_is_trained_is_not_trained_again(plan, trained):
    def train(member_plan):
        before = {
            path: path.stat().st_mtime_ns for path in Path(member_plan.config.run, "checkpoints").iterdir()
        }
        trained = finetune(member_plan)
        assert before == {
            path: path.stat().st_mtime_ns for path in Path(member_plan.config.run, "checkpoints").iterdir()
        }
        return trained

    again = train_ensemble(plan, train=train)
    assert again.averaged.digest == trained.averaged.digest
    np.testing.assert_array_equal(again.averaged.values, trained.averaged.values)


def test_a_member_that_was_exchanged_is_one_sentence(plan, trained, tmp_path):
    import shutil

    folder = shutil.copytree(Path(plan.config.run, "model"), tmp_path / "model")
    shutil.rmtree(folder / "member-01")
    shutil.copytree(folder / "member-00", folder / "member-01")
    with pytest.raises(UserError, match=r"its members are not those it was saved with"):
        load_model(str(folder))
    with pytest.raises(
        UserError,
        match=r"it is an ensemble, which has no encoder of its own; give one of its members, such as .*member-00",
    ):
        load_encoder(EncoderConfig(name=str(folder)), seed=0)
    load_encoder(EncoderConfig(name=str(folder / "member-00")), seed=0)


def test_values_are_averaged_in_their_units(tmp_path):
    task = TaskConfig(kind="regression")
    config = make_config(deam_corpus(tmp_path / "data"), tmp_path, "run", task=task)
    config = replace(
        config, data=DataConfig(uri=str(tmp_path / "data"), layout="deam"), ensemble="seeds", ensemble_size=2
    )
    plan = make_plan(config)
    ensemble = train_ensemble(plan, train=finetune)
    assert ensemble.out_of_fold is None and len(ensemble.members) == 2
    np.testing.assert_allclose(
        ensemble.averaged.values, np.mean([one.values for one in ensemble.members], axis=0), rtol=1e-5
    )


def test_transcripts_have_no_average():
    with pytest.raises(UserError, match="ensemble averages probabilities or values"):
        FinetuneConfig(ensemble="seeds", task=TaskConfig(kind="transcript"))
    with pytest.raises(UserError, match="ensemble_size must be at least 2"):
        FinetuneConfig(ensemble="seeds", ensemble_size=1)

"""The page of a pre-training: whether it is healthy, collapsed or not learning; its curves, codes and audio."""

from collections.abc import Mapping

from matplotlib.figure import Figure

from w2v2.job_commands import command_of
from w2v2.reports.blocks import (
    Block,
    Check,
    Checks,
    Facts,
    Paragraph,
    Quote,
    Score,
    Scores,
    Section,
    Side,
    Table,
    count,
    words,
)
from w2v2.reports.page import write_page
from w2v2.reports.plots import pretrain as plots
from w2v2.reports.recording_quality_section import recording_quality
from w2v2.reports.recordings import corpus_name
from w2v2.reports.run_files import PretrainRun, read_pretrain_run
from w2v2.reports.shared_sections import clips_blocks, kicker, lengths_text, pictured, provenance
from w2v2.reports.text import duration_text, percent_text
from w2v2.storage import files as storage
from w2v2.wording import counted

LEAK = (
    "A search over several folds with this one encoder scores speakers whose audio, without labels, it was pre-trained on. "
    "The jobs tune-folds, finetune and evaluate report this where it is so; pre-train with --per_fold true (an encoder "
    "for each fold) or --data.exclude_speakers for a score on speakers whom nothing has seen."
)


def write_pretrain_report(run: str) -> str:
    """The uri of `<run>/report.html`, made with plots/ and tables/ from the files of a run of `w2v2 pretrain`."""
    files = read_pretrain_run(storage.expand(run))
    figures = {
        "learning_curves": plots.learning_curves(
            files.curves,
            num_codes=files.metrics["num_codes"],
            alarm_perplexity=None if files.has_clusters else files.alarms["perplexity"],
        ),
        "code_usage": plots.code_usage(files.code_usage),
        "steps": plots.step_curves(files.steps, alarm_norm=files.alarms["gradient_norm"]),
    }
    sections = [
        Section("", headline(files, figures)),
        Section("Clusters" if files.has_clusters else "Codes", codes(files, figures)),
        Section("Steps", steps(files, figures)),
        Section("Data", data(files)),
        Section("Recording quality", recording_quality(files.metrics)),
        Section("How it was made", how_it_was_made(files)),
    ]
    title = f"Pre-training on {corpus_name(files.config['data'])}: {files.metrics['encoder']['name']}"
    return write_page(files.uri, title, sections, kicker=kicker(files), figures=figures)


def headline(run: PretrainRun, figures: Mapping[str, Figure]) -> list[Block]:
    """Accuracy against guessing, the verdict, sizes, and the learning curves."""
    last, metrics = run.metrics["last"], run.metrics
    whose = "validation clips" if last["split"] == "val" else "training clips"
    task = "put into its cluster" if run.has_clusters else "found among its candidates"
    kind = "cross entropy" if run.has_clusters else "contrastive loss"
    accuracy = f"accuracy on {whose}: the masked frame is {task}; guessing: "
    scores = [
        Score(percent_text(last["accuracy"]), accuracy + percent_text(last["chance_accuracy"])),
        Score(
            f"{last['loss']:.2f}",
            f"{kind} in nats per masked frame; guessing: {last['chance_loss']:.2f}",
        ),
    ]
    healthy = metrics["state"] == "healthy"
    left: list[Block] = [Scores(scores), Checks([Check(healthy, metrics["sentence"])])]
    if parts := metrics["encoder"]["new_weights"]:
        left.append(
            Paragraph(f"The checkpoint has no {' and '.join(parts)}: they began with random weights.")
        )
    caption = "Loss, accuracy and perplexity by epoch. Dashed: guessing"
    if run.has_clusters:
        caption += ", by how often each cluster occurs."
    else:
        caption += (
            ", and the perplexity below which the run counts as collapsed. The loss of guessing is ln(1 + "
            f"{run.config['mask']['num_negatives']}); other recipes' losses compare only at as many negatives (fairseq "
            "logs bits: times ln 2 they are nats)."
        )
    facts = {
        "clips trained on": f"{metrics['num_clips']['train']}",
        "clips validated with": f"{metrics['num_clips']['val']}",
        "of audio": duration_text(3600 * metrics["hours"]["all"]),
        "steps": f"{metrics['num_steps']}",
        "epochs": f"{last['epoch']}",
    }
    return [Side([left, pictured(figures, "learning_curves", caption)]), Facts(facts)]


def codes(run: PretrainRun, figures: Mapping[str, Figure]) -> list[Block]:
    """The use of the codes at the end, or the prediction of the clusters."""
    rows = run.code_usage.to_pylist()
    num_unused = sum(row["fraction"] == 0 for row in rows)
    last = run.metrics["last"]
    code = "cluster" if run.has_clusters else "code"
    text = (
        f"{len(rows) - num_unused} of {len(rows)} {code}s are used. The perplexity of the mean {code} probabilities is "
        f"{last['perplexity']:.1f}, the perplexity of the chosen {code}s {last['code_perplexity']:.1f}"
    )
    text += (
        "." if run.has_clusters else " (both summed over books; the first is what the diversity loss raises)."
    )
    split = "validation" if rows[0]["split"] == "val" else "training"
    caption = f"Masked frames of {split} clips by their {code}. Dashed: all equally often."
    return [Paragraph(text), *pictured(figures, "code_usage", caption)]


def steps(run: PretrainRun, figures: Mapping[str, Figure]) -> list[Block]:
    """The gradient and the schedules."""
    caption = (
        "Norm of the gradient, learning rate and Gumbel temperature by step. Dashed: the norm below which, with a loss at "
        "the loss of guessing, only the diversity of the codes is learned."
    )
    return pictured(figures, "steps", caption)


def data(run: PretrainRun) -> list[Block]:
    """Sizes, the speakers that were left out, and a warning on scores of the others with this encoder."""
    excluded = run.config["data"]["exclude_speakers"]
    text = f"{counted(run.manifest.num_rows, 'clips')}, from {run.config['data']['uri']}.{lengths_text(run.manifest)}"
    if excluded:
        text += f" data.exclude_speakers leaves out {counted(len(excluded), 'speakers')}."
    rows = [
        [name, run.metrics["num_clips"][split], run.num_speakers(split)]
        for split, name in (("train", "train"), ("val", "validation"))
    ]
    table = Table("clips", [words("split"), count("clips"), count("speakers")], rows, "Clips by split.")
    return [Paragraph(text), table, Paragraph(LEAK), *clips_blocks(run)]


def how_it_was_made(run: PretrainRun) -> list[Block]:
    """The job, its settings and versions, its cost, the command to run it again, and the next step."""
    facts: dict[str, object] = {"seed": run.config["seed"]}
    facts |= {f"encoder {key}": value for key, value in run.metrics["encoder"].items() if value != []}
    facts |= {"model": run.metrics["model"]["uri"]}
    following = (
        f"{command_of('tune_folds')} --encoder.name {run.metrics['model']['uri']} --encoder.train head"
    )
    return [
        *provenance(run, facts, command_note="To run it again:"),
        Paragraph("To score a classifier on top of it:"),
        Quote(following, is_code=True),
    ]

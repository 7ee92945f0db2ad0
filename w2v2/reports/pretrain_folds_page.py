"""The page of a pre-training by fold: each fold's encoder, the speakers that it has not seen, and how well it learned."""

from w2v2.job_commands import command_of
from w2v2.reports.blocks import (
    Block,
    Check,
    Checks,
    Facts,
    Paragraph,
    Quote,
    Section,
    Table,
    count,
    number,
    percent,
    words,
)
from w2v2.reports.page import write_page
from w2v2.reports.recordings import corpus_name
from w2v2.reports.run_files import RunFiles, read_run_files
from w2v2.reports.shared_sections import kicker, lengths_text, provenance, rejects_blocks
from w2v2.storage import files as storage
from w2v2.wording import counted

PURPOSE = (
    "Each encoder was pre-trained without the audio of the speakers that its fold holds out. A search (tune-folds) trains and "
    "scores each fold with the fold's own encoder, so its score is of speakers whom nothing has seen; it refuses other folds."
)


def write_pretrain_folds_report(run: str) -> str:
    """The uri of `<run>/report.html`, made with tables/ from the files of `w2v2 pretrain --per_fold true`."""
    files = read_run_files(storage.expand(run))
    sections = [
        Section("", headline(files)),
        Section("Data", data(files)),
        Section("How it was made", how_it_was_made(files)),
    ]
    title = f"Pre-training by fold on {corpus_name(files.config['data'])}: {files.metrics['encoder']['name']}"
    return write_page(files.uri, title, sections, kicker=kicker(files), figures={})


def headline(run: RunFiles) -> list[Block]:
    """Whether all encoders are healthy, and each one's numbers."""
    folds = run.metrics["per_fold"]
    checks = [
        Check(encoder["state"] == "healthy", f"Fold {fold}: {encoder['sentence']}")
        for fold, encoder in enumerate(folds)
    ]
    columns = [
        words("fold"),
        words("speakers left out"),
        words("state"),
        percent("accuracy"),
        percent("guessing"),
        number("loss (nats)"),
        number("perplexity"),
        count("clips trained on"),
        words("page"),
    ]
    rows = [
        [
            str(fold),
            ", ".join(encoder["held_out"]),
            encoder["state"],
            encoder["last"]["accuracy"],
            encoder["last"]["chance_accuracy"],
            encoder["last"]["loss"],
            encoder["last"]["perplexity"],
            encoder["num_clips"]["train"],
            f"fold-{fold}/report.html",
        ]
        for fold, encoder in enumerate(folds)
    ]
    caption = "Each fold's encoder at its end, on validation clips where there are some. All folds' speakers are different."
    facts = {
        "encoders": f"{len(folds)}",
        "healthy": f"{sum(encoder['state'] == 'healthy' for encoder in folds)}",
    }
    return [Facts(facts), Paragraph(PURPOSE), Table("folds", columns, rows, caption), Checks(checks)]


def data(run: RunFiles) -> list[Block]:
    """Sizes, and what could not be used."""
    text = f"{counted(run.manifest.num_rows, 'clips')}, from {run.config['data']['uri']}.{lengths_text(run.manifest)}"
    return [Paragraph(text), *rejects_blocks(run.rejects)]


def how_it_was_made(run: RunFiles) -> list[Block]:
    """The job, the command to run it again, and the next step."""
    facts: dict[str, object] = {"seed": run.config["seed"]}
    facts |= {f"encoder {key}": value for key, value in run.metrics["encoder"].items() if value != []}
    following = f"{command_of('tune_folds')} --encoder.name {run.uri} --encoder.train head"
    return [
        *provenance(run, facts, command_note="To run it again:"),
        Paragraph("To score a classifier on top of them:"),
        Quote(following, is_code=True),
    ]

"""Predictions, vectors and the tables of runs in a notebook: each cell begins with %%, as VS Code and Jupytext read it.

Before: `w2v2 finetune`, which trains the model of the first cells on the built-in corpus in a minute or two.
"""

# %% A model and some recordings: paths, gs:// uris, or arrays with their rate in Hz.
import os

import numpy as np

from w2v2 import embed, load_model, predict, read_run

RUN = os.environ.get("RUN", "runs/finetune")
model = load_model(f"{RUN}/model")
rng = np.random.default_rng(0)
tones = [0.3 * np.sin(2 * np.pi * pitch_hz * np.arange(32_000) / 16_000) for pitch_hz in (120, 130, 400)]
recordings = [tone + 0.01 * rng.normal(size=len(tone)) for tone in tones]

# %% A row for each recording: what is predicted, and how probable each class is.
predicted = predict(model, recordings, sampling_rate=16_000)
print(predicted[["clip_id", "predicted"]])

# %% Half-second windows of one of them, each with its place in the recording.
windows = predict(model, recordings[0], sampling_rate=16_000, window_s=0.5, hop_s=0.25)
print(windows[["start_s", "end_s", "predicted"]])

# %% Vectors of an encoder, and which recordings are alike.
vectors = np.stack(embed(recordings, sampling_rate=16_000, encoder="tiny").embedding.to_list())
unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
alike = unit @ unit.T
print(alike.round(3))

# %% The tables of a run as DataFrames: who was mistaken for what.
run = read_run(RUN)
predictions = run["predictions"]
test = predictions[predictions.split == "test"]
confusion = test.groupby(["target", "predicted"]).size().unstack(fill_value=0)
print(run.metrics["test"]["uar"] if "test" in run.metrics else run.tables)
print(confusion)

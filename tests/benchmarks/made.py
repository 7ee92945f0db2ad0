"""Settings that several tests of benchmarks share."""

from w2v2.config.model import OptimConfig

OPTIM = OptimConfig(learning_rate=1e-3, schedule="linear", warmup_fraction=0.0, batch_size=4)

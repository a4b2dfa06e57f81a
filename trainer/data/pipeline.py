"""How the pipelines of the trainer run: as they are written, with a fixed parallelism.

tf.data's autotuning has a thread that sleeps for 10 ms, then twice as long each time, up to a minute; the end of an
iterator waits for it. A cancellation wakes this thread, but is marked only afterwards (TensorFlow's
`CancellationManager::StartCancelWithStatus`). If the thread looks before that (`Model::OptimizeLoop`), it sleeps on,
and reading takes up to twice its time. The busier the machine, the more often.
"""

from __future__ import annotations

import os

import tensorflow as tf

CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def untuned(dataset: tf.data.Dataset) -> tf.data.Dataset:
    """The same elements, without tf.data's autotuning: set the parallelism of its steps."""
    options = tf.data.Options()
    options.autotune.enabled = False
    options.experimental_optimization.map_parallelization = False  # else steps without parallelism get up to 16
    return dataset.with_options(options)

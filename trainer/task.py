"""`python -m trainer.task`: trains a model on a data set, evaluates it and exports it."""

from __future__ import annotations

from collections.abc import Sequence

from trainer.console import run_command, run_main  # nothing slow: signals are handled after this


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit code: 0 the run is complete, 1 it failed, 128 + N signal N stopped it and its state is saved,
    2 (SystemExit) the arguments are wrong.
    """
    from trainer.config import parse_train, print_config

    if print_config(argv):
        return 0
    config = parse_train(argv)

    def work() -> int:
        from trainer.training.run import run

        return run(config).exit_code

    def check() -> None:
        from trainer.data.manifest import check_local, check_together
        from trainer.tracking import check_installed

        check_installed(config.reporting.track)
        found = {folder: check_local(folder, splits) for folder, splits in config.reads.items()}
        manifests = {folder: manifest for folder, manifest in found.items() if manifest is not None}
        if manifests:
            check_together(
                manifests,
                is_cropped=config.data.crop_size is not None,
                is_class_uniform=config.data.sampling == "class_uniform",
            )

    less_memory = (
        "Try a smaller --batch_per_replica with --accumulate; or, with another --output, a smaller --crop_size or "
        "--precision=bfloat16"
    )
    return run_command(
        work,
        check=check,
        verbose=config.reporting.verbose,
        less_memory=less_memory,
        hosts=config.cluster.workers,
    )


if __name__ == "__main__":
    run_main(main)

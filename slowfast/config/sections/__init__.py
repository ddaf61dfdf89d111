"""The common sections, one small file each; importing this package registers them."""

from slowfast.config.sections import (
    data,
    fewshot,
    logging,
    model,
    multigrid,
    run,
    solver,
    test,
    train,
)

__all__ = ["data", "fewshot", "logging", "model", "multigrid", "run", "solver", "test", "train"]

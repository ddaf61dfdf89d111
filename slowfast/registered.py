"""Composition root: imports every room that fills a registry, then plugins of other packages.

It stands outside the rooms. :func:`slowfast.config.defaults.get_cfg` calls :func:`load` through
:func:`slowfast.config.schema.set_loader`; a model, loss or data set that is imported here (or by
the packages named here) has its keys and its name in every configuration.
"""

from __future__ import annotations

import functools

import slowfast.datasets.batch_samplers
import slowfast.datasets.build
import slowfast.engine.callbacks
import slowfast.engine.loggers
import slowfast.engine.losses
import slowfast.engine.multigrid_rules
import slowfast.engine.optim
import slowfast.engine.rules
import slowfast.engine.schedule
import slowfast.engine.tasks
import slowfast.engine.tensorboard.videos
import slowfast.inference.demo
import slowfast.metrics.evaluators
import slowfast.models
import slowfast.video.sampler
import slowfast.video.transforms  # noqa: F401
from slowfast.config.plugins import import_entry_points


@functools.cache
def load() -> None:
    """Import installed packages that declare an entry point of the group ``slowfast.plugins``.

    The rooms of this package were imported with this module. UserError if a plugin fails.
    """
    import_entry_points()

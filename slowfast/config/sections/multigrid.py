"""MULTIGRID: clips and batches of several sizes in one training (arXiv 1912.00998)."""

from slowfast.config.schema import Key, Section, register_section

_SHORT = {"MULTIGRID.SHORT_CYCLE": True}
_LONG = {"MULTIGRID.LONG_CYCLE": True}
MULTIGRID = register_section(
    Section(
        "MULTIGRID",
        "Multigrid training: smaller clips in larger batches first (docs/multigrid.md)",
        {
            "SHORT_CYCLE": Key(
                False,
                "Consecutive batches have crops of several sizes: each of "
                "MULTIGRID.SHORT_CYCLE_FACTORS, then that of the epoch. Smaller clips come in "
                "larger batches.",
            ),
            "SHORT_CYCLE_FACTORS": Key(
                [0.5, 0.5**0.5],
                "Crops of the short cycle relative to DATA.TRAIN_CROP_SIZE.",
                item=float,
                min_length=1,
                gt=0.0,
                only_if=_SHORT,
            ),
            "LONG_CYCLE": Key(
                False,
                "Epochs have clips of several sizes: those of MULTIGRID.LONG_CYCLE_FACTORS in "
                "turn, once for each step of SOLVER.STEPS. Batch size, learning rate and "
                "normalisation (in place of BN.NORM_TYPE) follow the size.",
            ),
            "LONG_CYCLE_FACTORS": Key(
                [[0.25, 0.5**0.5], [0.5, 0.5**0.5], [0.5, 1], [1, 1]],
                "Sizes of the long cycle: pairs of factors of DATA.NUM_FRAMES and "
                "DATA.TRAIN_CROP_SIZE.",
                min_length=1,
                only_if=_LONG,
            ),
            "EPOCH_FACTOR": Key(
                1.5, "Epochs of the training relative to SOLVER.MAX_EPOCH.", gt=0.0
            ),
            "EVAL_FREQ": Key(
                3,
                "With the long cycle: evaluations and checkpoints of each size, the last at its "
                "end (in place of TRAIN.EVAL_PERIOD and TRAIN.CHECKPOINT_PERIOD).",
                ge=1,
                affects_result=False,
                only_if=_LONG,
            ),
            "BN_BASE_SIZE": Key(
                8,
                "Clips that are normalised together, in the long cycle: larger batches of a "
                "process are divided into parts, smaller ones are synchronised over processes.",
                ge=1,
                only_if=_LONG,
            ),
        },
    )
)

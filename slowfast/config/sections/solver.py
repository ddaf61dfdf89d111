"""SOLVER: optimizer, learning rate and gradient."""

from slowfast.config.schema import Key, Other, Section, register_section

_COSINE = {"SOLVER.LR_POLICY": "cosine"}
_STEPS = {"SOLVER.LR_POLICY": "steps_with_relative_lrs"}
SOLVER = register_section(
    Section(
        "SOLVER",
        "Optimisation",
        {
            "BASE_LR": Key(
                0.1, "Learning rate after the warm-up, before SOLVER.LR_POLICY lowers it.", gt=0.0
            ),
            "LR_BATCH_SIZE": Key(
                0,
                "Videos per step for which SOLVER.BASE_LR was chosen: the learning rate is scaled "
                "linearly to the videos per step here (batch x ACCUM_STEPS x processes); "
                "0: no scaling.",
                ge=0,
            ),
            "LR_POLICY": Key("cosine", "Schedule of the learning rate."),
            "MAX_EPOCH": Key(300, "Number of training epochs.", ge=1),
            "COSINE_END_LR": Key(
                0.0, "Learning rate at the end of the cosine.", ge=0.0, only_if=_COSINE
            ),
            "COSINE_AFTER_WARMUP": Key(
                False, "Start the cosine after the warm-up, not with it.", only_if=_COSINE
            ),
            "COSINE_RESTART_EPOCH": Key(
                0.0,
                "Epochs between restarts of the cosine (STDD); 0: no restart.",
                ge=0.0,
                only_if=_COSINE,
            ),
            "STEPS": Key(
                [],
                "Epochs at which the factors of SOLVER.LRS take effect; the first is 0.",
                item=float,
                ge=0.0,
                only_if=_STEPS,
            ),
            "LRS": Key(
                [],
                "Factors of SOLVER.BASE_LR, one per entry of SOLVER.STEPS.",
                item=float,
                ge=0.0,
                only_if=_STEPS,
            ),
            "WARMUP_EPOCHS": Key(0.0, "Number of epochs of linear warm-up.", ge=0.0),
            "WARMUP_START_LR": Key(
                0.01,
                "Learning rate at the start of the warm-up.",
                ge=0.0,
                only_if={"SOLVER.WARMUP_EPOCHS": Other((0.0,))},
            ),
            "BASE_LR_SCALE_NUM_SHARDS": Key(
                False, "Multiply BASE_LR, WARMUP_START_LR and COSINE_END_LR by NUM_SHARDS."
            ),
            "OPTIMIZING_METHOD": Key(
                "sgd", "Optimizer: sgd, adam, adamw, or any that timm knows (lamb, lion, ...)."
            ),
            "MOMENTUM": Key(
                0.9,
                "Momentum of SGD and of other optimizers that have it.",
                ge=0.0,
                le=1.0,
                only_if={"SOLVER.OPTIMIZING_METHOD": Other(("adam", "adamw"))},
            ),
            "DAMPENING": Key(
                0.0,
                "Dampening of the momentum of SGD.",
                ge=0.0,
                only_if={"SOLVER.OPTIMIZING_METHOD": "sgd"},
            ),
            "NESTEROV": Key(
                True, "Use Nesterov momentum in SGD.", only_if={"SOLVER.OPTIMIZING_METHOD": "sgd"}
            ),
            "BETAS": Key(
                [0.9, 0.999],
                "Betas of Adam and of other optimizers that have betas.",
                item=float,
                min_length=2,
                ge=0.0,
                le=1.0,
                only_if={"SOLVER.OPTIMIZING_METHOD": Other(("sgd",))},
            ),
            "WEIGHT_DECAY": Key(1e-4, "Weight decay of the optimizer.", ge=0.0),
            "ZERO_WD_1D_PARAM": Key(
                False, "No weight decay for biases and other one-dimensional parameters."
            ),
            "NO_DECAY_BY_NAME": Key(
                True,
                "No weight decay for the parameters that a network lists; the published "
                "training of "
                "UniFormer and STFM decayed them (False repeats that).",
            ),
            "LAYER_DECAY": Key(
                1.0,
                "Factor of the learning rate per layer, from the last to the first; 1: none.",
                gt=0.0,
                le=1.0,
            ),
            "CLIP_GRAD_VAL": Key(
                None,
                "Largest absolute value of a gradient element; None: no clipping by value.",
                type=float,
                optional=True,
                gt=0.0,
            ),
            "CLIP_GRAD_L2NORM": Key(
                None,
                "Largest L2 norm of the whole gradient; None: no clipping by norm.",
                type=float,
                optional=True,
                gt=0.0,
            ),
            "KD": Key(
                False, "Distil a frozen teacher: its soft targets are part of the loss (STAM)."
            ),
            "KD_TEACHER": Key(
                "",
                "Configuration file of the teacher network; empty: the student's own.",
                only_if={"SOLVER.KD": True},
            ),
            "KD_WEIGHTS": Key(
                "", "Checkpoint file of the teacher network.", only_if={"SOLVER.KD": True}
            ),
            "KD_ALPHA": Key(
                0.5,
                "Share of the teacher in the loss, from 0 to 1.",
                ge=0.0,
                le=1.0,
                only_if={"SOLVER.KD": True},
            ),
            "KD_TEMPERATURE": Key(
                1.0,
                "Temperature of the soft-max of teacher and student.",
                gt=0.0,
                only_if={"SOLVER.KD": True},
            ),
            "ACCUM_STEPS": Key(
                1, "Number of batches whose gradients are averaged for one optimizer step.", ge=1
            ),
        },
    )
)

"""SOLVER: optimizer, learning rate and gradient."""

from slowfast.config.schema import Key, Section, register_section

SOLVER = register_section(
    Section(
        "SOLVER",
        "Optimisation",
        {
            "BASE_LR": Key(0.1, "Learning rate.", gt=0.0),
            "LR_BATCH_SIZE": Key(
                0,
                "Videos a step for which BASE_LR was chosen: the learning rate is scaled linearly "
                "to the videos of a step here (batch x ACCUM_STEPS x processes); 0: as it is.",
                ge=0,
            ),
            "LR_POLICY": Key("cosine", "Schedule of the learning rate."),
            "MAX_EPOCH": Key(300, "Epochs.", ge=1),
            "COSINE_END_LR": Key(0.0, "Learning rate at the end of the cosine.", ge=0.0),
            "COSINE_AFTER_WARMUP": Key(False, "Start the cosine after the warm-up."),
            "COSINE_RESTART_EPOCH": Key(
                0.0, "> 0: restart the cosine every so many epochs (STDD).", ge=0.0
            ),
            "STEPS": Key([], "Epochs at which LRS take effect; the first is 0.", item=float),
            "LRS": Key([], "Factors of BASE_LR.", item=float),
            "WARMUP_EPOCHS": Key(0.0, "Epochs of linear warm-up.", ge=0.0),
            "WARMUP_START_LR": Key(0.01, "Learning rate at its start.", ge=0.0),
            "BASE_LR_SCALE_NUM_SHARDS": Key(
                False, "Multiply BASE_LR, WARMUP_START_LR and COSINE_END_LR by NUM_SHARDS."
            ),
            "OPTIMIZING_METHOD": Key("sgd", "Optimizer.", choices=("sgd", "adam", "adamw")),
            "MOMENTUM": Key(0.9, "Momentum of SGD.", ge=0.0, le=1.0),
            "DAMPENING": Key(0.0, "Dampening of SGD.", ge=0.0),
            "NESTEROV": Key(True, "Nesterov momentum."),
            "BETAS": Key([0.9, 0.999], "Betas of Adam.", item=float),
            "WEIGHT_DECAY": Key(1e-4, "Weight decay.", ge=0.0),
            "ZERO_WD_1D_PARAM": Key(False, "No decay for biases and one-dimensional weights."),
            "NO_DECAY_BY_NAME": Key(
                True,
                "No decay for the names a model lists; UniFormer's and STFM's own training "
                "decayed them after all (False repeats that).",
            ),
            "LAYER_DECAY": Key(
                1.0, "< 1: learning rate falls by this factor a layer.", gt=0.0, le=1.0
            ),
            "CLIP_GRAD_VAL": Key(
                None, "Clip each gradient to this value.", type=float, optional=True, gt=0.0
            ),
            "CLIP_GRAD_L2NORM": Key(
                None, "Clip the gradient to this norm.", type=float, optional=True, gt=0.0
            ),
            "KD": Key(False, "Distil: learn from a frozen teacher's soft targets, too (STAM)."),
            "KD_TEACHER": Key("", "Configuration file of the teacher; empty: the student's own."),
            "KD_WEIGHTS": Key("", "Checkpoint of the teacher."),
            "KD_ALPHA": Key(0.5, "Share of the teacher in the loss.", ge=0.0, le=1.0),
            "KD_TEMPERATURE": Key(1.0, "Temperature of both soft-maxes.", gt=0.0),
            "ACCUM_STEPS": Key(
                1, "Batches whose gradients are averaged for one optimizer step.", ge=1
            ),
        },
    )
)

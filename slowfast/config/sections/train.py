"""TRAIN, EMA, MIXUP and BN: the training loop."""

from slowfast.config.schema import Key, Section, register_section
from slowfast.config.sections import clip

TRAIN = register_section(
    Section(
        "TRAIN",
        "Training",
        {
            "ENABLE": Key(True, "Train.", affects_result=False),
            "DATASET": Key(
                "kinetics", "Data set of training and validation, by name.", checked_by_rule=True
            ),
            "BATCH_SIZE": Key(64, "Videos per machine and forward pass, over its GPUs.", ge=1),
            "EVAL_PERIOD": Key(
                10, "Epochs between validations; the last epoch counts.", ge=1, affects_result=False
            ),
            "CHECKPOINT_PERIOD": Key(
                10, "Epochs between checkpoints; the last counts.", ge=1, affects_result=False
            ),
            "AUTO_RESUME": Key(
                True,
                "Continue from the newest valid checkpoint of OUTPUT_DIR, if there is one.",
                affects_result=False,
            ),
            "CHECKPOINT_FILE_PATH": Key(
                "", "Initial weights (any supported file or project).", affects_result=False
            ),
            "CHECKPOINT_TYPE": Key(
                "pytorch", "Format of that file.", choices=("pytorch",), affects_result=False
            ),
            "CHECKPOINT_INFLATE": Key(
                True,
                "Turn 2-D convolution weights into 3-D (repeated over time, divided by it).",
                affects_result=False,
            ),
            "CHECKPOINT_IN_INIT": Key(
                False,
                "The file is an image network that starts a video network (MViT): its patch "
                "embedding and pooling are repeated over time without dividing.",
                affects_result=False,
            ),
            "CHECKPOINT_EPOCH_RESET": Key(
                True,
                "Kept for old files: initial weights never bring an optimizer or epoch with them; "
                "TRAIN.AUTO_RESUME continues a run.",
                affects_result=False,
            ),
            "CHECKPOINT_CLEAR_NAME_PATTERN": Key(
                [],
                "Texts removed from parameter names of the file (first occurrence).",
                item=str,
                affects_result=False,
            ),
            "CHECKPOINT_MIN_MATCH": Key(
                0.9,
                "Share of the model's parameters that a file must fill; below: error.",
                ge=0.0,
                le=1.0,
                affects_result=False,
            ),
            "CHECKPOINT_STEPS": Key(
                0,
                "Optimizer steps between checkpoints inside an epoch; 0: none.",
                ge=0,
                affects_result=False,
            ),
            "CHECKPOINT_MINUTES": Key(
                30.0,
                "Minutes since the last checkpoint after which one is written inside an epoch; "
                "0: never.",
                ge=0.0,
                affects_result=False,
            ),
            "ALLOW_CHANGED_RESUME": Key(
                False,
                "Continue a run although its configuration, data or number of processes has "
                "changed in a way that changes the result.",
                affects_result=False,
            ),
            "KEEP_CHECKPOINTS": Key(
                0,
                "Newest checkpoints kept beside the best one; 0 keeps all.",
                ge=0,
                affects_result=False,
            ),
            "MIXED_PRECISION": Key(False, "Autocast the forward pass to TRAIN.AMP_DTYPE."),
            "AMP_DTYPE": Key(
                "auto",
                "auto takes bfloat16 where the device has it, else float16.",
                choices=("auto", "float16", "bfloat16"),
            ),
            "COMPILE": Key(False, "Run the model through torch.compile."),
            "NAN_POLICY": Key(
                "stop",
                "A non-finite loss or gradient stops the run or skips the step.",
                choices=("stop", "skip"),
            ),
            "NAN_SKIP_LIMIT": Key(
                10, "Skipped steps in a row after which the run stops.", ge=1, affects_result=False
            ),
            "KILL_LOSS_EXPLOSION_FACTOR": Key(
                0.0,
                "> 0: stop when the loss exceeds this factor times the mean of the last five.",
                ge=0.0,
                affects_result=False,
            ),
        }
        | clip.TRAIN_KEYS,
    )
)

EMA = register_section(
    Section(
        "EMA",
        "Exponential moving average of the weights (validated and tested instead of them)",
        {
            "ENABLE": Key(False, "Keep an average."),
            "DECAY": Key(0.9999, "Share of the old average kept at each step.", ge=0.0, le=1.0),
            "WARMUP": Key(True, "Let the decay grow from 0 during the first steps (timm's rule)."),
        },
    )
)

MIXUP = register_section(
    Section(
        "MIXUP",
        "Mixing the videos of a batch (mixup, arXiv 1710.09412; CutMix, arXiv 1905.04899)",
        {
            "ENABLE": Key(False, "Mix each training batch with itself in reverse order."),
            "ALPHA": Key(0.8, "Beta parameter of mixup; 0: no mixup.", ge=0.0),
            "CUTMIX_ALPHA": Key(1.0, "Beta parameter of CutMix; 0: no CutMix.", ge=0.0),
            "PROB": Key(1.0, "Probability that a batch is mixed.", ge=0.0, le=1.0),
            "SWITCH_PROB": Key(0.5, "Probability of CutMix when both are on.", ge=0.0, le=1.0),
            "LABEL_SMOOTH_VALUE": Key(0.1, "Label smoothing inside mixup.", ge=0.0, le=1.0),
        },
    )
)

BN = register_section(
    Section(
        "BN",
        "Batch normalisation",
        {
            "USE_PRECISE_STATS": Key(
                False, "Recompute the statistics over training batches before validation."
            ),
            "NUM_BATCHES_PRECISE": Key(200, "Batches used for that.", ge=1),
            "WEIGHT_DECAY": Key(0.0, "Weight decay of batch-norm parameters.", ge=0.0),
            "NORM_TYPE": Key(
                "batchnorm",
                "sync_batchnorm shares statistics between processes.",
                choices=("batchnorm", "sync_batchnorm"),
            ),
        },
    )
)

"""TRAIN, EMA, MIXUP and BN: the training loop."""

from slowfast.config.schema import Key, Section, register_section

TRAIN = register_section(
    Section(
        "TRAIN",
        "Training",
        {
            "ENABLE": Key(True, "Run the training of the network.", affects_result=False),
            "DATASET": Key(
                "kinetics", "Name of the data set of training and validation.", checked_by_rule=True
            ),
            "BATCH_SIZE": Key(
                64, "Videos per forward pass and machine, divided among its GPUs.", ge=1
            ),
            "EVAL_PERIOD": Key(
                10,
                "Epochs between validations; the last epoch is always validated.",
                ge=1,
                affects_result=False,
            ),
            "EARLY_STOPPING_PATIENCE": Key(
                5,
                "Validations without a better score after which the callback early_stopping ends "
                "the training.",
                ge=1,
                only_if={"CALLBACKS": "early_stopping"},
            ),
            "CHECKPOINT_PERIOD": Key(
                10,
                "Epochs between checkpoints; the last epoch always has one.",
                ge=1,
                affects_result=False,
            ),
            "AUTO_RESUME": Key(
                True,
                "Continue from the newest valid checkpoint of OUTPUT_DIR, if there is one.",
                affects_result=False,
            ),
            "CHECKPOINT_FILE_PATH": Key(
                "",
                "File of initial weights, of this framework or of any supported project.",
                affects_result=False,
            ),
            "CHECKPOINT_TYPE": Key(
                "pytorch",
                "No effect, accepted for old files: the format of TRAIN.CHECKPOINT_FILE_PATH is "
                "recognised (Caffe2's .pkl files as well).",
                choices=("pytorch", "caffe2"),
                affects_result=False,
            ),
            "CHECKPOINT_INFLATE": Key(
                True,
                "Inflate 2-D convolution weights to 3-D: repeated over time and divided "
                "by its length.",
                affects_result=False,
            ),
            "CHECKPOINT_IN_INIT": Key(
                False,
                "Initial weights are of an image network (MViT): patch embedding and pooling are "
                "repeated over time without division.",
                affects_result=False,
            ),
            "CHECKPOINT_EPOCH_RESET": Key(
                True,
                "No effect, accepted for old files: initial weights never bring an "
                "optimizer or an epoch; "
                "TRAIN.AUTO_RESUME continues a run.",
                affects_result=False,
                unused=True,
            ),
            "CHECKPOINT_CLEAR_NAME_PATTERN": Key(
                [],
                "Texts removed from the parameter names of initial weights (first occurrence).",
                item=str,
                affects_result=False,
            ),
            "CHECKPOINT_MIN_MATCH": Key(
                0.9,
                "Smallest share of the network's parameters that initial weights must fill.",
                ge=0.0,
                le=1.0,
                affects_result=False,
            ),
            "CHECKPOINT_FORMAT": Key(
                "file",
                "file: one process writes a single file for all; distributed: a folder "
                "(torch.distributed.checkpoint), to which each process writes its share, in an "
                "OUTPUT_DIR that all machines share. A run goes on from either.",
                choices=("file", "distributed"),
                affects_result=False,
            ),
            "CHECKPOINT_ASYNC": Key(
                True,
                "The training goes on while a folder is written; it waits for the copy of the "
                "tensors alone, for which every process needs the memory.",
                affects_result=False,
                only_if={"TRAIN.CHECKPOINT_FORMAT": "distributed"},
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
                "Number of newest checkpoints that are kept beside the best one; 0 keeps all.",
                ge=0,
                affects_result=False,
            ),
            "MIXED_PRECISION": Key(
                None,
                "Run forward passes, of tests too, in the lower precision of TRAIN.AMP_DTYPE "
                "(autocast); None: where the device is fast in bfloat16 (GPUs from capability "
                "8.0, CPUs with AVX512-BF16 or AMX). A resumed run keeps its precision.",
                type=bool,
                optional=True,
            ),
            "AMP_DTYPE": Key(
                "auto",
                "Data type of mixed precision; auto: bfloat16 where the device has it, "
                "else float16.",
                choices=("auto", "float16", "bfloat16"),
                only_if={"TRAIN.MIXED_PRECISION": (None, True)},
            ),
            "COMPILE": Key(
                False,
                "Compile the network with torch.compile; reduce-overhead also records CUDA graphs, "
                "for small batches, whose kernels take less time than their launches.",
                choices=(False, True, "reduce-overhead"),
            ),
            "NAN_POLICY": Key(
                "stop",
                "What a non-finite loss or gradient does: stop the run, or skip the step.",
                choices=("stop", "skip"),
            ),
            "NAN_SKIP_LIMIT": Key(
                10,
                "Number of consecutive skipped steps after which the run stops.",
                ge=1,
                affects_result=False,
                only_if={"TRAIN.NAN_POLICY": "skip"},
            ),
            "KILL_LOSS_EXPLOSION_FACTOR": Key(
                0.0,
                "Factor by which a loss may exceed the mean of the last five before the "
                "run stops; 0: "
                "no limit.",
                ge=0.0,
                affects_result=False,
            ),
        },
    )
)

EMA = register_section(
    Section(
        "EMA",
        "Exponential moving average of the weights (validated and tested instead of them)",
        {
            "ENABLE": Key(False, "Keep an exponential moving average of the weights."),
            "DECAY": Key(0.9999, "Share of the old average that each step keeps.", ge=0.0, le=1.0),
            "WARMUP": Key(True, "Raise EMA.DECAY from 0 during the first steps (timm's rule)."),
        },
        only_if={"EMA.ENABLE": True},
    )
)

MIXUP = register_section(
    Section(
        "MIXUP",
        "Mixing the videos of a batch (mixup, arXiv 1710.09412; CutMix, arXiv 1905.04899)",
        {
            "ENABLE": Key(False, "Mix each training batch with itself in reverse order."),
            "ALPHA": Key(0.8, "Parameter of mixup's beta distribution; 0: no mixup.", ge=0.0),
            "CUTMIX_ALPHA": Key(
                1.0, "Parameter of CutMix's beta distribution; 0: no CutMix.", ge=0.0
            ),
            "PROB": Key(1.0, "Probability that a batch is mixed.", ge=0.0, le=1.0),
            "SWITCH_PROB": Key(
                0.5, "Probability of CutMix, instead of mixup, when both are on.", ge=0.0, le=1.0
            ),
            "LABEL_SMOOTH_VALUE": Key(0.1, "Label smoothing of the mixed targets.", ge=0.0, le=1.0),
        },
        only_if={"MIXUP.ENABLE": True},
    )
)

BN = register_section(
    Section(
        "BN",
        "Batch normalisation",
        {
            "USE_PRECISE_STATS": Key(
                False,
                "Recompute batch-norm statistics over training batches before each validation "
                "and checkpoint.",
            ),
            "NUM_BATCHES_PRECISE": Key(
                200,
                "Number of training batches for precise batch-norm statistics.",
                ge=1,
                only_if={"BN.USE_PRECISE_STATS": True},
            ),
            "WEIGHT_DECAY": Key(0.0, "Weight decay of batch-norm parameters.", ge=0.0),
            "NORM_TYPE": Key(
                "batchnorm",
                "Whose statistics normalise a clip: batchnorm: those of the batch of its process; "
                "sync_batchnorm: of the batches of several processes; sub_batchnorm: of a part of "
                "the batch of its process.",
                choices=("batchnorm", "sync_batchnorm", "sub_batchnorm"),
            ),
            "NUM_SPLITS": Key(
                1,
                "Number of parts of the batch of each process with sub_batchnorm.",
                ge=1,
                only_if={"BN.NORM_TYPE": "sub_batchnorm"},
            ),
            "NUM_SYNC_DEVICES": Key(
                0,
                "Number of processes that share statistics with sync_batchnorm; 0: all "
                "(PySlowFast's default is 1, each process for itself).",
                ge=0,
                only_if={"BN.NORM_TYPE": "sync_batchnorm"},
            ),
        },
    )
)

"""Keys at the top of the tree: where and how a run takes place."""

from slowfast.config.schema import Key, Section, register_section

RUN = register_section(
    Section(
        "",
        "The run as a whole",
        {
            "TASK": Key("", "Kind of task; empty means recognition.", choices=("",)),
            "IMPORTS": Key(
                [],
                "Python modules that are imported before anything else: the models, losses, data "
                "sets and keys that they register can be named here. They are looked for in the "
                "current folder, beside the file that names them, and among installed packages; "
                "the lists of all files and of --import are joined.",
                item=str,
                affects_result=False,
            ),
            "TUNE_HEAD": Key(
                False,
                "Train the class features of CLIP, initialised with those of the texts.",
                only_if={"MODEL.MODEL_NAME": "TemporalClipVideo"},
            ),
            "NUM_GPUS": Key(
                1,
                "Number of GPUs on this machine; 0 runs on the CPU; -1 uses what is there: all "
                "visible GPUs among which the batches can be divided, or the CPU.",
                ge=-1,
            ),
            "NUM_SHARDS": Key(1, "Number of machines that take part.", ge=1, affects_result=False),
            "SHARD_ID": Key(0, "Number of this machine, from 0.", ge=0, affects_result=False),
            "DIST_BACKEND": Key(
                "nccl",
                "Communication backend between GPUs; the CPU always uses gloo.",
                affects_result=False,
            ),
            "RNG_SEED": Key(1, "Seed of initialisation, data order and augmentation.", ge=0),
            "OUTPUT_DIR": Key(
                ".", "Folder for logs, statistics, checkpoints and results.", affects_result=False
            ),
            "OUTPUT_MIRROR": Key(
                "",
                "Address of a folder (s3://bucket/runs/a) to which OUTPUT_DIR is copied after "
                "every checkpoint and at the end; a run whose OUTPUT_DIR has no checkpoint goes "
                "on from what is there, and from then on the address belongs to it. All processes "
                "wait while files are copied. Schemes: s3:// gs:// hf://.",
                affects_result=False,
            ),
            "CALLBACKS": Key(
                [],
                "Callbacks of the training, by registered name (early_stopping, or custom ones).",
                item=str,
                checked_by_rule=True,
            ),
            "LOGGERS": Key(
                [],
                "Loggers besides JSON lines, by registered name: tensorboard, wandb, mlflow, or "
                "custom ones.",
                item=str,
                affects_result=False,
                checked_by_rule=True,
            ),
            "LOG_PERIOD": Key(
                10, "Training steps between two log lines.", ge=1, affects_result=False
            ),
            "LOG_MODEL_INFO": Key(
                True, "Log parameters, GFLOPs and activations at the start.", affects_result=False
            ),
        },
    )
)

DIST = register_section(
    Section(
        "DIST",
        "Several processes",
        {
            "STRATEGY": Key(
                "ddp",
                "Distribution of the network. ddp: every process holds all of it; fsdp: "
                "parameters, "
                "gradients and optimizer state are divided among them (large transformers).",
                choices=("ddp", "fsdp"),
            ),
            "ELASTIC": Key(
                "refuse",
                "What happens when a run goes on with another number of processes (torchrun "
                "--nnodes 1:8 --max-restarts 9), TRAIN.BATCH_SIZE videos on each machine. refuse: "
                "an error; keep_batch: a step has as many videos as before, in more or fewer "
                "batches than SOLVER.ACCUM_STEPS; scale_lr: more or fewer videos, with the "
                "learning rate larger or smaller in proportion.",
                choices=("refuse", "keep_batch", "scale_lr"),
            ),
            "TIMEOUT": Key(
                1800.0,
                "Seconds to wait for another process before the run stops with its name.",
                gt=0.0,
            ),
        },
        affects_result=False,
    )
)

GPU = register_section(
    Section(
        "GPU",
        "Kernels of a GPU; without effect on the CPU",
        {
            "TF32": Key(
                True,
                "Compute float32 products and convolutions in TF32: 8 times faster, with the "
                "mantissa of float16.",
            ),
            "CUDNN_BENCHMARK": Key(
                False,
                "Let cuDNN try its convolution algorithms for every new shape of clips: steps may "
                "become faster, but the first one can take minutes.",
            ),
            "DETERMINISTIC": Key(
                False,
                "Use only kernels that give the same bits in every run, so that a resumed run "
                "ends exactly as an uninterrupted one; slower. PyTorch warns of operations that "
                "have none.",
            ),
        },
    )
)

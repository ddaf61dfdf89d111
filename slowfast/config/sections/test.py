"""TEST: multi-view evaluation."""

from slowfast.config.schema import Key, Section, register_section

TEST = register_section(
    Section(
        "TEST",
        "Testing",
        {
            "ENABLE": Key(True, "Run the test, after the training if TRAIN.ENABLE is on."),
            "DATASET": Key("kinetics", "Name of the data set of the test.", checked_by_rule=True),
            "BATCH_SIZE": Key(
                8, "Views (not videos) per forward pass and machine, divided among its GPUs.", ge=1
            ),
            "CHECKPOINT_FILE_PATH": Key(
                "",
                "File of the weights to test; empty: those of OUTPUT_DIR, else "
                "TRAIN.CHECKPOINT_FILE_PATH.",
            ),
            "CHECKPOINT_TYPE": Key(
                "pytorch",
                "No effect, accepted for old files: the format of TEST.CHECKPOINT_FILE_PATH is "
                "recognised (Caffe2's .pkl files as well).",
                choices=("pytorch", "caffe2"),
            ),
            "USE_CHECKPOINT": Key(
                "last",
                "Checkpoint of OUTPUT_DIR that is tested: the last or the best one.",
                choices=("last", "best"),
            ),
            "NUM_ENSEMBLE_VIEWS": Key(
                10,
                "Number of test clips per video, spread over its length.",
                ge=1,
                only_if={"TEST.NUM_TEMPORAL_CLIPS": []},
            ),
            "NUM_SPATIAL_CROPS": Key(
                3, "Number of crops per test clip, along the longer side.", choices=(1, 2, 3)
            ),
            "NUM_TEMPORAL_CLIPS": Key(
                [],
                "Several values of TEST.NUM_ENSEMBLE_VIEWS, tested one after the other.",
                item=int,
                ge=1,
            ),
            "METRICS": Key(
                [],
                "Further metrics of validations and tests, by registered name, such as "
                "mean_class_accuracy.",
                item=str,
                checked_by_rule=True,
            ),
            "SHORT_SIDE": Key(
                0,
                "Short side of test frames before cropping, in pixels; 0: the data set's "
                "rule (DATASET.md).",
                ge=0,
            ),
            "SINGLE_CROP": Key(
                "centre",
                "Position of a single test crop (left repeats the published Something-Something "
                "loader).",
                choices=("centre", "left"),
                only_if={"TEST.NUM_SPATIAL_CROPS": 1},
            ),
            "SAVE_RESULTS_PATH": Key(
                "",
                "File below OUTPUT_DIR for merged scores and labels, besides the folder of the "
                "test. .pkl: a pickle of [scores, labels] as NumPy arrays, in PySlowFast's form; "
                ".npz or .pt (.pth, .pyth): both by name.",
            ),
        },
        affects_result=False,
    )
)

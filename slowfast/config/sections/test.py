"""TEST: multi-view evaluation."""

from slowfast.config.schema import Key, Section, register_section
from slowfast.config.sections import clip

TEST = register_section(
    Section(
        "TEST",
        "Testing",
        {
            "ENABLE": Key(True, "Test (after training, if that is on too)."),
            "DATASET": Key("kinetics", "Data set of the test list, by name.", checked_by_rule=True),
            "BATCH_SIZE": Key(8, "Views (not videos) per forward pass, over the GPUs.", ge=1),
            "CHECKPOINT_FILE_PATH": Key(
                "", "Weights to test; empty: those of OUTPUT_DIR, else TRAIN.CHECKPOINT_FILE_PATH."
            ),
            "CHECKPOINT_TYPE": Key("pytorch", "Format of that file.", choices=("pytorch",)),
            "USE_CHECKPOINT": Key(
                "last", "Which checkpoint of OUTPUT_DIR is tested.", choices=("last", "best")
            ),
            "NUM_ENSEMBLE_VIEWS": Key(10, "Clips over the length of a video.", ge=1),
            "NUM_SPATIAL_CROPS": Key(3, "Crops along the longer side.", choices=(1, 2, 3)),
            "NUM_TEMPORAL_CLIPS": Key(
                [], "Several values of NUM_ENSEMBLE_VIEWS, tested one after the other.", item=int
            ),
            "SHORT_SIDE": Key(
                0, "Short side before cropping; 0: the rule of the data set (DATASET.md).", ge=0
            ),
            "SINGLE_CROP": Key(
                "centre",
                "Where the crop is when there is one ('left' repeats the reference's "
                "Something-Something loader).",
                choices=("centre", "left"),
            ),
            "SAVE_RESULTS_PATH": Key(
                "",
                "File below OUTPUT_DIR for merged scores and labels (.pt or .npz); "
                "predictions.csv is always written.",
            ),
        }
        | clip.TEST_KEYS,
        affects_result=False,
    )
)

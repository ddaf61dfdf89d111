"""TENSORBOARD: scalars for TensorBoard."""

from slowfast.config.schema import Key, Section, register_section

TENSORBOARD = register_section(
    Section(
        "TENSORBOARD",
        "TensorBoard",
        {
            "ENABLE": Key(False, "Write scalars."),
            "LOG_DIR": Key("", "Folder below OUTPUT_DIR; empty: runs-<TRAIN.DATASET>."),
        },
        affects_result=False,
    )
)

"""TENSORBOARD: scalars for TensorBoard."""

from slowfast.config.schema import Key, Section, register_section

TENSORBOARD = register_section(
    Section(
        "TENSORBOARD",
        "TensorBoard",
        {
            "ENABLE": Key(False, "Write scalars for TensorBoard."),
            "LOG_DIR": Key(
                "", "Folder of TensorBoard's files below OUTPUT_DIR; empty: runs-<TRAIN.DATASET>."
            ),
        },
        affects_result=False,
    )
)

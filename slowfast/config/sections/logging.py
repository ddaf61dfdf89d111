"""TENSORBOARD: scalars for TensorBoard; REPORT: the page of a run."""

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

REPORT = register_section(
    Section(
        "REPORT",
        "The page of a run, report.html (docs/report.md)",
        {
            "ENABLE": Key(True, "Write the page into OUTPUT_DIR after every run."),
            "VIDEOS": Key(48, "Most videos that are shown; 0: none.", ge=0),
            "MEGABYTES": Key(6.0, "Most megabytes of all their pictures.", ge=0.0),
            "SECONDS": Key(60.0, "Most seconds for reading videos.", ge=0.0),
        },
        affects_result=False,
    )
)

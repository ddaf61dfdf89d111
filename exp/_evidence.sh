# Sourced by exp/evidence_*/run.sh: data, and the words that all of their runs share.
#
#   DATA_DIR       embedded set                       (data/moving_shapes_8)
#   MIRACL         folder of MIRACL-VC1's lists: phrases_train.csv, phrases_test.csv,
#                  phrases_classes.txt; nothing with real clips is run without it
#   OUTPUT_DIR     folder that everything is written to
#   SEEDS          seeds                              (0 1 2)
#   JOBS, THREADS  runs at a time, threads of each    (1, cores / JOBS)
#   ROWS           names of rows, one a line: these alone are run, and no table is written
#   GATHER         1: a table of the runs that have finished; none is started
. "$(dirname "${BASH_SOURCE[0]}")/_help.sh"
ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
. "$ROOT/tools/_setup.sh"

# One validation, at the end; one crop; the loader in the process of the run.
SHARED=(TRAIN.DATASET kinetics TEST.DATASET kinetics TRAIN.EVAL_PERIOD 1000
  TRAIN.CHECKPOINT_PERIOD 1000 TEST.NUM_SPATIAL_CROPS 1 DATA_LOADER.NUM_WORKERS 0
  LOG_MODEL_INFO False REPORT.ENABLE False NUM_GPUS 0)

# prepare_shapes: the embedded set, as folders of frames; WORDS reads it.
prepare_shapes() {
  local data="${DATA_DIR:-data/moving_shapes_8}"
  # shellcheck disable=SC2086
  embedded_frames "$data" --classes 8 ${SHAPES:---train 200 --val 12 --test 25}
  WORDS=("${SHARED[@]}" DATA.PATH_TO_DATA_DIR "${data}_frames" DATA.PATH_PREFIX "${data}_frames")
}

# prepare_real: frames of the clips in MIRACL, 72 pixels high, beside the results; WORDS reads them.
prepare_real() {
  local frames="$1"
  "$PYTHON" tools/extract_frames.py "$MIRACL" "$frames" --short-side 72 \
    --lists phrases_train.csv phrases_test.csv
  WORDS=("${SHARED[@]}" DATA.PATH_TO_DATA_DIR "$frames" DATA.PATH_PREFIX "$frames"
    DATA.TRAIN_LIST phrases_train.csv DATA.VAL_LIST phrases_test.csv
    DATA.TEST_LIST phrases_test.csv DATA.CLASS_NAMES_PATH "$MIRACL/phrases_classes.txt"
    MODEL.NUM_CLASSES 10 DATA.RANDOM_FLIP True DATA.KEEP_ASPECT False DATA.SAMPLING segment
    DATA.TRAIN_JITTER_SCALES "[64,72]" DATA.TRAIN_CROP_SIZE 64 DATA.TEST_CROP_SIZE 64
    TEST.SHORT_SIDE 64)
}

# sweep_rows FILE OUT KEY VALUE …: the rows of FILE with WORDS.
sweep_rows() {
  local file="$1" out="$2" options=()
  shift 2
  if [ -n "${ROWS:-}" ]; then
    local names
    mapfile -t names <<< "$ROWS"
    options+=(--rows "${names[@]}")
  fi
  if [ "${GATHER:-0}" = 1 ]; then options+=(--gather); fi
  # shellcheck disable=SC2086
  "$PYTHON" tools/sweep.py --variants "$file" --out "$out" --seeds ${SEEDS:-0 1 2} \
    --jobs "${JOBS:-1}" --threads "${THREADS:-0}" ${options[@]+"${options[@]}"} \
    -- "${WORDS[@]}" "$@"
}

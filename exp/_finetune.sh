# Sourced by exp/finetune/run.sh and test.sh after _common.sh: the configuration of MODEL, the lists of DATA, the weights.

# from_caller PATH: a path as it was meant where the script was called (_common.sh went to ROOT).
CALLED_FROM="$OLDPWD"
from_caller() {
  case "$1" in "" | /*) echo "$1" ;; *) echo "$CALLED_FROM/$1" ;; esac
}

MODEL="${MODEL:-uniformer_s}"
RECIPE="$(from_caller "$MODEL")"
if [ -f "$ROOT/configs/finetune/$MODEL.yaml" ]; then RECIPE="$ROOT/configs/finetune/$MODEL.yaml"; fi
DATA="$(from_caller "${DATA:-}")"
WEIGHTS="$(from_caller "${WEIGHTS:-}")"
LISTS="$(from_caller "${LISTS:-}")"
NAME="finetune_$(basename "$MODEL" .yaml)"
OUTPUT_DIR="$(from_caller "${OUTPUT_DIR:-}")"
OUTPUT_DIR="${OUTPUT_DIR:-output/$NAME}"

fail() {
  echo "error: $1" >&2
  echo "    -> $2" >&2
  exit 2
}

if [ ! -f "$RECIPE" ]; then
  fail "MODEL: there is no recipe $MODEL" "one of: $(cd configs/finetune && echo *.yaml)"
fi
if [ -z "$DATA" ]; then
  fail "DATA is not set" "DATA=folder bash exp/finetune/run.sh; see --help"
fi
if [ ! -d "$DATA" ]; then
  fail "DATA: there is no folder $DATA" "a folder of class folders, or of lists"
fi
if [ -n "$WEIGHTS" ] && [ ! -f "$WEIGHTS" ]; then
  fail "WEIGHTS: there is no file $WEIGHTS" "pretrained/README.md says where weights are"
fi

# Where the lists are; those of a folder of classes are made once, and again where it has changed.
CONFIG="$RECIPE"
if [ -f "$DATA/train.csv" ]; then
  LISTS="$DATA"
else
  LISTS="${LISTS:-output/$NAME/lists}"
  "$PYTHON" "$ROOT/tools/make_lists.py" folder "$DATA" --out "$LISTS" --base "$RECIPE"
  CONFIG="$LISTS/config.yaml"
fi

# finetune_net KEY VALUE … : the recipe with the lists and the weights; later words win.
finetune_net() {
  local words=(OUTPUT_DIR "$OUTPUT_DIR" DATA.PATH_TO_DATA_DIR "$LISTS")
  if [ -f "$LISTS/classes.txt" ]; then
    words+=(MODEL.NUM_CLASSES "$(grep -c '' "$LISTS/classes.txt")")
  fi
  if [ -n "${DATA_PREFIX:-}" ]; then words+=(DATA.PATH_PREFIX "$DATA_PREFIX"); fi
  if [ -n "$WEIGHTS" ]; then words+=(TRAIN.CHECKPOINT_FILE_PATH "$WEIGHTS"); fi
  "$PYTHON" "$ROOT/tools/run_net.py" --cfg "$CONFIG" "${words[@]}" "$@"
}

#!/usr/bin/env bash
# Every family of networks on real clips: MIRACL-VC1, ten spoken phrases, people of the test list
# never seen in training. The same clips, augmentation and CPU time for each (one and a half to
# three minutes of one core), three seeds; docs/evidence/families.md has the results.
#
#   MIRACL=path/to/miracl_vc1 bash exp/evidence_families/run.sh             110 CPU minutes
#   MIRACL=… ROWS="SlowFast" SEEDS=0 bash exp/evidence_families/run.sh      one run
#   MIRACL=… bash exp/evidence_families/run.sh SOLVER.WEIGHT_DECAY 0.1      KEY VALUE words
#
# Writes a table, CSV files, plots and confusion matrices to OUTPUT_DIR (output/evidence_families).
# Stopped, it goes on where it was; runs made on another machine are taken if their folders are copied
# there. Further variables of the environment: head of exp/_evidence.sh.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/../_evidence.sh"
HERE="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
if [ -z "${MIRACL:-}" ]; then
  echo "error: set MIRACL to the folder of MIRACL-VC1's lists; docs/evidence/families.md says how" \
    "to get the set" >&2
  exit 2
fi
ensure_environment plot "$ROOT"
cd "$ROOT"
prepare_real "${FRAMES:-data/miracl_vc1_frames}"
sweep_rows "$HERE/variants.yaml" "${OUTPUT_DIR:-output/evidence_families}" "$@"

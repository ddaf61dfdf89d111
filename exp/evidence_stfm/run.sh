#!/usr/bin/env bash
# What STFM does: UniFormer with and without it, how tokens are selected, how many, from dense patches
# or not, the similarity loss, on the embedded set; and, where MIRACL names its folder, the same on real
# clips, there in TimeSformer and MViTv2 as well (of the embedded set: exp/compare_families). Three
# seeds; docs/evidence/stfm.md has the results.
#
#   bash exp/evidence_stfm/run.sh                                 the embedded set, 50 CPU minutes
#   MIRACL=path/to/miracl_vc1 bash exp/evidence_stfm/run.sh       and real clips, about 120
#   ROWS="UniFormer" SEEDS=0 bash exp/evidence_stfm/run.sh        one run
#   bash exp/evidence_stfm/run.sh SOLVER.MAX_EPOCH 1              any KEY VALUE words win
#
# Writes tables, CSV files and plots to OUTPUT_DIR (output/evidence_stfm)/shapes and /real. Stopped, it
# goes on where it was; runs made on another machine are taken if their folders are copied there.
# Further variables of the environment: head of exp/_evidence.sh.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/../_evidence.sh"
HERE="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
ensure_environment plot "$ROOT"
cd "$ROOT"
OUT="${OUTPUT_DIR:-output/evidence_stfm}"
prepare_shapes
sweep_rows "$HERE/shapes.yaml" "$OUT/shapes" "$@"
if [ -n "${MIRACL:-}" ]; then
  prepare_real "${FRAMES:-data/miracl_vc1_frames}"
  sweep_rows "$HERE/real.yaml" "$OUT/real" "$@"
fi

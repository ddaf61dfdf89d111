#!/usr/bin/env bash
# MViTv2-S, Something-Something v2, 16 frames: training, then test.
# DATA_DIR=lists DATA_PREFIX=videos bash exp/mvitv2_s16_sthv2/run.sh [KEY VALUE …]
. "$(dirname "${BASH_SOURCE[0]}")/../_common.sh"
run_net config.yaml "$@"

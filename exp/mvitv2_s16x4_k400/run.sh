#!/usr/bin/env bash
# MViTv2-S, Kinetics-400, 16 frames x 4: training, then test.
# DATA_DIR=lists DATA_PREFIX=videos bash exp/mvitv2_s16x4_k400/run.sh [KEY VALUE …]
. "$(dirname "${BASH_SOURCE[0]}")/../_common.sh"
run_net config.yaml "$@"

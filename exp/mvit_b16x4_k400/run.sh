#!/usr/bin/env bash
# MViT-B (v1), Kinetics-400, 16 frames x 4: training, then test.
# DATA_DIR=lists DATA_PREFIX=videos bash exp/mvit_b16x4_k400/run.sh [KEY VALUE …]
. "$(dirname "${BASH_SOURCE[0]}")/../_common.sh"
run_net config.yaml "$@"

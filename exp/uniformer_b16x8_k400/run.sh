#!/usr/bin/env bash
# UniFormer-B + STFM, Kinetics-400, 16 frames x 8: training, from pretrained/uniformer_base_in1k.pth, then test.
# DATA_DIR=lists DATA_PREFIX=videos bash exp/uniformer_b16x8_k400/run.sh [KEY VALUE …]
. "$(dirname "${BASH_SOURCE[0]}")/../_common.sh"
run_net config.yaml "$@"

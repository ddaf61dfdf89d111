#!/usr/bin/env bash
# TimeSformer-HR, Kinetics-400, 16 frames x 16 of 448 pixels: test of the run's checkpoint, or of CHECKPOINT.
# CHECKPOINT=weights.pyth DATA_DIR=lists DATA_PREFIX=videos bash exp/timesformer_hr16x16_k400/test.sh [KEY VALUE …]
. "$(dirname "${BASH_SOURCE[0]}")/../_common.sh"
test_net config.yaml "$@"

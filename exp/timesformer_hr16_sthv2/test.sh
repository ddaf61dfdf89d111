#!/usr/bin/env bash
# TimeSformer-HR, Something-Something v2, 16 frames of 448 pixels: test of the run's checkpoint, or of CHECKPOINT.
# CHECKPOINT=weights.pyth DATA_DIR=lists DATA_PREFIX=videos bash exp/timesformer_hr16_sthv2/test.sh [KEY VALUE …]
. "$(dirname "${BASH_SOURCE[0]}")/../_common.sh"
test_net config.yaml "$@"

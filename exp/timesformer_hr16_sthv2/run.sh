#!/usr/bin/env bash
# TimeSformer-HR, Something-Something v2, 16 frames of 448 pixels: training, then test.
# DATA_DIR=lists DATA_PREFIX=videos bash exp/timesformer_hr16_sthv2/run.sh [KEY VALUE …]
. "$(dirname "${BASH_SOURCE[0]}")/../_common.sh"
run_net config.yaml "$@"

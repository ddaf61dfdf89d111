#!/usr/bin/env bash
# TimeSformer-B/16, Something-Something v2, 8 frames: training, then test.
# DATA_DIR=lists DATA_PREFIX=videos bash exp/timesformer_b8_sthv2/run.sh [KEY VALUE …]
. "$(dirname "${BASH_SOURCE[0]}")/../_common.sh"
run_net config.yaml "$@"

#!/usr/bin/env bash
# TimeSformer-L, Something-Something v2, 64 frames: training, then test.
# DATA_DIR=lists DATA_PREFIX=videos bash exp/timesformer_l64_sthv2/run.sh [KEY VALUE …]
. "$(dirname "${BASH_SOURCE[0]}")/../_common.sh"
run_net config.yaml "$@"

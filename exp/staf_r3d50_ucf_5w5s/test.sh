#!/usr/bin/env bash
# STAF, 3-D ResNet-50, UCF101, 5-way 5-shot: test of the run's checkpoint, or of CHECKPOINT.
# CHECKPOINT=weights.pt DATA_PREFIX=folder of <class>/<video> bash exp/staf_r3d50_ucf_5w5s/test.sh [KEY VALUE …]
. "$(dirname "${BASH_SOURCE[0]}")/../_common.sh"
test_net config.yaml "$@"

"""Pictures for TensorBoard, chosen by PySlowFast's keys of the section TENSORBOARD."""

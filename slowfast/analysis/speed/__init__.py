"""Speed: of reading data against its floor, of networks, of training steps."""

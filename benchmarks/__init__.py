"""Speed and memory beside the peers, in one run on one machine, and a check that the relevances agree."""

"""The authorisation service: hashes, verdicts, turns, answers, and its conversation with the control plane."""

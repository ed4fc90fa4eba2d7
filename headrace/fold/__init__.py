"""The fold: a stream's log in, predictions and outcomes out. Pure, so that live, replay and audit are one code path."""

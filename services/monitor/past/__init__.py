"""The monitor's looks at the past: an alarm explained, a budget checked, from the topics and on demand."""

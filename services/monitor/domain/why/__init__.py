"""Why an alarm: what moved around it, what that did to the quality of answers, and what to do. Pure."""

"""The same fold over the past: rebuild and check models, explain a prediction, try what was not deployed."""

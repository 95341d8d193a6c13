"""From feature vectors to predictions, and what the predictions are worth."""

class ConfigError(ValueError):
    """What the user asked for cannot be done; the message is one sentence with the key, the value and the remedy."""


class TrainingError(RuntimeError):
    """Training cannot go on; the message is one sentence that says where it stopped and what to try."""
